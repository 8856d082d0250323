"""Local training on this device: pulls in, a delta out, at the width and speed it can afford.

Plain and blocking: the agent runs every method in one and the same worker thread.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from hocket.core.capability import CostLine
from hocket.core.chance import stream_seed
from hocket.core.payload import CodecId, Payload
from hocket.core.submodel import FULL, ChannelRule, SubmodelSpec
from hocket.core.terms import EncodingTerms, TaskTerms, TrainingTerms
from hocket.errors import ModelError
from hocket.learn.codecs import Codec, TopK, codec_for
from hocket.learn.codecs.feedback import ErrorFeedback
from hocket.learn.codecs.payload import decode_payload
from hocket.learn.data import Examples
from hocket.learn.flat import flatten, manifest_of
from hocket.learn.submodels.cost import forward_cost
from hocket.learn.submodels.dropout import DropoutTable, dropout_table
from hocket.learn.submodels.graph import channel_graph
from hocket.learn.submodels.layout import ChannelGraph, undroppable
from hocket.learn.submodels.plan import IndexPlan, plan_of
from hocket.learn.training import LocalTrainer, MergeReport, TrainingRules
from hocket_device.learner import EpochResult, Interrupted
from hocket_device.outbox import Parcel
from hocket_device.pace import Pace
from hocket_device.probe import Probe, probe_batch_sizes
from hocket_device.residual import load_residual, save_residual

# A probe repeats one mini-batch over and over: the same arithmetic as in training, going nowhere.
PROBE_RATE = 1e-9


class Trainer:
    """One device's model in training, and what its lossy updates left out so far.

    Args:
        model: gives the forward pass and, for the probe, some weights.
        examples: what the device learns from.
        terms: the task, as the aggregator tells it.
        pace: how fast.
        keep: share of channels of the submodel that the device trains; 1 is the full model.
        name: the device's, for its random draws.

    Raises:
        ModelError: the model is not the aggregator's, or cannot be sliced though `keep` is below 1.
        InvalidRequest: a dropout row does not fit the model.
    """

    def __init__(
        self,
        model: nn.Module,
        examples: Examples,
        terms: TaskTerms,
        pace: Pace,
        *,
        keep: float = 1.0,
        name: str = "",
    ) -> None:
        _check_manifest(model, terms)
        self.spec = FULL if keep >= 1.0 else SubmodelSpec((keep,), ChannelRule.LEADING)
        self.feedback = ErrorFeedback(enabled=terms.encoding.error_feedback)
        self._model, self._examples, self._terms, self._pace = model, examples, terms, pace
        self._name = name
        self._rules = _rules(terms.training)
        self._codec = _codec(terms.encoding)
        self._graph = _graph(model, required=not self.spec.is_full)
        self._plan = plan_of(self._graph, self.spec)
        self._table = self._dropout_table()
        self._local = self._trainer(self._plan, self._rules)
        self._base: Tensor = torch.empty(0)
        self._training = 0

    @property
    def num_examples(self) -> int:
        """Examples that it learns from."""
        return len(self._examples)

    def start(self, payload: Payload, training: int) -> None:
        """Begin training number `training` from a pulled model.

        Raises InvalidUpdate where the payload is not the expected submodel.
        """
        with self._pace.duty.work():
            self._base = decode_payload(payload, self._plan.sliced_manifest)
            self._local.start(self._base)
            self._training = training

    def train_epoch(self, epoch: int) -> EpochResult:
        """One local epoch. Raises NotFinite when it diverges, Interrupted after a stop."""
        chance = self._chance("train", epoch)
        began = self._pace.now()
        losses: list[float] = []
        rows: Counter[float] = Counter()
        examples = 0
        for batch in self._local.epoch_batches(chance):
            row = None if self._table is None else self._table.choose(self._pace.resources.share())
            loss = self._mini_batch(self._local, batch, row.vector if row else None, chance)
            losses.append(loss * len(batch))
            examples += len(batch)
            rows[row.cost if row else 1.0] += 1
        return EpochResult(
            mean_loss=sum(losses) / examples,
            steps=len(losses),
            seconds=self._pace.now() - began,
            rows=dict(sorted(rows.items())),
        )

    def merge(self, payload: Payload, beta: float) -> MergeReport:
        """Mix a fresh model in. Raises InvalidUpdate for a wrong payload, NotFinite."""
        with self._pace.duty.work():
            fresh = decode_payload(payload, self._plan.sliced_manifest)
            return self._local.merge(fresh, beta)

    def encode(self) -> Payload:
        """Trained model minus base, plus what error feedback holds. Raises NotFinite."""
        with self._pace.duty.work():
            delta = self._local.weights() - self._base
            manifest = self._plan.sliced_manifest
            chance = self._chance("encode")
            return self.feedback.compress(delta, manifest, self._codec, chance, self.spec)

    def put_back(self) -> None:
        """The last update was not used: the next one carries it."""
        self.feedback.put_back()

    def forget(self) -> None:
        """What error feedback holds means nothing any more."""
        self.feedback.reset()

    @property
    def residual(self) -> Tensor | None:
        """What error feedback holds, if anything: another object whenever it has changed."""
        return self.feedback.residual

    def save(self, file: Path) -> None:
        """Keep the residual in a file. Raises OSError."""
        save_residual(self.feedback, file)

    def restore(self, residual: Path | None, parcel: Parcel | None) -> None:
        """Take back what an earlier life saved, and the update that it had not settled.

        Raises DataError for a damaged file.
        """
        if residual is not None:
            load_residual(self.feedback, residual)
        if parcel is not None:
            spec = parcel.header.spec
            manifest = plan_of(self._graph, spec).sliced_manifest
            self.feedback.resume(parcel.payload, manifest, spec)

    def probe(self, probe: Probe | None = None) -> tuple[CostLine, ...]:
        """Time real training steps at several widths, throttled as in real work."""
        trainers = self._probe_trainers(probe or Probe())
        chance = torch.Generator().manual_seed(0)
        everyone = torch.arange(self.num_examples)

        def step(keep: float, batch_size: int) -> None:
            self._mini_batch(trainers[keep], everyone[:batch_size], None, chance)

        for trainer in trainers.values():  # torch's first steps set things up
            trainer.step(everyone[:1].repeat(2), None, chance)
        sizes = probe_batch_sizes(self._rules.batch_size, self.num_examples)
        return Probe(tuple(trainers)).measure(step, sizes, self._pace.now, self._granted_s)

    def _granted_s(self) -> float:
        return self._pace.resources.granted_s(self._pace.busy_s())

    def _mini_batch(
        self,
        trainer: LocalTrainer,
        batch: Tensor,
        dropout: tuple[float, ...] | None,
        chance: torch.Generator,
    ) -> float:
        """One step and the rest that it costs; both are measured."""
        if self._pace.stop.is_set():
            raise Interrupted
        began_s, busy_s = self._pace.now(), self._pace.busy_s()
        with self._pace.duty.work():
            loss = trainer.step(batch, dropout, chance)
        self._pace.resources.observe(self._pace.busy_s() - busy_s, self._pace.now() - began_s)
        return loss

    def _probe_trainers(self, probe: Probe) -> dict[float, LocalTrainer]:
        widths = probe.widths if self._graph.groups else probe.widths[:1]
        weights = flatten(self._model)
        found = {}
        for keep in widths:
            plan = plan_of(self._graph, SubmodelSpec((keep,)) if keep < 1.0 else FULL)
            found[keep] = self._trainer(plan, replace(self._rules, learning_rate=PROBE_RATE))
            found[keep].start(plan.extract(weights))
        return found

    def _trainer(self, plan: IndexPlan, rules: TrainingRules) -> LocalTrainer:
        examples = self._examples
        return LocalTrainer(self._model, rules, examples.inputs, examples.labels, plan=plan)

    def _dropout_table(self) -> DropoutTable | None:
        graph = self._plan.sliced_graph
        if not self._terms.dropout_rows or not graph.groups:
            return None
        vectors = [
            row * len(graph.groups) if len(row) == 1 else row for row in self._terms.dropout_rows
        ]
        return dropout_table(forward_cost(self._model, graph, self._examples.input_shape), vectors)

    def _chance(self, purpose: str, counter: int = 0) -> torch.Generator:
        seed = stream_seed(self._terms.seed, self._name, purpose, self._training, counter)
        return torch.Generator().manual_seed(seed)


def _check_manifest(model: nn.Module, terms: TaskTerms) -> None:
    mine = manifest_of(model)
    if mine.digest != terms.manifest.digest:
        raise ModelError(
            f"this device's model ({len(mine.tensors)} tensors, {mine.size} values, digest "
            f"{mine.digest}) is not the one of task {terms.name!r} at the aggregator "
            f"({len(terms.manifest.tensors)} tensors, {terms.manifest.size} values, digest "
            f"{terms.manifest.digest}); give both the same task file"
        )


def _graph(model: nn.Module, *, required: bool) -> ChannelGraph:
    """A model that cannot be sliced is trained whole."""
    try:
        return channel_graph(model)
    except ModelError:
        if required:
            raise
        return undroppable(manifest_of(model))


def _rules(terms: TrainingTerms) -> TrainingRules:
    return TrainingRules(
        local_epochs=terms.local_epochs,
        batch_size=terms.batch_size,
        learning_rate=terms.learning_rate,
        momentum=terms.momentum,
        weight_decay=terms.weight_decay,
        gradient_clip_norm=terms.gradient_clip_norm or None,
        rescale=terms.rescale,
    )


def _codec(terms: EncodingTerms) -> Codec:
    return TopK(terms.topk_ratio) if terms.codec is CodecId.TOPK else codec_for(terms.codec)
