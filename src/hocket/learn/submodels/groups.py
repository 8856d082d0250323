"""Which channels exist or are dropped together: groups that join, and groups of equal tiles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from hocket.learn.submodels.layout import Axis, Group, Segment


@dataclass(slots=True)
class _Channels:
    """Channels that some layer makes; `parent` leads to the group that it was joined with.

    `tile` is a group of which these channels are several repeats, such as the heads of attention:
    all repeats keep the same channels.
    """

    name: str
    size: int
    order: int  # of the layer in the forward pass
    parent: int
    filters: bool = True  # droppable by themselves; other units only together with such
    producers: list[str] = field(default_factory=list)
    fixed: bool = False
    tile: int | None = None


@dataclass(slots=True)
class Groups:
    """The groups found so far: a union-find over channels, which may be cut into tiles."""

    found: list[_Channels] = field(default_factory=list)

    def new(self, name: str, size: int, *, filters: bool = True) -> int:
        """Open a group of `size` channels made by layer `name`."""
        order = len(self.found)
        self.found.append(_Channels(name, size, order, order, filters))
        return order

    def produced(self, group: int, tensor: str) -> None:
        """Note that a tensor makes the channels of `group`."""
        if tensor not in self.found[group].producers:
            self.found[group].producers.append(tensor)

    def expanded(self, axis: Axis) -> Axis:
        """The axis by groups as they stand now: joined ones by one name, tiled ones by tiles."""
        out: list[Segment] = []
        for segment in axis:
            if segment.group is None:
                out.append(segment)
                continue
            root = self._root(segment.group)
            tile = self.found[root].tile
            if tile is None:
                out.append(replace(segment, group=root))
            else:
                size = self.found[tile].size
                part = self.expanded((replace(segment, channels=size, group=tile),))
                out.extend(part * (segment.channels // size))
        return tuple(out)

    def fix(self, axis: Axis) -> None:
        """Never drop the channels of this axis."""
        for segment in self.expanded(axis):
            if segment.group is not None:
                self.found[segment.group].fixed = True

    def loose(self) -> dict[int, str]:
        """All channels that may still be dropped, by number, with the layer that makes them."""
        return {
            index: channels.name
            for index, channels in enumerate(self.found)
            if not self.found[self._leaf(index)].fixed
        }

    def droppable(self, axis: Axis) -> bool:
        """Whether some channel of this axis may still be dropped."""
        return any(map(self._loose, self.expanded(axis)))

    def join(self, first: Axis, second: Axis) -> None:
        """Drop two axes of one length together, or not at all where their runs do not match."""
        one, other = self._aligned(first, second)
        if [(s.channels, s.block) for s in one] != [(s.channels, s.block) for s in other]:
            self.fix(first)
            self.fix(second)
            return
        for a, b in zip(one, other, strict=True):
            if a.group is None or b.group is None:
                self.fix((a, b))
            else:
                self._union(a.group, b.group)

    def tiled(self, axis: Axis, size: int) -> Axis:
        """Have all runs of `size` channels of an axis keep the same ones; returns one run.

        Where that cannot be, none of the axis is dropped.
        """
        segments = self.expanded(axis)
        if size == axis_width(segments):
            return segments
        tile = math.gcd(size, *(s.channels for s in segments))
        if tile == 1 or any(s.block != 1 or not self._loose(s) for s in segments):
            self.fix(segments)
            return (Segment(size),)
        first, *others = [self._cut(s.group, tile) for s in segments if s.group is not None]
        for other in others:
            self._union(first, other)
        return self.expanded((Segment(tile, first),)) * (size // tile)

    def droppables(self) -> tuple[list[Group], dict[int, int]]:
        """The groups that may be dropped, in forward order, and their numbers by root."""
        leaves = self._members()
        roots = [i for i in leaves if not self.found[i].fixed]
        roots.sort(key=lambda i: self.found[i].order)
        groups = [self._group(root, leaves[root]) for root in roots]
        return groups, {root: number for number, root in enumerate(roots)}

    def beside_filters(self) -> frozenset[str]:
        """Tensors of units that are dropped together with filters, such as weights of channels."""
        mixed = (
            members
            for root, members in self._members().items()
            if not self.found[root].fixed and any(m.filters for m in members if m.producers)
        )
        units = (m for members in mixed for m in members if not m.filters)
        return frozenset(name for unit in units for name in unit.producers)

    def _members(self) -> dict[int, list[_Channels]]:
        """All channels that have become one group, by its root."""
        leaves: dict[int, list[_Channels]] = {}
        for index, channels in enumerate(self.found):
            leaves.setdefault(self._leaf(index), []).append(channels)
        return leaves

    def _group(self, root: int, members: list[_Channels]) -> Group:
        members.sort(key=lambda member: member.order)
        producers = dict.fromkeys(name for member in members for name in member.producers)
        return Group(self.found[root].name, self.found[root].size, tuple(producers))

    def _loose(self, segment: Segment) -> bool:
        return segment.group is not None and not self.found[self._root(segment.group)].fixed

    def _root(self, group: int) -> int:
        while self.found[group].parent != group:
            group = self.found[group].parent
        return group

    def _leaf(self, group: int) -> int:
        root = self._root(group)
        tile = self.found[root].tile
        return root if tile is None else self._leaf(tile)

    def _union(self, one: int, other: int) -> None:
        """Join two groups of one size, neither of which is tiled."""
        roots = {self._root(one), self._root(other)}
        a, *rest = sorted(roots, key=lambda i: self.found[i].order)
        for b in rest:
            self.found[b].parent = a
            self.found[a].fixed |= self.found[b].fixed

    def _cut(self, group: int, size: int) -> int:
        """Make a group that is not tiled consist of repeats of one of `size` channels."""
        root = self._root(group)
        whole = self.found[root]
        if whole.tile is not None:  # cut a moment ago, as another segment of the same axis
            return self._root(whole.tile)
        if whole.size == size:
            return root
        tile = len(self.found)
        self.found.append(_Channels(whole.name, size, whole.order, tile, fixed=whole.fixed))
        whole.tile = tile
        return tile

    def _aligned(self, first: Axis, second: Axis) -> tuple[Axis, Axis]:
        """Two axes, each of repeats of one group, in tiles of one size; others as they are."""
        one, other = self.expanded(first), self.expanded(second)
        if _uniform(one) and _uniform(other) and one[0].block == other[0].block:
            size = math.gcd(one[0].channels, other[0].channels)
            for segment in (one[0], other[0]):
                if size > 1 and segment.group is not None:
                    self._cut(segment.group, size)
        return self.expanded(one), self.expanded(other)


def axis_width(segments: Sequence[Segment]) -> int:
    """Entries of a whole axis."""
    return sum(segment.channels * segment.block for segment in segments)


def _uniform(axis: Axis) -> bool:
    return len(set(axis)) == 1 and axis[0].group is not None
