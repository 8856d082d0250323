"""What moves, drops, picks or joins axes: transpose, mean, indexing, chunk, concatenation."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Any

from torch.fx import Node

from hocket.learn.submodels.axes import Bare, Layout
from hocket.learn.submodels.groups import axis_width
from hocket.learn.submodels.layout import Axis, Segment
from hocket.learn.submodels.rules.elementwise import elementwise
from hocket.learn.submodels.rules.readers import width_read
from hocket.learn.submodels.rules.rule import argument, unknown
from hocket.learn.submodels.trace import Trace, unsupported

_WHOLE = slice(None)
_CHANNELS = object()  # the size of the axis of channels


def transpose(_trace: Trace, node: Node, values: list[Layout]) -> Layout:
    """`transpose(a, b)` and `swapaxes`."""
    x, one, other = values[0], argument(node, 1, "dim0", 0), argument(node, 2, "dim1", 0)
    if x.before is None and one < 0 and other < 0:
        return _trailing_transpose(x, one, other)
    if x.before is None and min(one, other) < 0:
        raise unsupported(node, "it counts axes from both ends; give both from the same")
    x = x.ranked(max(one, other) + 1)
    rank = len(x.before or ()) + 1 + len(x.behind)
    order = list(range(rank))
    order[one], order[other] = order[other], order[one]
    return x.permuted(order)


def permute(_trace: Trace, node: Node, values: list[Layout]) -> Layout:
    """`permute(dims)`."""
    dims: Any = argument(node, 1, "dims", ()) if len(node.args) < 3 else node.args[1:]
    dims = (dims,) if isinstance(dims, int) else tuple(dims)
    x = values[0].ranked(len(dims))
    if len(x.before or ()) + 1 + len(x.behind) != len(dims):
        raise unsupported(node, "it has another number of axes than what arrives")
    return x.permuted([dim % len(dims) for dim in dims])


def reduced(trace: Trace, node: Node, values: list[Layout]) -> Layout:
    """A mean, sum or maximum over other axes than the channels'; over all spatial ones: pooling."""
    (x,) = values
    dims = argument(node, 1, "dim", None)
    dims = (dims,) if isinstance(dims, int) else tuple(dims or ())
    offsets = {x.offset(dim) for dim in dims}
    if not offsets or 0 in offsets:
        return unknown(trace, node, values, "it makes one number of several channels")
    if x.flattens or x.repeated:
        return unknown(trace, node, values)
    if argument(node, 2, "keepdim", default=False):
        kept = enumerate(x.behind, start=1)
        return replace(x, behind=tuple(1 if at in offsets else n for at, n in kept))
    behind = tuple(n for i, n in enumerate(x.behind, start=1) if i not in offsets)
    if x.before is None:
        lost = any(offset < 0 for offset in offsets)
        return replace(x, behind=behind, tokenwise=x.tokenwise and not lost)
    count = len(x.before)
    before = tuple(n for i, n in enumerate(x.before) if i - count not in offsets)
    return x.around(before, behind)


def unsqueezed(_trace: Trace, node: Node, values: list[Layout]) -> Layout:
    """`unsqueeze(dim)`: one more axis, of one entry."""
    x, dim = values[0], argument(node, 1, "dim", 0)
    if x.bare is not None and dim == 0:
        return Layout(bare=replace(x.bare, shape=(1, *x.bare.shape), added=x.bare.added + 1))
    if x.bare is not None and dim in {-1, len(x.bare.shape)}:
        return Layout(bare=replace(x.bare, shape=(*x.bare.shape, 1)))
    if x.bare is None and x.before is None and dim == 0:
        return x
    if x.bare is not None or x.before is None:
        raise unsupported(node, "it is not known how many axes it has")
    channels = len(x.before)
    at = dim if dim >= 0 else dim + channels + 2 + len(x.behind)
    if at <= channels:
        return x.around((*x.before[:at], 1, *x.before[at:]), x.behind)
    at -= channels + 1
    return x.around(x.before, (*x.behind[:at], 1, *x.behind[at:]))


