"""One device's training: a model in, a delta out, at the width and speed that it can afford.

What surrounds the work is given: a device's throttle and watch, or a simulation's ledger.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from hocket.core.chance import stream_seed
from hocket.core.manifest import Manifest
from hocket.core.payload import Payload
from hocket.core.sizing.size import WHOLE, Size
from hocket.core.submodel import FULL, SubmodelSpec
from hocket.learn.blueprint import Blueprint
from hocket.learn.codecs.feedback import ErrorFeedback
from hocket.learn.codecs.payload import decode_payload
from hocket.learn.data import Examples
from hocket.learn.local_memory import Kept, LocalMemory
from hocket.learn.local_rule import LocalFacts, LocalHalf
from hocket.learn.submodels.mini_batch import AllOfIt, BatchParts
from hocket.learn.submodels.step import BatchLoss
from hocket.learn.training import LocalTrainer, MergeReport


class Effort(Protocol):
    """What surrounds work. What its blocks raise goes to whoever asked for the work."""

    def share(self) -> float:
        """r: the share of a processor to be had now, in (0, 1], in the unit of a row's cost."""
        ...

    def memory(self) -> float:
        """Memory to be had now, as a share of what a step on all of the part takes; else inf."""
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
    loss_rms: float = 0.0  # root of the mean square, over the same examples; 0: not measured
    fisher: float = 0.0  # the largest score of its mini-batches (WHALE-FL); 0: not measured


class EpochTally:
    """Adds up the mini-batches of an epoch."""

    def __init__(self) -> None:
        self.steps = 0
        self._examples = 0
        self._loss = self._square = self._fisher = 0.0
        self._rows: Counter[float] = Counter()

    def add(self, examples: int, loss: BatchLoss, cost: float = 1.0) -> None:
        """One mini-batch: its size, its loss, and the relative cost of its dropout vector."""
        self.steps += 1
        self._examples += examples
        self._loss += loss.mean * examples
        self._square += loss.mean_square * examples
        self._fisher = max(self._fisher, loss.fisher)  # in this order NaN does not count
        self._rows[cost] += 1

    def result(self, seconds: float) -> EpochResult:
        """How it went, in so many seconds."""
        return EpochResult(
            mean_loss=self._loss / self._examples,
            steps=self.steps,
            seconds=seconds,
            rows=dict(sorted(self._rows.items())),
            loss_rms=math.sqrt(self._square / self._examples),
            fisher=self._fisher,
        )


