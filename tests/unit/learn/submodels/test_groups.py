"""Channels that join, and channels that are tiles of one another."""

from __future__ import annotations

from hocket.learn.submodels.groups import Groups
from hocket.learn.submodels.layout import Axis, Segment


def axis(groups: Groups, *sizes: int) -> Axis:
    return tuple(Segment(size, groups.new(f"layer{size}", size)) for size in sizes)


def sizes(groups: Groups) -> list[tuple[str, int]]:
    return [(group.name, group.size) for group in groups.droppables()[0]]


def test_tiles_are_repeats_of_one_group() -> None:
    groups = Groups()
    whole = axis(groups, 12)
    (run,) = groups.tiled(whole, 3)
    assert groups.expanded(whole) == (run,) * 4
    assert sizes(groups) == [("layer12", 3)]
    assert groups.tiled(whole, 12) == groups.expanded(whole)


def test_finer_tiles_cut_the_coarser_ones() -> None:
    """Heads of 6 and groups of 4 on one axis of 12: runs of 2 suit both."""
    groups = Groups()
    whole = axis(groups, 12)
    assert len(groups.tiled(whole, 6)) == 1
    assert len(groups.tiled(whole, 4)) == 2
    assert [segment.channels for segment in groups.expanded(whole)] == [2] * 6
    assert sizes(groups) == [("layer12", 2)]


def test_tiles_over_a_concatenation_tie_its_parts() -> None:
    groups = Groups()
    both = axis(groups, 4, 8)
    run = groups.tiled(both, 6)
    assert [segment.channels for segment in run] == [2, 2, 2]
    assert sizes(groups) == [("layer4", 2)]


def test_runs_that_cannot_be_alike_are_whole() -> None:
    groups = Groups()
    assert groups.tiled(axis(groups, 5, 7), 6) == (Segment(6),)
    assert sizes(groups) == []
    fixed = axis(groups, 8)
    groups.fix(fixed)
    assert groups.tiled((*fixed, *axis(groups, 8)), 8) == (Segment(8),)
    assert sizes(groups) == []


def test_what_joins_a_tiled_axis_is_tiled_alike() -> None:
    groups = Groups()
    heads, other = axis(groups, 12), axis(groups, 12)
    groups.tiled(heads, 4)
    groups.join(other, heads)
    assert groups.expanded(other) == groups.expanded(heads)
    assert sizes(groups) == [("layer12", 4)]
    groups.fix(other)
    assert not groups.droppable(heads)


def test_runs_that_do_not_match_are_whole_on_both_sides() -> None:
    groups = Groups()
    parts, one = axis(groups, 6, 2), axis(groups, 8)
    groups.join(parts, one)
    assert not groups.droppable(parts)
    assert not groups.droppable(one)
    three, four = axis(groups, 12), axis(groups, 12)
    groups.tiled(three, 3)
    groups.tiled(four, 4)
    groups.join(three, four)
    assert sizes(groups) == []


def test_groups_keep_the_order_of_the_forward_pass() -> None:
    groups = Groups()
    first, second = axis(groups, 6), axis(groups, 5)
    groups.produced(0, "first.weight")
    groups.produced(1, "second.weight")
    groups.tiled(first, 2)  # found later than the second layer
    groups.produced(0, "first.bias")
    (one, other), number = groups.droppables()
    assert (one.name, one.size, one.producers) == ("layer6", 2, ("first.weight", "first.bias"))
    assert (other.name, other.size, other.producers) == ("layer5", 5, ("second.weight",))
    assert [number[s.group] for s in groups.expanded(second) if s.group is not None] == [1]