def squeezed(_trace: Trace, node: Node, values: list[Layout]) -> Layout:
    """`squeeze(dim)` of axes behind the channels that have one entry."""
    x, dims = values[0], argument(node, 1, "dim", None)
    if dims is None:
        raise unsupported(
            node, "it drops the axis of channels too where one is left; use flatten(1)"
        )
    offsets = {x.offset(dim) for dim in (dims if isinstance(dims, tuple | list) else (dims,))}
    if any(at < 1 or x.behind[at - 1] != 1 for at in offsets):
        raise unsupported(node, "it is not certain that each axis has one entry; use flatten(1)")
    behind = tuple(n for at, n in enumerate(x.behind, start=1) if at not in offsets)
    return x.around(x.before, behind)


def picked(_trace: Trace, node: Node, values: list[Layout]) -> Layout:
    """`x[...]`: one of several pieces, or a part of other axes than the channels'."""
    x, index = values[0], node.args[1]
    if x.pieces:
        return replace(x, pieces=False)
    entries = index if isinstance(index, tuple) else (index,)
    if not all(entry is None or isinstance(entry, int | slice) for entry in entries):
        raise unsupported(node, "only numbers and slices can be followed")
    if x.bare is not None:
        return _part_of_bare(node, x.bare, entries)
    if x.before is None:  # of axes before the channels, as any index of a sequence is
        if None in entries:
            raise unsupported(node, "it is not known how many axes it has")
        numbers = any(isinstance(entry, int) for entry in entries)
        return replace(x, tokenwise=x.tokenwise and not numbers)
    sizes = deque((*x.before, _CHANNELS, *x.behind))
    picked: list[Any] = []
    for entry in entries:
        size = 1 if entry is None else sizes.popleft()
        if size is _CHANNELS and entry != _WHOLE:
            raise unsupported(node, "it picks some of the channels")
        if not isinstance(entry, int):
            picked.append(size if entry in (None, _WHOLE) else None)
    picked.extend(sizes)
    at = picked.index(_CHANNELS)
    return x.around(tuple(picked[:at]), tuple(picked[at + 1 :]))


