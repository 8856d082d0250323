"""Layers whose weights make new channels: convolutions, linear layers, embeddings."""

from __future__ import annotations

from typing import Any

from torch.fx import Node

from hocket.learn.submodels.axes import OPAQUE, Layout
from hocket.learn.submodels.layout import Axis, Segment
from hocket.learn.submodels.rules.rule import argument
from hocket.learn.submodels.trace import Trace, unsupported


def convolution(trace: Trace, node: Node, module: Any, x: Layout) -> Layout:
    """Filters are the channels of the output; the input axis keeps what arrives."""
    spatial = len(module.kernel_size)
    if trace.droppable(x.segments) and len(x.behind) != spatial:
        raise unsupported(node, "it receives channels that were flattened")
    around = Layout(before=(None,), behind=(None,) * spatial)
    if module.groups == 1:
        columns = trace.resolve(node, x, module.in_channels)
        return _made(trace, node, module, columns, around, filters=True)
    if module.groups == module.in_channels:
        return _depthwise(trace, node, module, x, around)
    return _grouped(trace, node, module, x, around)


def _depthwise(trace: Trace, node: Node, module: Any, x: Layout, around: Layout) -> Layout:
    """Each channel makes a run of its own: what arrives is what leaves."""
    multiplier = module.out_channels // module.in_channels
    arriving = trace.resolve(node, x, module.in_channels)
    out = tuple(Segment(s.channels, s.group, s.block * multiplier) for s in arriving)
    name = trace.name_of(module, "weight")
    if name is None:
        raise unsupported(node, "its weight is computed from other tensors")
    trace.register(node, name, out)
    trace.register(node, trace.name_of(module, "bias"), out)
    # What arrives is scaled up already where outputs are; only the bias is not.
    produced(trace, out, trace.name_of(module, "bias"))
    return Layout(out, around.before, around.behind)


def _grouped(trace: Trace, node: Node, module: Any, x: Layout, around: Layout) -> Layout:
    """All groups of the convolution keep as many channels as each other, on both sides."""
    groups = module.groups
    arriving = trace.resolve(node, x, module.in_channels)
    columns = trace.tiled(node, arriving, module.in_channels // groups)
    out = _made(trace, node, module, columns, around, filters=True)
    trace.tiled(node, out.segments, module.out_channels // groups)
    return out


def linear(trace: Trace, node: Node, module: Any, x: Layout) -> Layout:
    """Units are the channels of the output; behind a flatten each channel is a run of columns.

    Where it works on every position of a sequence it is a convolution of one position, and its
    units are filters; elsewhere they are droppable on request, or if they must go with filters.
    """
    x = _last(trace, node, x)
    columns = trace.resolve(node, x, module.in_features)
    around = Layout(before=x.before, tokenwise=x.tokenwise)
    return _made(trace, node, module, columns, around, filters=x.tokenwise)


def linear_function(trace: Trace, node: Node, _values: list[Layout]) -> Layout:
    """`F.linear` with a parameter of the model, such as an embedding's weight: a linear layer."""
    weight = trace.values.get(argument(node, 1, "weight", None))
    bias = trace.values.get(argument(node, 2, "bias", None))
    x = _last(trace, node, trace.of(node, argument(node, 0, "input", None)))
    if weight is None or weight.bare is None or weight.bare.shape != trace.shape(weight.bare.name):
        raise unsupported(node, "its weight is computed from other tensors")
    units, width = trace.shape(weight.bare.name)
    columns = trace.resolve(node, x, width)
    names = (weight.bare.name, bias.bare.name if bias is not None and bias.bare else None)
    around = Layout(before=x.before, tokenwise=x.tokenwise)
    return _weighted(trace, node, names, units, columns, around, filters=x.tokenwise)


def embedding(trace: Trace, node: Node, module: Any, _x: Layout) -> Layout:
    """The embedding's width is a group of channels; its vocabulary is whole."""
    rows, width = module.weight.shape
    name = trace.name_of(module, "weight")
    if name is None or module.max_norm is not None:
        raise unsupported(node, "its weight is computed from other tensors, or has a max_norm")
    known = trace.axes.get(name)
    out = known[1] if known else (Segment(width, trace.groups.new(_owner(name), width)),)
    trace.register(node, name, (Segment(rows),), out)
    produced(trace, out, name)
    return Layout(out, before=(None, None) if _is_input(node) else None, tokenwise=True)


def _is_input(node: Node) -> bool:
    """Whether what is embedded is the model's input: examples of so many tokens."""
    numbers = argument(node, 0, "input", None)
    while isinstance(numbers, Node) and numbers.target in {"long", "int", "to"}:
        numbers = numbers.args[0]
    return isinstance(numbers, Node) and numbers.op == "placeholder"


def _last(trace: Trace, node: Node, x: Layout) -> Layout:
    """What a linear layer reads: channels on the last axis."""
    if not x.behind:
        return x
    if trace.droppable(x.segments):
        raise unsupported(node, "it receives spatial axes; flatten(1) them first")
    return OPAQUE


def _made(
    trace: Trace, node: Node, module: Any, columns: Axis, around: Layout, *, filters: bool
) -> Layout:
    names = (trace.name_of(module, "weight"), trace.name_of(module, "bias"))
    units = int(module.weight.shape[0])
    return _weighted(trace, node, names, units, columns, around, filters=filters)


def _weighted(
    trace: Trace,
    node: Node,
    names: tuple[str | None, str | None],
    units: int,
    columns: Axis,
    around: Layout,
    *,
    filters: bool,
) -> Layout:
    """A weight of (units, columns, ...) and a bias of (units,), tensors of the model."""
    weight, bias = names
    if weight is None:
        raise unsupported(node, "its weight is computed from other tensors")
    known = trace.axes.get(weight)
    if known is not None:  # used before: the same filters make the same channels
        out: Axis = known[0]
    elif filters or trace.are_units(weight):
        out = (Segment(units, trace.groups.new(_owner(weight), units, filters=filters)),)
    else:
        out = (Segment(units),)
    trace.register(node, weight, out, columns)
    trace.register(node, bias, out)
    produced(trace, out, weight, bias)
    return Layout(out, around.before, around.behind, tokenwise=around.tokenwise)


def _owner(tensor: str) -> str:
    """The layer that a tensor belongs to."""
    return tensor.rpartition(".")[0] or tensor


def produced(trace: Trace, out: Axis, *names: str | None) -> None:
    """Note that tensors make the channels of an axis."""
    for group in {s.group: None for s in out if s.group is not None}:
        for name in names:
            if name is not None:
                trace.groups.produced(group, name)
