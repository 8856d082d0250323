"""Index plans: which entries a submodel holds (HeteroFL, Federated Dropout, FedRolex).

Diao, Ding, Tarokh. HeteroFL. ICLR 2021. The input axis of a layer keeps what the output axes of
the layers before it keep; input channels and classes are always whole.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import xxhash
from torch import Tensor

from hocket.core.manifest import Manifest
from hocket.core.submodel import ChannelRule, SubmodelSpec
from hocket.errors import InvalidRequest
from hocket.learn.flat import check_size, views
from hocket.learn.submodels.layout import Axis, ChannelGraph

Kept = tuple[Tensor | None, ...]
"""For each group the kept channels, int64 and ascending, or None when all are kept."""

AxisIndex = tuple[Tensor | None, ...]
"""For each leading axis of a tensor the kept positions, or None when the axis is whole."""

_LARGEST_SEED = 2**64 - 1


@dataclass(frozen=True)
class IndexPlan:
    """The kept channels of each group of a graph, and what follows for each tensor."""

    graph: ChannelGraph
    kept: Kept

    @property
    def is_full(self) -> bool:
        """Whether nothing is dropped."""
        return all(channels is None for channels in self.kept)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Number of kept channels of each group."""
        pairs = zip(self.kept, self.graph.groups, strict=True)
        return tuple(group.size if kept is None else len(kept) for kept, group in pairs)

    @cached_property
    def sliced_graph(self) -> ChannelGraph:
        """The submodel's own graph, which further plans may slice again."""
        return self.graph if self.is_full else self.graph.sliced(self.sizes)

    @property
    def sliced_manifest(self) -> Manifest:
        """Names and shapes of the submodel's tensors."""
        return self.sliced_graph.manifest

    @cached_property
    def index(self) -> dict[str, AxisIndex]:
        """Kept positions by tensor name; tensors that the plan leaves whole are not listed."""
        found = {
            name: tuple(_positions(axis, self.kept) for axis in axes)
            for name, axes in self.graph.axes.items()
        }
        return {name: at for name, at in found.items() if any(p is not None for p in at)}

    def index_on(self, device: torch.device) -> dict[str, AxisIndex]:
        """`index`, in this device's memory: moved there in one go."""
        if device.type == "cpu" or not self.index:
            return self.index
        positions = [p for axes in self.index.values() for p in axes if p is not None]
        there = torch.cat(positions).to(device)
        moved = iter(torch.split(there, [len(p) for p in positions]))
        return {
            name: tuple(None if p is None else next(moved) for p in axes)
            for name, axes in self.index.items()
        }

    def extract(self, vector: Tensor) -> Tensor:
        """The submodel's values, of shape (sliced_manifest.size,), from the full vector.

        The full plan returns `vector` itself.

        Raises:
            ShapeMismatch: the vector does not fit the graph's manifest.
        """
        check_size(vector, self.graph.manifest.size)
        if self.is_full:
            return vector
        out = vector.new_empty(self.sliced_manifest.size)
        small = views(out, self.sliced_manifest)
        for name, whole in views(vector, self.graph.manifest).items():
            small[name].copy_(gather(whole, self.index.get(name, ())))
        return out

    def scatter(self, slice_vector: Tensor) -> tuple[Tensor, Tensor | None]:
        """Lay a submodel's values out as the full model.

        Returns:
            The full vector with 0 where the submodel holds nothing, and a mask of 1 where it
            does and 0 where not. The full plan returns `slice_vector` itself and None.

        Raises:
            ShapeMismatch: the vector does not fit the submodel's manifest.
        """
        check_size(slice_vector, self.sliced_manifest.size)
        if self.is_full:
            return slice_vector, None
        full = slice_vector.new_zeros(self.graph.manifest.size)
        held = slice_vector.new_zeros(self.graph.manifest.size)
        whole, mask = views(full, self.graph.manifest), views(held, self.graph.manifest)
        for name, values in views(slice_vector, self.sliced_manifest).items():
            at = self.index.get(name, ())
            put(whole[name], at, values)
            put(mask[name], at, torch.ones_like(values))
        return full, held


