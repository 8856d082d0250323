"""Values without channels, such as masks: whether the last axis has one entry.

Such a value meets all channels of what it multiplies alike, so that they may still be dropped.
"""

from __future__ import annotations

from collections.abc import Callable

from torch.fx import Node

from hocket.learn.submodels.axes import Layout
from hocket.learn.submodels.rules.rule import argument

NarrowRule = Callable[[Node, list[Layout]], bool]


def added(node: Node, _values: list[Layout]) -> bool:
    """`unsqueeze(-1)`."""
    return bool(argument(node, 1, "dim", 0) == -1)


def kept(_node: Node, values: list[Layout]) -> bool:
    """Entry by entry."""
    return all(value.narrow for value in values)


def reduced(node: Node, values: list[Layout]) -> bool:
    """Over the last axis, which stays; or over another one."""
    last = argument(node, 1, "dim", None) == -1
    stays = bool(argument(node, 2, "keepdim", default=False))
    return (last and stays) or (not last and kept(node, values))
