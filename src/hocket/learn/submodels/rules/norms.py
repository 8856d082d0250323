"""Normalisation layers: statistics over the channels that are kept, as in HeteroFL."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch.fx import Node

from hocket.learn.submodels.axes import Layout
from hocket.learn.submodels.layout import Axis, Segment
from hocket.learn.submodels.trace import Trace, unsupported

_TENSORS = ("weight", "bias", "running_mean", "running_var")


def per_channel(trace: Trace, node: Node, module: Any, x: Layout) -> Layout:
    """Batch and instance norm: each channel has its own scale, shift and running statistics."""
    _check_second(trace, node, x)
    axis = trace.resolve(node, x, module.num_features)
    for tensor in _TENSORS:
        trace.register(node, trace.name_of(module, tensor), axis)
    return _through(x, axis)


def group_norm(trace: Trace, node: Node, module: Any, x: Layout) -> Layout:
    """All groups of the norm keep as many channels as each other."""
    _check_second(trace, node, x)
    axis = trace.resolve(node, x, module.num_channels)
    if module.num_groups < module.num_channels:
        trace.tiled(node, axis, module.num_channels // module.num_groups)
    for tensor in ("weight", "bias"):
        trace.register(node, trace.name_of(module, tensor), axis)
    return _through(x, axis)


def layer_norm(trace: Trace, node: Node, module: Any, x: Layout) -> Layout:
    """The channels lie on one of the normalised axes, or before all of them."""
    shape = module.normalized_shape
    at = len(shape) - 1 - len(x.behind)
    if at < 0:
        return x
    axis = trace.resolve(node, x, shape[at])
    axes: tuple[Axis, ...] = (*((Segment(n),) for n in shape[:at]), axis)
    for tensor in ("weight", "bias"):
        trace.register(node, trace.name_of(module, tensor), *axes)
    return _through(x, axis)


def prelu(trace: Trace, node: Node, module: Any, x: Layout) -> Layout:
    """One slope for all channels, or one for each."""
    if module.num_parameters == 1:
        return x
    _check_second(trace, node, x)
    axis = trace.resolve(node, x, module.num_parameters)
    trace.register(node, trace.name_of(module, "weight"), axis)
    return _through(x, axis)


def _check_second(trace: Trace, node: Node, x: Layout) -> None:
    """Refuse channels on another axis than the second, which such a layer works on."""
    elsewhere = x.tokenwise if x.before is None else len(x.before) > 1
    if elsewhere and trace.droppable(x.segments):
        raise unsupported(node, "it works on axis 1; transpose the channels there first")


def _through(x: Layout, axis: Axis) -> Layout:
    """What arrived, with the blocks of a flatten known."""
    if not x.segments:
        return x
    return replace(x, segments=axis, flattens=0, repeated=False)
