"""What a rule is, and what holds where there is none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.fx import Node

from hocket.learn.submodels.axes import OPAQUE, Layout
from hocket.learn.submodels.trace import Trace, unsupported

ModuleRule = Callable[[Trace, Node, Any, Layout], Layout]
"""From the module that a node calls, and what arrives as its first input, to what leaves."""

OperationRule = Callable[[Trace, Node, list[Layout]], Layout]
"""From a function's or method's tensors, each once and in order, to what leaves."""


def unknown(trace: Trace, node: Node, values: list[Layout]) -> Layout:
    """A node without a rule may do anything to values of which nothing can be dropped.

    Raises:
        ModelError: some channel that reaches it may be dropped.
    """
    if any(trace.droppable(value.segments) for value in values):
        raise unsupported(node, "there is no rule for it")
    return OPAQUE


def argument(node: Node, position: int, name: str, default: Any) -> Any:
    """One argument of a node's call, given by position or by name."""
    if len(node.args) > position:
        return node.args[position]
    return node.kwargs.get(name, default)
