"""Which axis of which tensor belongs to which group of channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from hocket.core.manifest import Manifest, TensorSpec


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of an axis: `channels` blocks of `block` neighbouring entries each.

    A block is longer than 1 behind a flatten, where each channel becomes a run of columns.
    """

    channels: int
    group: int | None = None  # index into ChannelGraph.groups; None: never dropped
    block: int = 1


Axis = tuple[Segment, ...]
"""An axis from its first entry to its last; more than one segment behind a concatenation."""


@dataclass(frozen=True, slots=True)
class Group:
    """Channels that exist or are dropped together, such as the summands of a residual add."""

    name: str  # the layer that makes these channels first
    size: int  # K, the number of channels
    producers: tuple[str, ...]  # weights and biases whose first axis makes these channels


@dataclass(frozen=True)
class ChannelGraph:
    """The droppable groups of a model, in the order of its forward pass, and where they appear.

    `axes` names the tensors that some group touches, with their leading axes; every axis that is
    not listed is whole.
    """

    manifest: Manifest
    groups: tuple[Group, ...]
    axes: Mapping[str, tuple[Axis, ...]]

    @property
    def sizes(self) -> tuple[int, ...]:
        """K of each group."""
        return tuple(group.size for group in self.groups)

    def shape(self, tensor: TensorSpec, sizes: Sequence[int]) -> tuple[int, ...]:
        """Shape of one tensor when group g keeps `sizes[g]` channels."""
        axes = self.axes.get(tensor.name, ())
        return tuple(axis_length(axis, sizes) for axis in axes) + tensor.shape[len(axes) :]

    def sliced(self, sizes: Sequence[int]) -> ChannelGraph:
        """The graph of the submodel in which group g keeps `sizes[g]` channels.

        It is a graph like any other, so a submodel can be sliced again.
        """
        manifest = Manifest(
            tuple(replace(t, shape=self.shape(t, sizes)) for t in self.manifest.tensors)
        )
        groups = tuple(replace(g, size=k) for g, k in zip(self.groups, sizes, strict=True))
        axes = {
            name: tuple(tuple(_resized(segment, sizes) for segment in axis) for axis in axes)
            for name, axes in self.axes.items()
        }
        return ChannelGraph(manifest, groups, axes)


def undroppable(manifest: Manifest) -> ChannelGraph:
    """The graph of a model of which nothing can be dropped, such as one that cannot be traced."""
    return ChannelGraph(manifest, (), {})


def axis_length(axis: Axis, sizes: Sequence[int]) -> int:
    """Entries of an axis when group g keeps `sizes[g]` channels."""
    return sum(_resized(segment, sizes).channels * segment.block for segment in axis)


def _resized(segment: Segment, sizes: Sequence[int]) -> Segment:
    if segment.group is None:
        return segment
    return replace(segment, channels=sizes[segment.group])
