"""What a rule is, and what holds where there is none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.fx import Node

from hocket.learn.submodels.axes import OPAQUE, Layout
from hocket.learn.submodels.rules.instead import INSTEAD
from hocket.learn.submodels.trace import Trace, unsupported
from hocket.learn.submodels.where import target_name

ModuleRule = Callable[[Trace, Node, Any, Layout], Layout]
"""From the module that a node calls, and what arrives as its first input, to what leaves."""

OperationRule = Callable[[Trace, Node, list[Layout]], Layout]
"""From a function's or method's tensors, each once and in order, to what leaves."""


def unknown(trace: Trace, node: Node, values: list[Layout], why: str = "") -> Layout:
    """A node without a rule may do anything to values of which nothing can be dropped.

    Raises:
        ModelError: some channel that reaches it may be dropped.
    """
    if any(trace.droppable(value.segments) for value in values):
        advice = INSTEAD.get(target_name(node), "")
        raise unsupported(node, f"{why or 'there is no rule for it'}{advice and '; '}{advice}")
    return OPAQUE


def argument(node: Node, position: int, name: str, default: Any) -> Any:
    """One argument of a node's call, given by position or by name."""
    if len(node.args) > position:
        return node.args[position]
    return node.kwargs.get(name, default)
