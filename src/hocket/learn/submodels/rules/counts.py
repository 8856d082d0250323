"""Numbers of a forward pass that count the entries of an axis, such as `x.size(1)`."""

from __future__ import annotations

import operator
from typing import Any

from torch.fx import Node

from hocket.learn.submodels.axes import Layout
from hocket.learn.submodels.rules.rule import argument
from hocket.learn.submodels.trace import Trace


def channels_counted(trace: Trace, number: Any) -> Layout | None:
    """The value whose droppable channels a number counts; None if it counts something else."""
    value, dim = _counted(number)
    layout = None if value is None else trace.values.get(value)
    if layout is None or layout.offset(dim) != 0 or not trace.droppable(layout.segments):
        return None
    return layout


def is_batch(trace: Trace, number: Any) -> bool:
    """Whether a number counts the examples: axis 0 of the input or of a value with channels."""
    value, dim = _counted(number)
    layout = None if value is None else trace.values.get(value)
    if value is None or layout is None or dim != 0:
        return False
    return value.op == "placeholder" or bool(layout.segments and layout.before)


def _counted(number: Any) -> tuple[Node | None, int]:
    """The value of which a number is the length of an axis, and the axis."""
    if not isinstance(number, Node):
        return None, 0
    if number.target == "size":
        value, dim = number.args[0], argument(number, 1, "dim", None)
    elif number.target is operator.getitem and _is_shape(number.args[0]):
        shape: Any = number.args[0]
        value, dim = shape.args[0], number.args[1]
    else:
        return None, 0
    return (value, dim) if isinstance(value, Node) and isinstance(dim, int) else (None, 0)


def _is_shape(node: Any) -> bool:
    if not isinstance(node, Node):
        return False
    if node.op == "call_method":
        return node.target == "size" and argument(node, 1, "dim", None) is None
    return node.target is getattr and node.args[1] == "shape"
