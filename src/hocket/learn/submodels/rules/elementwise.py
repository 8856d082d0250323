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

_ALONG = "it works along the channels; transpose them to axis 1 first"


def same(_trace: Trace, _node: Node, _module: Any, x: Layout) -> Layout:
    """Each entry by itself, or each channel by itself."""
    return x


def pooling(axes: int) -> ModuleRule:
    """Each channel by itself, along the last `axes` axes, which must lie behind the channels."""

    def pooled(_trace: Trace, node: Node, _module: Any, x: Layout) -> Layout:
        if x.segments and len(x.behind) < axes:
            raise unsupported(node, _ALONG)
        return x

    return pooled


def pooling_function(axes: int) -> OperationRule:
    """As `pooling`."""
    rule = pooling(axes)

    def pooled(trace: Trace, node: Node, values: list[Layout]) -> Layout:
        return rule(trace, node, None, values[0])

    return pooled


def upsampled(_trace: Trace, node: Node, _module: Any, x: Layout) -> Layout:
    """Each channel by itself, along all axes but the first two."""
    if x.segments and (not x.behind or len(x.before or (None,)) != 1):
        raise unsupported(node, _ALONG)
    return x


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
            return x
        if x.narrow and mask.narrow:
            return x
    if not a.segments or not b.segments:
        trace.fix(a.segments + b.segments)
        return a if a.segments else b
    if (len(a.behind), a.flattens, a.repeated) != (len(b.behind), b.flattens, b.repeated):
        raise unsupported(node, "its operands differ in their axes")
    for one, other in ((a, b), (b, a)):
        if [segment.channels for segment in one.segments] == [1]:  # one map for all channels
            trace.fix(one.segments)
            return other
    trace.join(node, a.segments, b.segments)
    return _broadcast(a, b)


def _broadcast(a: Layout, b: Layout) -> Layout:
    """Of two values that may differ in how many axes they have before their channels.

    One of which it is not known has no more than the other, such as embedded positions.
    """
    known = [x.before for x in (a, b) if x.before is not None]
    before = max(known, key=len) if known else None
    return replace(a, before=before, tokenwise=a.tokenwise or b.tokenwise)


def _scaled(trace: Trace, node: Node, a: Layout, b: Layout) -> Layout:
    """Channels meet a parameter of the model, such as a scale or embedded positions."""
    x, bare = (a, b.bare) if b.bare is not None else (b, a.bare)
    if bare is None or not x.segments or x.flattens or x.repeated:
        for layout in (a, b):
            if layout.bare is not None:
                trace.rigid.add(layout.bare.name)
            trace.fix(layout.segments)
        return x if x.segments else OPAQUE
    at = len(bare.shape) - 1 - len(x.behind)
    if at < bare.added or bare.shape[at] == 1:
        return x
    if bare.shape[at] != axis_width(x.segments):
        raise unsupported(node, "its operands differ in their channels")
    whole = trace.shape(bare.name)[: at - bare.added]
    trace.register(node, bare.name, *((Segment(n),) for n in whole), x.segments)
    return x
