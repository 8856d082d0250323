"""What gives a value other axes: flatten, view, unflatten, and the heads of attention."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch.fx import Node

from hocket.learn.submodels.axes import OPAQUE, Bare, Layout
from hocket.learn.submodels.groups import axis_width
from hocket.learn.submodels.rules.counts import channels_counted, is_batch
from hocket.learn.submodels.rules.rule import argument
from hocket.learn.submodels.trace import Trace, unsupported

_FIT = (
    "only views that fit every width can be followed: view(batch, -1), view(batch, time, heads, "
    "-1), view(batch, -1, 1, 1), flatten(1), flatten(2), flatten(-2); give -1 for the axis of "
    "channels, and x.size(0) for that of examples"
)


def flatten_module(_trace: Trace, node: Node, module: Any, x: Layout) -> Layout:
    """`nn.Flatten`."""
    if not x.segments:
        return OPAQUE
    return _flattened(node, x, module.start_dim, module.end_dim)


def flatten(_trace: Trace, node: Node, values: list[Layout]) -> Layout:
    """`torch.flatten`."""
    start, end = argument(node, 1, "start_dim", 0), argument(node, 2, "end_dim", -1)
    return _flattened(node, values[0], start, end)


def view(trace: Trace, node: Node, values: list[Layout]) -> Layout:
    """`view` and `reshape`: a flatten, or channels cut into heads, or heads joined again."""
    x, shape = _without_ones(values[0]), _shape(node)
    if x.bare is not None:
        return _viewed_parameter(trace, node, x.bare, shape)
    counting = {
        at: counted for at, n in enumerate(shape) if (counted := channels_counted(trace, n))
    }
    rests = [at for at, n in enumerate(shape) if _is_rest(n)]
    if len(counting) > 1 or (not counting and len(rests) != 1):
        raise unsupported(node, _FIT)
    at = next(iter(counting), rests[0] if rests else 0)
    if at == 1 and (counting or at < len(shape) - 1):
        viewed = _in_place(trace, node, x, shape, known=bool(counting))
    else:
        viewed = _viewed(trace, node, x, (*shape[:at], -1, *shape[at + 1 :]))
    for counted in counting.values():
        if any(one.flattens or one.repeated for one in (viewed, counted)):
            raise unsupported(node, _FIT)
        trace.join(node, viewed.segments, counted.segments)
    return viewed


def _viewed(trace: Trace, node: Node, x: Layout, shape: tuple[Any, ...]) -> Layout:
    """Channels become the last axis, or heads and the last axis."""
    if not shape or not _is_rest(shape[-1]) or any(_is_rest(n) for n in shape[:-1]):
        raise unsupported(node, _FIT)
    if x.behind or x.flattens or x.repeated:
        if len(shape) == 2 and x.behind:
            return _flattened(node, x, 1, -1)
        raise unsupported(node, _FIT)
    if x.before is None:
        cut = _trailing_numbers(shape[:-1])
        if cut:
            return _headed(trace, node, x, shape[: len(shape) - 1 - len(cut)], cut)
        return _merged(x, len(shape) - 1)
    if len(shape) > len(x.before) and not all(map(_is_length, shape[: len(x.before)])):
        raise unsupported(node, "it cuts or joins axes before the channels; " + _FIT)
    if len(shape) - 1 > len(x.before):
        return _headed(trace, node, x, shape[: len(x.before)], shape[len(x.before) : -1])
    return _merged(x, len(shape) - 1)


def _in_place(
    trace: Trace, node: Node, x: Layout, shape: tuple[Any, ...], *, known: bool
) -> Layout:
    """Channels stay on axis 1: view(batch, channels, -1), view(batch, -1, 1, 1).

    `known`: the view says how many channels there are, so what is behind them may be cut anew.
    """
    first, _, *rest = shape
    ones = all(isinstance(n, int) and n == 1 for n in rest)
    added = ones and not x.behind
    batch = is_batch(trace, first) or (_is_rest(first) and known and added)
    one_axis_before = x.before is not None and len(x.before) == 1
    if not one_axis_before or x.flattens or x.repeated or not batch or not (known or added):
        raise unsupported(node, _FIT)
    return x.around(x.before, (1 if added else None,) * len(rest))


def _viewed_parameter(trace: Trace, node: Node, bare: Bare, shape: tuple[Any, ...]) -> Layout:
    """A parameter of one axis, with axes of one entry around that, such as view(1, -1, 1, 1)."""
    rests = [at for at, n in enumerate(shape) if _is_rest(n)]
    ones = all(isinstance(n, int) and n in {1, -1} for n in shape)
    if len(rests) != 1 or not ones or bare.added or bare.shape != trace.shape(bare.name)[:1]:
        raise unsupported(node, "of a parameter only view(1, -1, 1, 1) and such can be followed")
    shape = (*shape[: rests[0]], *bare.shape, *shape[rests[0] + 1 :])
    return Layout(bare=Bare(bare.name, shape, added=rests[0]))


def _without_ones(x: Layout) -> Layout:
    """The same entries, without axes behind the channels if each of those has one entry."""
    if not x.behind or x.flattens or x.repeated or any(n != 1 for n in x.behind):
        return x
    return x.around(x.before, ())


def unflatten(trace: Trace, node: Node, values: list[Layout]) -> Layout:
    """`unflatten(-1, (heads, -1))`: channels cut into heads."""
    x, sizes = values[0], argument(node, 2, "sizes", ())
    dim = argument(node, 1, "dim", -1)
    if (
        x.behind
        or x.flattens
        or x.repeated
        or x.offset(dim) != 0
        or not sizes
        or not _is_rest(sizes[-1])
    ):
        raise unsupported(node, _FIT)
    return _headed(trace, node, x, None, sizes[:-1])


def _flattened(node: Node, x: Layout, start: int, end: int) -> Layout:
    first, last = x.offset(start), x.offset(end)
    if x.before is None and start >= 0:
        if x.behind or last != 0:
            raise unsupported(node, _FIT)
        return _merged(x, start)
    if first == last:
        return x
    if first > 0:
        return x.around(x.before, (*x.behind[: first - 1], None, *x.behind[last:]))
    if first == 0 and last == len(x.behind):
        if _without_ones(x) is not x:
            return _without_ones(x)
        return replace(x.around(x.before, ()), flattens=x.flattens + 1)
    if last == 0 and not x.behind:
        return _merged(x, first if x.before is None else len(x.before) + first)
    raise unsupported(node, _FIT)


def _headed(
    trace: Trace, node: Node, x: Layout, before: Sequence[Any] | None, cut: Sequence[Any]
) -> Layout:
    """The channels cut into so many heads, which keep the same channels each."""
    heads = math.prod(cut) if all(isinstance(n, int) and n > 0 for n in cut) else 0
    if not heads or axis_width(x.segments) % heads:
        raise unsupported(node, _FIT)
    run = trace.tiled(node, x.segments, axis_width(x.segments) // heads)
    known = x.before if x.before is not None or before is None else (None,) * len(before)
    front = None if known is None else (*known, *cut)
    return replace(x, segments=run).around(front, ())


def _merged(x: Layout, kept: int) -> Layout:
    """All axes from number `kept` on as one: the channels as often as the others say."""
    before = None if x.before is None and kept < 0 else (x.before or (None,) * kept)[:kept]
    merged = (None,) if x.before is None else x.before[kept:]
    if not merged:
        return x
    if any(n is None for n in merged):
        return replace(x.around(before, ()), repeated=True)
    return replace(x, segments=x.segments * math.prod(filter(None, merged))).around(before, ())


def _shape(node: Node) -> tuple[Any, ...]:
    """The shape that a view is asked for."""
    shape: Any = node.args[1:] or (node.kwargs.get("shape", ()),)
    if len(shape) == 1 and isinstance(shape[0], tuple | list):
        shape = shape[0]
    return tuple(shape)


def _is_rest(size: Any) -> bool:
    return isinstance(size, int) and size == -1


def _is_length(size: Any) -> bool:
    """Whether a view asks for the length that some axis has, and for nothing made of lengths."""
    if not isinstance(size, Node):
        return True
    return size.target == "size" or size.target is operator.getitem


def _trailing_numbers(shape: Sequence[Any]) -> tuple[Any, ...]:
    """The run of numbers at the end of a shape, whose start the forward pass asks for."""
    count = 0
    while count < len(shape) and isinstance(shape[-1 - count], int):
        count += 1
    return tuple(shape[len(shape) - count :])
