"""What is known about a model's channels while its forward pass is followed node by node."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn
from torch.fx import Node

from hocket.core.manifest import Manifest
from hocket.errors import ModelError
from hocket.learn.submodels.axes import OPAQUE, Layout
from hocket.learn.submodels.groups import Groups, axis_width
from hocket.learn.submodels.layout import AT_FULL_WIDTH, Axis, ChannelGraph, Segment, Whole
from hocket.learn.submodels.where import told

_FEW_RUNS = 4


@dataclass(slots=True)
class Trace:
    """The values of the nodes so far, the groups found, and the axes they appear on."""

    module: nn.Module
    manifest: Manifest
    names: dict[int, str]  # id of a tensor to its name, the first one if it is tied
    units: frozenset[str] | None = frozenset()  # weights of droppable linear layers; None: all
    groups: Groups = field(default_factory=Groups)
    values: dict[Node, Layout | None] = field(default_factory=dict)  # None: no tensor
    axes: dict[str, tuple[Axis, ...]] = field(default_factory=dict)
    rigid: dict[str, Node] = field(default_factory=dict)  # who uses a tensor as no rule covers
    wholes: list[Whole] = field(default_factory=list)  # why channels are not droppable after all
    whole: list[tuple[Node, Layout, str]] = field(default_factory=list)  # must not be dropped

    def of(self, node: Node, argument: Any) -> Layout:
        """The layout of a node's argument. A bare tensor that no rule scales stays whole."""
        layout = self.values.get(argument) if isinstance(argument, Node) else None
        if layout is not None and layout.bare is not None:
            self.stiffen(node, layout.bare.name)
            return OPAQUE
        return layout or OPAQUE

    def stiffen(self, node: Node, name: str) -> None:
        """Keep a tensor whole, for a node that uses it as no rule covers."""
        self.rigid.setdefault(name, node)

    def are_units(self, weight: str) -> bool:
        """Whether a linear layer's units are droppable though they are no filters."""
        return self.units is None or weight in self.units

    def fix(self, node: Node, axis: Axis, why: str) -> None:
        """Never drop the channels of this axis: `node` needs them all."""
        if not self.droppable(axis):
            return
        with self._noting(node, why):
            self.groups.fix(axis)

    def tiled(self, node: Node, axis: Axis, size: int) -> Axis:
        """Have all runs of `size` channels keep the same ones, or drop none of them."""
        width = axis_width(axis)
        why = f"{_runs(axis)} cannot be shared out to {width // size} equal parts"
        with self._noting(node, why):
            return self.groups.tiled(axis, size)

    def droppable(self, axis: Axis) -> bool:
        """Whether some channel of this axis may still be dropped."""
        return self.groups.droppable(axis)

    def join(self, node: Node, first: Axis, second: Axis) -> None:
        """Drop two axes together, or not at all where their runs do not match."""
        if not self.droppable(first + second):
            return
        if axis_width(first) != axis_width(second):
            msg = f"{axis_width(first)} channels meet {axis_width(second)}"
            raise unsupported(node, msg)
        one, other = _runs(first), _runs(second)
        if one == other:
            why = "they meet channels that are always whole"
        else:
            why = f"{one} meet {other}, and only runs of one length can be dropped together"
        with self._noting(node, why):
            self.groups.join(first, second)

    def resolve(self, node: Node, layout: Layout, width: int) -> Axis:
        """The axis as a weight of `width` columns sees it, with the blocks of a flatten known."""
        if not self.droppable(layout.segments):
            return (Segment(width),)
        total = axis_width(layout.segments)
        times, rest = divmod(width, total)
        if rest or (times != 1 and layout.flattens != 1 and not layout.repeated):
            msg = f"its weight takes {width} columns but {total} channels arrive"
            if layout.flattens > 1:
                msg += ", some of them flattened and joined to others; give each part its own layer"
            raise unsupported(node, msg)
        if layout.repeated:
            return layout.segments * times
        return tuple(replace(s, block=s.block * times) for s in layout.segments)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of one of the manifest's tensors."""
        return next(tensor.shape for tensor in self.manifest.tensors if tensor.name == name)

    def name_of(self, module: nn.Module, tensor: str) -> str | None:
        """The manifest's name of one of a module's tensors, if it has it."""
        return self.names.get(id(getattr(module, tensor, None)))

    def register(self, node: Node, name: str | None, *axes: Axis) -> None:
        """Note the leading axes of a tensor of the manifest; no name, nothing to note."""
        if name is None:
            return
        known = self.axes.get(name, ())
        for one, other in zip(known, axes, strict=False):
            if one is not other:
                self.join(node, one, other)
        self.axes[name] = known + axes[len(known) :]

    def graph(self) -> ChannelGraph:
        """What was found, with the groups that stay droppable numbered in forward order.

        Raises:
            ModelError: a layer that needs all of its channels may receive fewer.
        """
        for name, node in self.rigid.items():
            for axis in self.axes.get(name, ()):
                self.fix(node, axis, f"it uses tensor '{name}' in a way that has no rule")
        for node, layout, why in self.whole:
            if self.droppable(layout.segments):
                raise unsupported(node, why)
        groups, number = self.groups.droppables()
        axes = {
            name: tuple(self._numbered(axis, number) for axis in axes)
            for name, axes in self.axes.items()
        }
        touched = {
            name: axes
            for name, axes in axes.items()
            if any(segment.group is not None for axis in axes for segment in axis)
        }
        return ChannelGraph(self.manifest, tuple(groups), touched, tuple(self.wholes))

    @contextmanager
    def _noting(self, node: Node, why: str) -> Iterator[None]:
        """Note which layers' channels are droppable no more when the block ends."""
        before = self.groups.loose()
        yield
        after = self.groups.loose()
        lost = list(dict.fromkeys(name for index, name in before.items() if index not in after))
        if lost and node.op != "output":
            layers = ", ".join(f"'{name}'" for name in lost)
            text = f"{told(node)} needs all channels of {layers}, since {why}"
            self.wholes.append(Whole(node.name, text))

    def _numbered(self, axis: Axis, number: dict[int, int]) -> Axis:
        return tuple(
            replace(s, group=None if s.group is None else number.get(s.group))
            for s in self.groups.expanded(axis)
        )


def unsupported(node: Node, why: str) -> ModelError:
    """The error for a node that no rule covers, naming it."""
    msg = f"cannot tell which channels {told(node)} needs: {why}. Rewrite it{AT_FULL_WIDTH}"
    return ModelError(msg, node=node.name)


def _runs(axis: Axis) -> str:
    """An axis in words, such as "8 + 4 channels"."""
    widths = [str(segment.channels * segment.block) for segment in axis]
    few = len(widths) <= _FEW_RUNS
    return f"{' + '.join(widths) if few else f'{len(widths)} runs of'} channels"
