"""What every source of examples offers, and how a part of it becomes tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from hocket.core.chance import stream_seed
from hocket.errors import DataError
from hocket.learn.data.examples import Examples, Split
from hocket.learn.data.lookup import Lookup
from hocket.learn.data.normalisation import Normalisation

DEFAULT_TEST_SHARE = 0.2

Choose = Callable[[Tensor], Tensor]
"""From the labels (N,) of all examples to the int64 indices of those wanted."""


@dataclass(frozen=True, slots=True)
class Unread:
    """Labels at hand, inputs still to be read: a device decodes only what is its own."""

    labels: Tensor  # int64 (N,)
    read: Callable[[Tensor], Tensor]  # int64 indices (M,) to float32 inputs, M of them


class Source(Protocol):
    """A frozen dataclass whose fields say where examples are and how to read them."""

    @property
    def kind(self) -> str:
        """Name in task files."""
        ...

    @property
    def normalise(self) -> Normalisation | None:
        """How inputs are shifted and scaled."""
        ...

    @property
    def limit(self) -> int | None:
        """Use at most so many examples of each part, chosen at random."""
        ...

    @property
    def held_out_share(self) -> float | None:
        """Share of the training part that is the test part; None if the test part is given."""
        ...

    def open(self, split: Split, lookup: Lookup) -> Unread:
        """The part as it is stored. Raises DataError."""
        ...


def load(
    source: Source,
    split: Split,
    *,
    seed: int = 0,
    lookup: Lookup | None = None,
    choose: Choose | None = None,
) -> Examples:
    """Read one part of a source; the same seed gives the same part in every process.

    `choose` picks from the part's labels before anything is decoded (a device's share).
    Raises DataError, naming file and column or key, for what is missing or malformed.
    """
    share = source.held_out_share
    stored: Split = split if share is None else "train"
    unread = source.open(stored, lookup or Lookup())
    indices = torch.arange(len(unread.labels))
    if share is not None:
        indices = _part(len(indices), split, share, seed)
    indices = indices[sample(len(indices), source.limit, seed, f"limit-{split}")]
    if choose is not None:
        indices = indices[choose(unread.labels[indices])]
    if len(indices) == 0:
        raise DataError(f"the {source.kind} data has no {split} examples; check [data]")
    inputs = unread.read(indices)
    if source.normalise is not None:
        inputs = source.normalise.apply(inputs, f"{source.kind} data")
    return Examples(inputs, unread.labels[indices])


def sample(count: int, limit: int | None, seed: int, purpose: str) -> Tensor:
    """Ascending int64 indices of at most `limit` out of `count`; all of them without a limit."""
    if limit is None or limit >= count:
        return torch.arange(count)
    return torch.from_numpy(np.sort(_chance(seed, purpose).permutation(count)[:limit]))


def check_share(share: float | None) -> None:
    """Raise DataError unless a test share leaves something on both sides."""
    if share is not None and not 0.0 < share < 1.0:
        raise DataError(f"data.test_share is {share}; it must lie between 0 and 1")


def check_limit(limit: int | None) -> None:
    """Raise DataError unless a limit lets something through."""
    if limit is not None and limit < 1:
        raise DataError(f"data.limit is {limit}; it must be at least 1")


def _part(count: int, split: Split, share: float, seed: int) -> Tensor:
    """Ascending indices of the training or the held-out part."""
    order = _chance(seed, "held-out").permutation(count)
    tests = min(max(1, round(count * share)), count - 1) if count > 1 else 0
    chosen = order[:tests] if split == "test" else order[tests:]
    return torch.from_numpy(np.sort(chosen))


def _chance(seed: int, *names: str) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(stream_seed(seed, "data", *names)))
