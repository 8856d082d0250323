"""What the layers that read a value tell about it."""

from __future__ import annotations

from torch import nn
from torch.fx import Node

from hocket.learn.submodels.axes import Layout
from hocket.learn.submodels.trace import Trace


def width_read(trace: Trace, value: Node, like: Layout) -> int | None:
    """Channels of a value whose axes are those of `like`; None if no layer that reads it tells."""
    for user in value.users:
        if user.op != "call_module" or user.args[:1] != (value,):
            continue
        width = _width(trace.module.get_submodule(str(user.target)), like)
        if width:
            return width
    return None


def _width(layer: nn.Module, like: Layout) -> int | None:
    second = len(like.before or (None,)) == 1  # whether channels are on axis 1
    match layer:
        case nn.Conv1d() | nn.Conv2d() | nn.Conv3d():
            return (
                layer.in_channels if second and len(like.behind) == len(layer.kernel_size) else None
            )
        case nn.BatchNorm1d() | nn.BatchNorm2d() | nn.BatchNorm3d():
            return layer.num_features if second else None
        case nn.Linear():
            return None if like.behind else layer.in_features
        case _:
            return None