def plan_of(graph: ChannelGraph, spec: SubmodelSpec) -> IndexPlan:
    """The plan that a spec means for a graph, with k = max(1, ceil(keep * K)) channels a group.

    LEADING keeps channels 0 .. k-1. RANDOM gives each channel the hash xxh3_64 (seed 0) of 24
    bytes, the little-endian uint64 triple (spec seed, group index, channel), and keeps the k
    channels of smallest hash (the lower channel on a tie), in ascending order of channel. ROLLING
    keeps k neighbours from channel (spec seed mod K) on, with 0 behind K - 1 (FedRolex, the
    paper's direction), in ascending order of channel too.

    Raises:
        InvalidRequest: a share outside (0, 1], one share for each group missing, or a seed
            outside 64 bits.
    """
    if not 0 <= spec.seed <= _LARGEST_SEED:
        msg = f"spec.seed is {spec.seed}; choose one from 0 to 2**64 - 1"
        raise InvalidRequest(msg, field="spec.seed")
    shares = _shares(graph, spec.keep)
    kept: list[Tensor | None] = []
    for layer, (share, size) in enumerate(zip(shares, graph.sizes, strict=True)):
        count = max(1, math.ceil(share * size))
        if count == size:
            kept.append(None)
        else:
            kept.append(_channels(spec, layer, size, count))
    return IndexPlan(graph, tuple(kept))


def _channels(spec: SubmodelSpec, layer: int, size: int, count: int) -> Tensor:
    match spec.rule:
        case ChannelRule.LEADING:
            return torch.arange(count)
        case ChannelRule.ROLLING:
            return ((spec.seed % size + torch.arange(count)) % size).sort().values
        case ChannelRule.RANDOM:
            return torch.tensor(_smallest_hashes(spec.seed, layer, size, count))


def _shares(graph: ChannelGraph, keep: Sequence[float]) -> tuple[float, ...]:
    groups = len(graph.groups)
    if len(keep) not in {0, 1, groups}:
        msg = (
            f"spec.keep has {len(keep)} shares; give none, one, or one for each of {groups} groups"
        )
        raise InvalidRequest(msg, field="spec.keep")
    for layer, share in enumerate(keep):
        if not 0.0 < share <= 1.0:
            msg = f"spec.keep[{layer}] is {share}; a share lies above 0 and is at most 1"
            raise InvalidRequest(msg, field="spec.keep")
    if len(keep) == groups:
        return tuple(keep)
    return (keep[0] if keep else 1.0,) * groups


def _smallest_hashes(seed: int, layer: int, size: int, count: int) -> list[int]:
    def rank(channel: int) -> int:
        return xxhash.xxh3_64_intdigest(struct.pack("<QQQ", seed, layer, channel))

    return sorted(sorted(range(size), key=rank)[:count])


def gather(whole: Tensor, index: AxisIndex) -> Tensor:
    """The kept entries of a tensor: a new tensor, or `whole` itself when nothing is dropped."""
    for axis, positions in enumerate(index):
        if positions is not None:
            whole = whole.index_select(axis, positions)
    return whole


def put(whole: Tensor, index: AxisIndex, small: Tensor) -> None:
    """Write `small` to the kept entries of `whole`; the others are not touched."""
    if all(positions is None for positions in index):
        whole.copy_(small)
        return
    grid = [
        torch.arange(length, device=whole.device) if positions is None else positions
        for positions, length in zip(index, whole.shape, strict=False)
    ]
    whole[torch.meshgrid(*grid, indexing="ij")] = small


def _positions(axis: Axis, kept: Kept) -> Tensor | None:
    """Kept positions of an axis, or None when it is whole."""
    pieces, start, whole = [], 0, True
    for segment in axis:
        channels = None if segment.group is None else kept[segment.group]
        if channels is None:
            channels = torch.arange(segment.channels)
        else:
            whole = False
        columns = channels[:, None] * segment.block + torch.arange(segment.block)
        pieces.append(start + columns.reshape(-1))
        start += segment.channels * segment.block
    return None if whole else torch.cat(pieces)
