"""What is known about a model's channels while its forward pass is followed node by node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from torch import nn
from torch.fx import Node

from hocket.core.manifest import Manifest
from hocket.errors import ModelError
from hocket.learn.submodels.layout import Axis, ChannelGraph, Group, Segment


@dataclass(frozen=True, slots=True)
class Layout:
    """The channel axis of a value, axis 1 of (batch, channels, ...).

    No segments: nothing is known about the value's axes, and nothing that made it can be dropped.
    """

    segments: Axis = ()
    spatial: int = 0  # axes behind the channels
    flattens: int = 0  # flattened values in it whose block length the next weight will tell


OPAQUE = Layout()


@dataclass(slots=True)
class _Channels:
    """Channels that some layer makes; `parent` leads to the group that it was joined with."""

    name: str
    size: int
    parent: int
    producers: list[str]
    fixed: bool = False


@dataclass(slots=True)
class Trace:
    """Groups found so far (a union-find over `_Channels`) and the axes they appear on."""

    manifest: Manifest
    names: dict[int, str]  # id of a tensor to its name, the first one if it is tied
    droppable_linear: bool
    found: list[_Channels] = field(default_factory=list)
    axes: dict[str, tuple[Axis, ...]] = field(default_factory=dict)
    rigid: set[str] = field(default_factory=set)  # tensors used in ways no rule covers
    whole: list[tuple[Node, Layout, str]] = field(default_factory=list)  # must not be dropped

    def new_group(self, name: str, size: int) -> int:
        """Open a group of `size` channels made by layer `name`."""
        self.found.append(_Channels(name, size, len(self.found), []))
        return len(self.found) - 1

    def root(self, group: int) -> int:
        """The group that `group` has become part of."""
        while self.found[group].parent != group:
            group = self.found[group].parent
        return group

    def fix(self, axis: Axis) -> None:
        """Never drop the channels of this axis."""
        for segment in axis:
            if segment.group is not None:
                self.found[self.root(segment.group)].fixed = True

    def droppable(self, axis: Axis) -> bool:
        """Whether some channel of this axis may still be dropped."""
        return any(
            segment.group is not None and not self.found[self.root(segment.group)].fixed
            for segment in axis
        )

    def join(self, node: Node, first: Axis, second: Axis) -> None:
        """Drop two axes together, or not at all where their runs do not match."""
        if not self.droppable(first + second):
            return
        if _length(first) != _length(second):
            msg = f"{_length(first)} channels meet {_length(second)}"
            raise unsupported(node, msg)
        if [(s.channels, s.block) for s in first] != [(s.channels, s.block) for s in second]:
            self.fix(first)
            self.fix(second)
            return
        for one, other in zip(first, second, strict=True):
            if one.group is None or other.group is None:
                self.fix((one, other))
                continue
            a, b = sorted((self.root(one.group), self.root(other.group)))
            self.found[b].parent = a
            self.found[a].fixed |= self.found[b].fixed

    def resolve(self, node: Node, layout: Layout, width: int) -> Axis:
        """The axis as a weight of `width` columns sees it, with the blocks of a flatten known."""
        if not self.droppable(layout.segments):
            return (Segment(width),)
        total = _length(layout.segments)
        block, rest = divmod(width, total)
        if rest or (block != 1 and layout.flattens != 1):
            msg = f"its weight takes {width} columns but {total} channels arrive"
            raise unsupported(node, msg)
        return tuple(replace(s, block=s.block * block) for s in layout.segments)

    def register(self, node: Node, module: nn.Module, tensor: str, *axes: Axis) -> None:
        """Note the leading axes of one of a module's tensors, if the manifest has it."""
        value = getattr(module, tensor, None)
        name = self.names.get(id(value))
        if name is None:
            return
        known = self.axes.setdefault(name, axes)
        for one, other in zip(known, axes, strict=True):
            if one is not other:
                self.join(node, one, other)

    def produced(self, group: int | None, module: nn.Module) -> None:
        """Note that a module's weight and bias make the channels of `group`."""
        if group is None:
            return
        for tensor in (module.weight, module.bias):
            name = self.names.get(id(tensor))
            if name is not None and name not in self.found[group].producers:
                self.found[group].producers.append(name)

    def graph(self) -> ChannelGraph:
        """What was found, with the groups that stay droppable numbered in forward order.

        Raises:
            ModelError: a layer that needs all of its channels may receive fewer.
        """
        for name in self.rigid & self.axes.keys():
            for axis in self.axes[name]:
                self.fix(axis)
        for node, layout, why in self.whole:
            if self.droppable(layout.segments):
                raise unsupported(node, why)
        roots = [i for i, g in enumerate(self.found) if g.parent == i and not g.fixed]
        number = {root: index for index, root in enumerate(roots)}
        axes = {
            name: tuple(tuple(self._numbered(s, number) for s in axis) for axis in axes)
            for name, axes in self.axes.items()
        }
        touched = {
            name: axes
            for name, axes in axes.items()
            if any(segment.group is not None for axis in axes for segment in axis)
        }
        return ChannelGraph(self.manifest, tuple(self._group(root) for root in roots), touched)

    def _group(self, root: int) -> Group:
        members = [g for i, g in enumerate(self.found) if self.root(i) == root]
        producers = dict.fromkeys(name for member in members for name in member.producers)
        return Group(self.found[root].name, self.found[root].size, tuple(producers))

    def _numbered(self, segment: Segment, number: dict[int, int]) -> Segment:
        group = None if segment.group is None else number.get(self.root(segment.group))
        return replace(segment, group=group)


def unsupported(node: Node, why: str) -> ModelError:
    """The error for a node that no rule covers, naming it."""
    msg = (
        f"cannot tell which channels node '{node.name}' ({node.op} {node.target}) needs: {why}. "
        "Train this model at full width, or rewrite the node with supported layers"
    )
    return ModelError(msg, node=node.name)


def _length(segments: Sequence[Segment]) -> int:
    return sum(segment.channels * segment.block for segment in segments)
