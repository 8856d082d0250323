"""What works on each entry, or on each channel, by itself; and what mixes all channels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch.fx import Node

from hocket.learn.submodels.axes import OPAQUE, Layout
from hocket.learn.submodels.groups import axis_width
from hocket.learn.submodels.layout import Segment
from hocket.learn.submodels.rules.rule import ModuleRule, OperationRule, argument
from hocket.learn.submodels.trace import Trace, unsupported
from hocket.learn.submodels.where import target_name

_ALONG = "it works along the channels; transpose them to axis 1 first"


def same(_trace: Trace, _node: Node, _module: Any, x: Layout) -> Layout:
    """Each entry by itself, or each channel by itself."""
    return x


def pooling(axes: int) -> ModuleRule:
    """Each channel by itself, along the last `axes` axes, which must lie behind the channels."""

    def pooled(_trace: Trace, node: Node, module: Any, x: Layout) -> Layout:
        return _pooled(node, x, axes, getattr(module, "output_size", None))

    return pooled


def pooling_function(axes: int) -> OperationRule:
    """As `pooling`."""

    def pooled(_trace: Trace, node: Node, values: list[Layout]) -> Layout:
        adaptive = target_name(node).startswith("adaptive")
        size = argument(node, 1, "output_size", None) if adaptive else None
        return _pooled(node, values[0], axes, size)

    return pooled


def _pooled(node: Node, x: Layout, axes: int, size: Any) -> Layout:
    if not x.segments:
        return x
    if len(x.behind) < axes:
        raise unsupported(node, _ALONG)
    one = size == 1 or (isinstance(size, tuple | list) and tuple(size) == (1,) * axes)
    return replace(x, behind=x.behind[:-axes] + (1 if one else None,) * axes)


def upsampled(_trace: Trace, node: Node, _module: Any, x: Layout) -> Layout:
    """Each channel by itself, along all axes but the first two."""
    if not x.segments:
        return x
    if not x.behind or len(x.before or (None,)) != 1:
        raise unsupported(node, _ALONG)
    return replace(x, behind=(None,) * len(x.behind))


def interpolated(trace: Trace, node: Node, values: list[Layout]) -> Layout:
    """`F.interpolate`, as `upsampled`."""
    return upsampled(trace, node, None, values[0])


def padded(_trace: Trace, node: Node, values: list[Layout]) -> Layout:
    """`F.pad` along other axes than the channels': each channel by itself."""
    x, widths = values[0], argument(node, 1, "pad", ())
    if not x.segments:
        return x
    if not isinstance(widths, tuple | list) or x.flattens or x.repeated:
        raise unsupported(node, "it does not say in its call which axes it pads")
    depth = len(x.behind)  # axes are counted from the last one
    if tuple(widths[2 * depth : 2 * depth + 2]) not in {(), (0, 0)}:
        raise unsupported(node, "it adds channels; have a convolution make more of them")
    if len(widths) > 2 * depth + 2:
        before = None if x.before is None else (None,) * len(x.before)
        return x.around(before, (None,) * depth)
    return replace(x, behind=(None,) * depth)


def mixing(trace: Trace, node: Node, module: Any, x: Layout) -> Layout:
    """All channels together make each output, so none may be missing."""
    dim = getattr(module, "dim", None)
    return _mixed(trace, node, x, dim)


def mixing_function(trace: Trace, node: Node, values: list[Layout]) -> Layout:
    """As `mixing`; along another axis than the channels' each is by itself."""
    return _mixed(trace, node, values[0], argument(node, 1, "dim", None))


def _mixed(trace: Trace, node: Node, x: Layout, dim: Any) -> Layout:
    if not isinstance(dim, int) or x.offset(dim) == 0 or (dim >= 0 and x.before is None):
        why = "it mixes the statistics of several channels; use batch norm, or do without"
        trace.whole.append((node, x, why))
    return x


def elementwise(trace: Trace, node: Node, values: list[Layout]) -> Layout:
    """The operands' channels must be dropped together."""
    result = values[0]
    for other in values[1:]:
        result = _joined(trace, node, result, other)
    return result


def _joined(trace: Trace, node: Node, a: Layout, b: Layout) -> Layout:
    if a.bare is not None or b.bare is not None:
        return _scaled(trace, node, a, b)
    if a.narrow or b.narrow:
        x, mask = (a, b) if b.narrow else (b, a)
        if x.segments and not (x.behind or x.flattens or x.repeated):
            return x.stretched()
        if x.narrow and mask.narrow:
            return x
    if not a.segments or not b.segments:
        why = "they meet a value that is always whole"
        trace.fix(node, a.segments + b.segments, why)
        return (a if a.segments else b).stretched()
    if (len(a.behind), a.flattens, a.repeated) != (len(b.behind), b.flattens, b.repeated):
        raise unsupported(node, "its operands differ in their axes")
    for one, other in ((a, b), (b, a)):
        if [segment.channels for segment in one.segments] == [1]:  # one map for all channels
            trace.fix(node, one.segments, "it is one for all channels of another")
            return other.stretched()
    trace.join(node, a.segments, b.segments)
    return _broadcast(a, b)


def _broadcast(a: Layout, b: Layout) -> Layout:
    """Of two values that may differ in how many axes they have before their channels.

    One of which it is not known has no more than the other, such as embedded positions.
    """
    known = [x.before for x in (a, b) if x.before is not None]
    before = max(known, key=len) if known else None
    behind = tuple(n if m == 1 else m for m, n in zip(a.behind, b.behind, strict=True))
    return replace(a, before=before, behind=behind, tokenwise=a.tokenwise or b.tokenwise)


def _scaled(trace: Trace, node: Node, a: Layout, b: Layout) -> Layout:
    """Channels meet a parameter of the model, such as a scale or embedded positions."""
    x, bare = (a, b.bare) if b.bare is not None else (b, a.bare)
    if bare is None or not x.segments or x.flattens or x.repeated:
        for layout in (a, b):
            if layout.bare is not None:
                trace.stiffen(node, layout.bare.name)
            trace.fix(node, layout.segments, "they were flattened and meet a parameter")
        return x.stretched() if x.segments else OPAQUE
    at = len(bare.shape) - 1 - len(x.behind)
    x = _at_least(x, len(bare.shape)).stretched()
    if at < bare.added or bare.shape[at] == 1:
        trace.stiffen(node, bare.name)  # none of its axes is that of the channels here
        return x
    if bare.shape[at] != axis_width(x.segments):
        raise unsupported(node, "its operands differ in their channels")
    whole = trace.shape(bare.name)[: at - bare.added]
    trace.register(node, bare.name, *((Segment(n),) for n in whole), x.segments)
    return x


def _at_least(x: Layout, rank: int) -> Layout:
    """With so many axes in all, where it is known that there were fewer."""
    if x.before is None:
        return x
    more = rank - len(x.before) - 1 - len(x.behind)
    return x.around((None,) * more + x.before, x.behind) if more > 0 else x
