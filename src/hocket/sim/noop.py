"""Learners that train nothing, to measure what everything else costs.

Each offers the same update, which the server decodes and applies like any other.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hocket.core.capability import CostLine
from hocket.core.manifest import Manifest
from hocket.core.participant_header import Trained
from hocket.core.sizing.size import Size
from hocket.core.submodel import FULL, SubmodelSpec
from hocket.learn.codecs import Raw
from hocket.learn.codecs.payload import encode_payload
from hocket.learn.training import MergeReport
from hocket.sim.fleet import DevicePlan
from hocket.sim.learner import Parcel

STEP = 1e-6  # how far an update moves each weight at most


class NoopWorkshop:
    """Everybody shares one learner: it has no state (a Workshop, and its Learner)."""

    spec: SubmodelSpec = FULL
    busy_s = 0.0

    def __init__(self, manifest: Manifest, num_examples: int) -> None:
        self.down_bytes = manifest.dense_bytes
        self._num_examples = num_examples
        chance = torch.Generator().manual_seed(1)
        delta = (torch.rand(manifest.size, generator=chance) - 0.5) * (2 * STEP)
        payload = encode_payload(delta, manifest, Raw(), chance, pack=False)
        self._parcel = Parcel(Trained(num_examples, 1, 1.0), payload)

    def num_examples_of(self, plan: DevicePlan) -> int:  # noqa: ARG002 -- the same for all
        """See Workshop."""
        return self._num_examples

    def learner(self, plan: DevicePlan) -> NoopWorkshop:  # noqa: ARG002 -- the same for all
        """See Workshop."""
        return self

    @property
    def num_examples(self) -> int:
        """See Learner."""
        return self._num_examples

    def lines(self, plan: DevicePlan) -> tuple[CostLine, ...]:
        """See Workshop."""
        return plan.costs

    def take(self, size: Size, training: int) -> None:
        """See Learner."""

    def costs(self, epoch: int, share: float, count: int) -> list[float]:  # noqa: ARG002 -- all alike
        """See Learner."""
        return [1.0] * count

    def start(self, base: Tensor, exchanged: Tensor | None) -> None:
        """See Learner."""

    def note(self, epoch: int, share: float) -> None:
        """See Learner."""

    def fisher(self) -> float:
        """See Learner."""
        return 0.0

    def merge(self, fresh: Tensor, beta: float) -> MergeReport:  # noqa: ARG002 -- nothing changes
        """See Learner."""
        return MergeReport(1.0, 1.0, 0.0)

    def finish(self) -> Parcel:
        """See Learner."""
        return self._parcel

    def settled(self, seconds: float) -> None:
        """See Learner."""

    def used(self) -> None:
        """See Learner."""

    def put_back(self) -> None:
        """See Learner."""

    def forget(self) -> None:
        """See Learner."""
