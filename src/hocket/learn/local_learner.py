"""One device's training: a model in, a delta out, at the width and speed that it can afford.

What surrounds the work is given: a device's throttle and watch, or a simulation's ledger.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from hocket.core.chance import stream_seed
from hocket.core.payload import Payload
from hocket.learn.blueprint import Blueprint, spec_of
from hocket.learn.codecs.feedback import ErrorFeedback
from hocket.learn.codecs.payload import decode_payload
from hocket.learn.data import Examples
from hocket.learn.training import LocalTrainer, MergeReport


class Effort(Protocol):
    """What surrounds work. What its blocks raise goes to whoever asked for the work."""

    def share(self) -> float:
        """r: the share of a processor to be had now, in (0, 1], in the unit of a row's cost."""
        ...

    def mini_batch(self, examples: int, cost: float, /) -> AbstractContextManager[None]:
        """Around one optimiser step of relative cost M = `cost`, 1 without dropout."""
        ...

    def other(self) -> AbstractContextManager[None]:
        """Around decoding, merging and encoding."""
        ...

    def now(self) -> float:
        """Seconds; only differences mean anything."""
        ...


@dataclass(frozen=True, slots=True)
class EpochResult:
    """How a local epoch went."""

    mean_loss: float  # over its examples, each before the step that used it
    steps: int
    seconds: float  # rests included
    rows: Mapping[float, int]  # mini-batches by the relative cost of their dropout vector


class LocalLearner:
    """One device's model in training, and what its lossy updates left out so far.

    Args:
        blueprint: the task's model and rules.
        examples: what the device learns from.
        effort: what surrounds the work.
        keep: share of channels of the submodel that the device trains; 1 is the full model.
        name: the device's, for its random draws: the same name draws the same.
        feedback: what error feedback holds from earlier; a new one if left out.

    Raises:
        ModelError: the model cannot be sliced though `keep` is below 1.
        InvalidRequest: a dropout row does not fit the model.
    """

    def __init__(
        self,
        blueprint: Blueprint,
        examples: Examples,
        effort: Effort,
        *,
        keep: float = 1.0,
        name: str = "",
        feedback: ErrorFeedback | None = None,
    ) -> None:
        self.blueprint, self.examples, self.effort = blueprint, examples, effort
        self.spec = spec_of(keep)
        enabled = blueprint.terms.encoding.error_feedback
        self.feedback = feedback or ErrorFeedback(enabled=enabled)
        self._name = name
        plan = blueprint.plan(keep)
        self._manifest = plan.sliced_manifest
        self._table = blueprint.table(keep, examples.input_shape)
        self._local = LocalTrainer(
            blueprint.module, blueprint.rules, examples.inputs, examples.labels, plan=plan
        )
        self._base: Tensor = torch.empty(0)
        self._training = 0

    @property
    def num_examples(self) -> int:
        """Examples that it learns from."""
        return len(self.examples)

    def start(self, payload: Payload, training: int) -> None:
        """Begin training number `training` from a pulled model.

        Raises InvalidUpdate where the payload is not the expected submodel.
        """
        with self.effort.other():
            self._begin(decode_payload(payload, self._manifest), training)

    def start_from(self, base: Tensor, training: int) -> None:
        """As `start`, from the submodel's values, which must not change before `encode`.

        Raises ShapeMismatch.
        """
        with self.effort.other():
            self._begin(base, training)

    def train_epoch(self, epoch: int) -> EpochResult:
        """One local epoch. Raises NotFinite when it diverges."""
        chance = self._chance("train", epoch)
        began = self.effort.now()
        losses: list[float] = []
        rows: Counter[float] = Counter()
        examples = 0
        for batch in self._local.epoch_batches(chance):
            row = None if self._table is None else self._table.choose(self.effort.share())
            cost, vector = (1.0, None) if row is None else (row.cost, row.vector)
            with self.effort.mini_batch(len(batch), cost):
                loss = self._local.step(batch, vector, chance)
            losses.append(loss * len(batch))
            examples += len(batch)
            rows[cost] += 1
        return EpochResult(
            mean_loss=sum(losses) / examples,
            steps=len(losses),
            seconds=self.effort.now() - began,
            rows=dict(sorted(rows.items())),
        )

    def merge(self, payload: Payload, beta: float) -> MergeReport:
        """Mix a fresh model in. Raises InvalidUpdate for a wrong payload, NotFinite."""
        with self.effort.other():
            return self._local.merge(decode_payload(payload, self._manifest), beta)

    def merge_with(self, fresh: Tensor, beta: float) -> MergeReport:
        """As `merge`, from the submodel's values. Raises ShapeMismatch or NotFinite."""
        with self.effort.other():
            return self._local.merge(fresh, beta)

    def encode(self) -> Payload:
        """Trained model minus base, plus what error feedback holds. Raises NotFinite."""
        with self.effort.other():
            delta = self._local.weights() - self._base
            chance = self._chance("encode")
            codec = self.blueprint.codec
            return self.feedback.compress(delta, self._manifest, codec, chance, self.spec)

    def put_back(self) -> None:
        """The last update was not used: the next one carries it."""
        self.feedback.put_back()

    def forget(self) -> None:
        """What error feedback holds means nothing any more."""
        self.feedback.reset()

    def _begin(self, base: Tensor, training: int) -> None:
        self._local.start(base)
        self._base, self._training = base, training

    def _chance(self, purpose: str, counter: int = 0) -> torch.Generator:
        seed = stream_seed(self.blueprint.terms.seed, self._name, purpose, self._training, counter)
        return torch.Generator().manual_seed(seed)