class LocalLearner:
    """One device's model in training, and what its lossy updates left out so far.

    Args:
        blueprint: the task's model and rules.
        examples: what the device learns from. Where they are it trains, in the CPU's memory or a
            GPU's, and there its local rule has its vectors; models come and go on the CPU.
        effort: what surrounds the work.
        name: the device's, for its random draws: the same name draws the same.
        feedback: what error feedback holds from earlier; a new one if left out.
        memory: what the task's local rule kept from earlier; a new one if left out.

    Raises InvalidRequest where a dropout row does not fit the model.
    """

    def __init__(
        self,
        blueprint: Blueprint,
        examples: Examples,
        effort: Effort,
        *,
        name: str = "",
        feedback: ErrorFeedback | None = None,
        memory: LocalMemory | None = None,
    ) -> None:
        self.blueprint, self.effort = blueprint, effort
        self.examples = blueprint.laid_out(examples)
        self.size = WHOLE
        enabled = blueprint.terms.encoding.error_feedback
        self.feedback = feedback or ErrorFeedback(enabled=enabled)
        self._name = name
        blueprint.table(WHOLE.spec, self.examples.input_shape)  # fits, or is refused now
        self._trainer: LocalTrainer | None = None
        self._parts: BatchParts = AllOfIt()
        self.memory = memory or LocalMemory()
        self._half: LocalHalf | None = None
        self._base: Tensor = torch.empty(0)
        self._training = 0
        self._steps = 0

    @property
    def num_examples(self) -> int:
        """Examples that it learns from."""
        return len(self.examples)

    @property
    def spec(self) -> SubmodelSpec:
        """The part of the model that it trains."""
        return self.size.spec

    @property
    def classes(self) -> tuple[int, ...]:
        """Labels of its examples, ascending, where the loss is masked to them; else empty."""
        return self.trainer.classes

    @property
    def trainer(self) -> LocalTrainer:
        """The model in training. Raises RuntimeError before the first start."""
        if self._trainer is None:
            raise RuntimeError("asked to train though no model was given")
        return self._trainer

    @property
    def kept(self) -> Kept:
        """What the local rule keeps between trainings: another object whenever it has changed."""
        return self.memory.kept

    def start(self, payload: Payload, training: int, size: Size = WHOLE) -> None:
        """Begin training number `training` from the part of this size of a pulled model.

        Raises:
            InvalidUpdate: the payload is not that part.
            ModelError: the model cannot be sliced, or the task's local rule wants all of it.
        """
        with self.effort.other():
            self._take(size)
            if self.blueprint.terms.exchanges:
                own, both = self._manifest.size, decode_payload(payload, self._manifest.doubled)
                self._begin(both[:own], training, both[own:])
            else:
                self._begin(decode_payload(payload, self._manifest), training)

    def start_from(
        self, base: Tensor, training: int, extra: Tensor | None = None, size: Size = WHOLE
    ) -> None:
        """As `start`, from the part's values, which must not change before `encode`.

        `extra` is what the task's rule exchanges (n, float32), where it does.
        Raises ShapeMismatch, or ModelError as `start`.
        """
        with self.effort.other():
            self._take(size)
            self._begin(base, training, extra)

    def train_epoch(self, epoch: int) -> EpochResult:
        """One local epoch. Raises NotFinite when it diverges."""
        batches, chance = self.batches(epoch)
        began = self.effort.now()
        tally = EpochTally()
        for number, batch in enumerate(batches):
            share, memory = self.effort.share(), self.effort.memory()
            part = self._parts.part(share, epoch, number, memory)
            if part.is_skipped:
                continue
            with self.effort.mini_batch(len(batch), part.cost):
                loss = self.trainer.step(batch, part.dropout, chance, part.plan)
            tally.add(len(batch), loss, part.cost)
        return self.count(tally, self.effort.now() - began)

    def batches(self, epoch: int) -> tuple[list[Tensor], torch.Generator]:
        """An epoch's mini-batches, and the chance of its steps: the same whenever asked."""
        chance = self._chance("train", epoch)
        return self.trainer.epoch_batches(chance), chance

    def is_plain(self, share: float) -> bool:
        """Whether an epoch at this share of a processor is SGD on the whole model, and no more."""
        return (
            self.spec == FULL
            and self._half is None
            and not self.size.widths
            and self.blueprint.fisher is None
            and self.blueprint.head is None
            and self._parts.part(share, 1, 1).is_whole  # the first is the last to be skipped
        )

    def count(self, tally: EpochTally, seconds: float) -> EpochResult:
        """Take an epoch's steps on `trainer` as done, whoever has taken them."""
        self._steps += tally.steps
        return tally.result(seconds)

    def merge(self, payload: Payload, beta: float) -> MergeReport:
        """Mix a fresh model in. Raises InvalidUpdate for a wrong payload, NotFinite."""
        with self.effort.other():
            return self.trainer.merge(decode_payload(payload, self._manifest), beta)

    def merge_with(self, fresh: Tensor, beta: float) -> MergeReport:
        """As `merge`, from the submodel's values. Raises ShapeMismatch or NotFinite."""
        with self.effort.other():
            return self.trainer.merge(fresh, beta)

    def encode(self) -> Payload:
        """Trained model minus base, plus what error feedback holds; behind it what is exchanged.

        Raises NotFinite.
        """
        with self.effort.other():
            weights = self.trainer.weights()
            delta = weights.cpu() - self._base
            manifest, head = self._manifest, self.blueprint.head
            if head is not None:  # weight decay moves all rows
                head.clear_others(delta, self.trainer.classes, manifest)
            kept, extra = ({}, None) if self._half is None else self._half.end(weights, self._steps)
            if extra is not None:
                delta, manifest = torch.cat((delta, extra.cpu())), manifest.doubled
            chance = self._chance("encode")
            codec = self.blueprint.codec
            payload = self.feedback.compress(delta, manifest, codec, chance, self.spec)
            if self.blueprint.local is not None:
                self.memory.end(kept, timed=self.blueprint.local.timed)
            return payload

    def put_back(self) -> None:
        """The last update was not used: the next one carries it, and the local rule forgets it."""
        self.feedback.put_back()
        self.memory.undo()

    def forget(self) -> None:
        """What error feedback holds means nothing any more, nor what an unused update left."""
        self.feedback.reset()
        self.memory.undo()

    def settled(self, seconds: float) -> None:
        """The outcome of the last update came so long after the pull of its base began."""
        self.memory.settled(seconds)

    def _take(self, size: Size) -> None:
        """Be ready for a part of the model; the one before it may be trained again."""
        plan = self.blueprint.plan(size.spec)
        if self._trainer is None or size.spec != self.spec:
            self._trainer = LocalTrainer(
                self.blueprint.module,
                self.blueprint.rules,
                self.examples.inputs,
                self.examples.labels,
                plan=plan,
                fisher=self.blueprint.fisher,
            )
        self.size = size

    @property
    def _manifest(self) -> Manifest:
        return self.trainer.manifest

    def _begin(self, base: Tensor, training: int, extra: Tensor | None = None) -> None:
        there = base.to(self.trainer.device)
        self._half = self._begin_half(there, extra)
        self.trainer.start(there, self._half)
        self._base, self._training, self._steps = base, training, 0
        shape = self.examples.input_shape
        self._parts = self.blueprint.parts(self.size, shape, self._name, training)

    def _begin_half(self, base: Tensor, extra: Tensor | None) -> LocalHalf | None:
        self.memory.begin()
        rule = self.blueprint.local
        if rule is None:
            return None
        facts = LocalFacts(
            self._manifest,
            self.blueprint.rules.learning_rate,
            self.memory.mean_delay_s,
            self.blueprint.features,
        )
        beside = None if extra is None else extra.to(base.device)
        return rule.begin(base, beside, self.memory.kept, facts)

    def _chance(self, purpose: str, counter: int = 0) -> torch.Generator:
        seed = stream_seed(self.blueprint.terms.seed, self._name, purpose, self._training, counter)
        return torch.Generator().manual_seed(seed)