def chunk(trace: Trace, node: Node, values: list[Layout]) -> Layout:
    """`chunk(n, dim)`: along the channels, all pieces keep the same ones."""
    x, count = values[0], argument(node, 1, "chunks", 1)
    if x.offset(argument(node, 2, "dim", 0)) != 0:
        raise unsupported(node, "only channels can be cut into chunks")
    width = axis_width(x.segments)
    if width % count or x.flattens or x.repeated:
        raise unsupported(node, f"{width} channels do not make {count} chunks of equal size")
    return replace(x, segments=trace.tiled(node, x.segments, width // count), pieces=True)


def unbind(_trace: Trace, node: Node, values: list[Layout]) -> Layout:
    """`unbind(dim)` of another axis than the channels'."""
    x, dim = values[0], argument(node, 1, "dim", 0)
    offset = x.offset(dim)
    if x.before is None or offset >= 0:
        raise unsupported(node, "only axes before the channels can be unbound")
    at = len(x.before) + offset
    return replace(x.around(x.before[:at] + x.before[at + 1 :], x.behind), pieces=True)


def concatenated(trace: Trace, node: Node, values: list[Layout]) -> Layout:
    """Channels one behind the other: the next weight's columns are dropped segment by segment.

    Along another axis the parts' channels are dropped together.
    """
    dim, parts, first = argument(node, 1, "dim", 0), argument(node, 0, "tensors", ()), values[0]
    if not isinstance(parts, tuple | list):
        raise unsupported(node, "its parts are not written out as a list")
    model = next((v for v in values if v.segments), first)
    model = model if model.tokenwise else model.ranked(2)
    if model.offset(dim) != 0:
        return _lengthened(elementwise(trace, node, values), dim)
    # A part may stand twice in the list, while `values` holds each node once.
    by_node = dict(zip(node.all_input_nodes, values, strict=True))
    ordered = [(part, by_node[part]) for part in parts if isinstance(part, Node)]
    known = [value for _, value in ordered if value.segments]
    if any(len(v.behind) != len(model.behind) or v.repeated or v.pieces for v in known):
        raise unsupported(node, "its parts differ in their axes")
    segments = _side_by_side(trace, node, model, ordered)
    flattens = sum(value.flattens for value in known)
    if flattens == 1 and len(ordered) > 1:
        flattens = 2  # the next weight would not tell the one part's blocks from the others' ones
    return replace(model, segments=segments, flattens=flattens)


def _side_by_side(
    trace: Trace, node: Node, model: Layout, parts: list[tuple[Node, Layout]]
) -> Axis:
    """All parts' channels; those of a part that is always whole, such as the input, as one run."""
    for _, x in parts:
        if x.bare is not None:
            trace.stiffen(node, x.bare.name)
    whole = {part: width_read(trace, part, model) for part, x in parts if not x.segments}
    missing = [part for part, width in whole.items() if width is None]
    if len(missing) == 1 and sum(part is missing[0] for part, _ in parts) == 1:
        total = width_read(trace, node, model)
        others = sum(whole.get(part) or axis_width(x.segments) for part, x in parts)
        if total is not None and total > others:
            whole[missing.pop()] = total - others
    if missing or (whole and any(x.flattens for _, x in parts)):
        names = ", ".join(f"'{part.name}'" for part in missing or whole)
        why = f"how many channels come from {names} is not known; have a layer of torch read it too"
        raise unsupported(node, why)
    return tuple(
        segment for part, x in parts for segment in (x.segments or (Segment(whole[part] or 0),))
    )


def _lengthened(x: Layout, dim: int) -> Layout:
    """With an axis of unknown length in place of axis `dim`, which is not the channels'."""
    if x.before is None:
        return x
    at = dim if dim >= 0 else dim + len(x.before) + 1 + len(x.behind)
    sizes = [*x.before, None, *x.behind]
    sizes[at] = None
    return x.around(tuple(sizes[: len(x.before)]), tuple(sizes[len(x.before) + 1 :]))


def expanded(_trace: Trace, node: Node, values: list[Layout]) -> Layout:
    """`expand` of a parameter along axes that are no channels, such as a class token."""
    bare, sizes = values[0].bare, node.args[1:]
    if bare is None or len(sizes) != len(bare.shape):
        raise unsupported(node, "only a parameter can be expanded, with a length for each axis")
    shape = tuple(n if asked == -1 else None for asked, n in zip(sizes, bare.shape, strict=True))
    return Layout(bare=replace(bare, shape=shape))


def _trailing_transpose(x: Layout, one: int, other: int) -> Layout:
    """Of axes counted from the end, while it is not known how many there are."""
    depth = max(-one, -other, 1 + len(x.behind))
    front = depth - 1 - len(x.behind)
    order = list(range(depth))
    order[one], order[other] = order[other], order[one]
    moved = replace(x, before=(None,) * front).permuted(order)
    return replace(moved, before=None, tokenwise=x.tokenwise and not moved.behind)


def _paired(entries: Any, sizes: Any) -> list[tuple[Any, int | None]]:
    """Index entries, each with the size of its axis."""
    known = sizes or ()
    return [(e, known[i] if i < len(known) else None) for i, e in enumerate(entries)]


def _part_of_bare(node: Node, bare: Bare, entries: tuple[Any, ...]) -> Layout:
    """A slice of a parameter, such as the first positions of a table."""
    front, entries = _leading_new(entries)
    back = len(_leading_new(entries[::-1])[0])
    own = entries[: len(entries) - back]
    complete = len(own) == len(bare.shape)
    if not all(isinstance(entry, slice) for entry in own) or len(own) > len(bare.shape):
        raise unsupported(node, "only slices of a parameter can be followed")
    if back and not complete:
        raise unsupported(node, "it adds an axis between those of a parameter")
    cut = tuple(n if e == _WHOLE else None for e, n in _paired(own, bare.shape))
    shape = (1,) * len(front) + cut + bare.shape[len(cut) :] + (1,) * back
    return Layout(bare=replace(bare, shape=shape, added=bare.added + len(front)))


def _leading_new(entries: tuple[Any, ...]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Index entries that make new axes at the start, and the others."""
    count = 0
    while count < len(entries) and entries[count] is None:
        count += 1
    return entries[:count], entries[count:]
