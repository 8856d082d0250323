"""Which axis of which tensor belongs to which group of channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from hocket.core.manifest import Manifest, TensorSpec
from hocket.errors import ModelError


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of an axis: `channels` blocks of `block` neighbouring entries each.

    A block is longer than 1 behind a flatten, where each channel becomes a run of columns.
    """

    channels: int
    group: int | None = None  # index into ChannelGraph.groups; None: never dropped
    block: int = 1


_TOLD = 3  # reasons in one message

Axis = tuple[Segment, ...]
"""An axis from its first entry to its last; more than one segment behind a concatenation."""


@dataclass(frozen=True, slots=True)
class Group:
    """Channels that exist or are dropped together, such as the summands of a residual add."""

    name: str  # the layer that makes these channels first
    size: int  # K, the number of channels
    producers: tuple[str, ...]  # weights and biases whose first axis makes these channels


@dataclass(frozen=True, slots=True)
class Whole:
    """Why no channel of a layer is dropped: a node of the forward pass needs them all."""

    node: str
    why: str  # names the layer, the node and what the node does
    remedy: str = ". Rewrite that part of its forward pass"


AT_FULL_WIDTH = ", or train the model at full width"
"""How a message ends that says why a model cannot be sliced at all."""

_NO_FILTERS = Whole(
    "",
    "it has no layer whose channels could be (filters of a convolution, the width of an embedding, "
    "units of a linear layer that works on each position) but those that make its scores",
    ". Give it such a layer",
)


@dataclass(frozen=True)
class ChannelGraph:
    """The droppable groups of a model, in the order of its forward pass, and where they appear.

    `axes` names the tensors that some group touches, with their leading axes; every axis that is
    not listed is whole. `wholes` says why channels are that might have been dropped.
    """

    manifest: Manifest
    groups: tuple[Group, ...]
    axes: Mapping[str, tuple[Axis, ...]]
    wholes: tuple[Whole, ...] = field(default=(), compare=False)

    def nothing(self) -> ModelError:
        """What to raise where a part of the model is wanted and there are no groups."""
        first, *others = self.wholes or (_NO_FILTERS,)
        why = "; ".join([first.why, *(one.why for one in others[: _TOLD - 1])])
        return ModelError(
            f"no part of this model can be left out: {why}{first.remedy}{AT_FULL_WIDTH} "
            '(submodel = "full" in the task file, keep = 1 on the device)',
            **({"node": first.node} if first.node else {}),
        )

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
        return ChannelGraph(manifest, groups, axes, self.wholes)


def undroppable(manifest: Manifest, refusal: ModelError | None = None) -> ChannelGraph:
    """The graph of a model of which nothing can be dropped, such as one that cannot be traced."""
    if refusal is None:
        why = Whole("", "its forward pass was not followed", "")
    else:
        text = refusal.message.removesuffix(AT_FULL_WIDTH)
        why = Whole(refusal.details.get("node", ""), text, "")
    return ChannelGraph(manifest, (), {}, (why,))


def axis_length(axis: Axis, sizes: Sequence[int]) -> int:
    """Entries of an axis when group g keeps `sizes[g]` channels."""
    return sum(_resized(segment, sizes).channels * segment.block for segment in axis)


def _resized(segment: Segment, sizes: Sequence[int]) -> Segment:
    if segment.group is None:
        return segment
    return replace(segment, channels=sizes[segment.group])
