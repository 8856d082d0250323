"""From a task to everything its server needs: the model, the terms, the rules, the slot policy."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hocket.core.chance import stream_seed
from hocket.core.manifest import Manifest
from hocket.core.payload import CHUNK_BYTES
from hocket.core.records import Evaluation
from hocket.core.scheduling import Work
from hocket.core.sizing import Distreal, Full, terms_of
from hocket.core.strategy import Exchanging, Memory, Strategy, WithLocal
from hocket.core.terms import EncodingTerms, LocalTerms, TaskTerms, TrainingTerms
from hocket.core.triggering import CoordinatorRules, FixedSlot, SlotPolicy
from hocket.errors import TaskError
from hocket.learn import slot_policy
from hocket.learn.blueprint import Blueprint, graph_of
from hocket.learn.codecs import AnyCodec, TopK, codec_for
from hocket.learn.codecs.packing import packed_bytes_limit
from hocket.learn.data import Examples
from hocket.learn.flat import flatten, manifest_of
from hocket.learn.layout import laid_out, layout_for
from hocket.learn.norms import statistics_of, with_statistics
from hocket.learn.pool import POOL
from hocket.learn.strategies import rule_of
from hocket.learn.submodels.head import Head
from hocket.learn.submodels.layout import ChannelGraph
from hocket.learn.submodels.sliceable import Sliceable
from hocket.learn.training import evaluate
from hocket.task.dropout_table import read_dropout_table
from hocket.task.task import Task

CPU = torch.device("cpu")
WORST_LOSS = sys.float_info.max  # stands for a loss that is no number

Examine = Callable[[Tensor], Evaluation]
"""From a model's flat vector to how it does."""


@dataclass(frozen=True, slots=True)
class Setup:
    """One task, ready to be served."""

    task: Task
    terms: TaskTerms
    rules: CoordinatorRules
    graph: ChannelGraph
    first: Tensor  # the model's first values, float32 of shape (manifest.size,)
    head: Head | None = None  # where the loss is masked: whose rows are moved by whom
    statistics: frozenset[str] = frozenset()  # tensors of batch norm that nobody moves: static norm

    @property
    def strategy(self) -> Strategy[Tensor, Any]:
        """The aggregation rule."""
        return self.task.strategy

    def sliceable(self) -> Sliceable:
        """The model as it travels."""
        return Sliceable.of(
            self.graph,
            exchanges=self.terms.exchanges,
            head=self.head,
            fixed=self.statistics,
        )

    def slots(self) -> SlotPolicy:
        """Who suggests when to pull afresh: a new policy, or the task's fixed slot."""
        refresh = self.terms.refresh
        if not refresh.enabled:
            return FixedSlot()
        if refresh.fixed_slot:
            return FixedSlot(refresh.fixed_slot)
        return LearnedSlots(self.task.seed, self.terms.training.local_epochs)

    def load_examine(
        self,
        examples: Examples | None = None,
        device: torch.device = CPU,
        *,
        training: Examples | None = None,
    ) -> Examine:
        """How to judge models on these examples; the task's held-out ones are read if left out.

        The passes run on `device`; the models that are judged may be anywhere. With static norm
        each is judged with statistics of `training`, and is left without; the task's training
        examples are read if these are left out.

        Raises DataError, or ModelError if they do not fit.
        """
        module = self.task.build_model()
        read = self.task.test_examples() if examples is None else examples
        self.task.check_fit(module, read)
        held_out = laid_out(read, layout_for(module, read.input_shape)).to(device)
        module.to(device)
        manifest, collected_from = self.terms.manifest, None
        if self.statistics:
            some = self.task.statistics_examples() if training is None else training
            self.task.check_fit(module, some)
            collected_from = laid_out(some, layout_for(module, some.input_shape)).to(device)

        def examine(model: Tensor) -> Evaluation:
            judged = model
            if collected_from is not None:
                judged = with_statistics(module, model, collected_from.inputs, manifest)
            loss, accuracy = evaluate(
                module, judged, held_out.inputs, held_out.labels, manifest=manifest
            )
            return Evaluation(loss if isfinite(loss) else WORST_LOSS, accuracy)

        return examine


class LearnedSlots:
    """The LSTM policy of FedASMU 1.5, as the rules ask for it."""

    def __init__(self, seed: int, epochs: int) -> None:
        self._policy = slot_policy.SlotPolicy(stream_seed(seed, "slot-policy"))
        self._epochs = epochs

    def propose(self, seed: int) -> int:
        """A slot in 1..epochs-1, drawn from `seed`."""
        return self._policy.propose(torch.Generator().manual_seed(seed), self._epochs)

    def reinforce(self, slot: int, reward: float) -> None:
        """One REINFORCE step."""
        self._policy.reinforce(slot, self._epochs, reward)

    def keep(self) -> Memory[Tensor]:
        """A copy of its weights and baseline."""
        return self._policy.keep()

    def recall(self, kept: Memory[Tensor]) -> None:
        """Take them back. Raises CorruptState."""
        self._policy.recall(kept)


def set_up(task: Task) -> Setup:
    """Build the model and lay down the rules. Raises TaskError, of which ModelError is one."""
    module = task.build_model()
    manifest = manifest_of(module)
    graph = graph_of(module)
    terms = _terms(task, graph)
    blueprint = Blueprint.of(module, terms)  # what no device could train is not begun
    rules = CoordinatorRules(
        pace=task.pace,
        selection=task.selection,
        work=Work(
            local_epochs=task.training.local_epochs,
            batch_size=task.training.batch_size,
            up_bytes=typical_bytes(task.codec, terms.travelling),
            down_bytes=terms.down_bytes,
        ),
        stop=task.stop,
        staleness_limit=task.limits.staleness,
        train_timeout_s=task.limits.train_timeout_s,
        evaluate_every=task.evaluation.every_versions,
        seed=task.seed,
    )
    static = task.training.norm == "static"
    statistics = statistics_of(module, manifest) if static else frozenset[str]()
    values = flatten(module)
    first = POOL.take(len(values)).copy_(values)  # as every version after it
    return Setup(task, terms, rules, graph, first, blueprint.head, statistics)


def typical_bytes(codec: AnyCodec, manifest: Manifest) -> int:
    """About how long an update's body is before zstd, for estimates of transfer times."""
    if isinstance(codec, TopK):
        return max(1, round(codec.ratio * manifest.dense_bytes * 1.5))  # values and index deltas
    return sum(codec_for(codec.id).encoded_bytes_limit(t.size) for t in manifest.tensors)


def _terms(task: Task, graph: ChannelGraph) -> TaskTerms:
    training, codec, manifest = task.training, task.codec, graph.manifest
    local = task.strategy.local if isinstance(task.strategy, WithLocal) else LocalTerms()
    rule = rule_of(local)
    whole_only = rule is not None and rule.whole_only
    exchanges = isinstance(task.strategy, Exchanging)
    if (whole_only or exchanges) and not isinstance(task.submodel, Full | Distreal):
        raise TaskError(
            f"submodel.kind is {task.submodel.kind!r}, but strategy.kind is "
            f"{task.strategy.kind!r}, whose devices work on whole models: take submodel = 'full', "
            "or another strategy"
        )
    sent = manifest.doubled if exchanges else manifest
    longest = max(
        sum(codec_for(known).encoded_bytes_limit(t.size) for t in sent.tensors)
        for known in type(codec.id)
    )
    return TaskTerms(
        name=task.name,
        manifest=manifest,
        training=TrainingTerms(
            local_epochs=training.local_epochs,
            batch_size=training.batch_size,
            learning_rate=training.learning_rate,
            momentum=training.momentum,
            weight_decay=training.weight_decay,
            gradient_clip_norm=training.gradient_clip_norm or 0.0,
            rescale=training.rescale,
            static_norm=training.norm == "static",
            masked_loss=training.masked_loss,
            local=local,
        ),
        encoding=EncodingTerms(
            codec.id,
            codec.ratio if isinstance(codec, TopK) else 1.0,
            # A dropped update leaves no trace in what is exchanged, so no later one may carry it.
            task.error_feedback and not exchanges,
        ),
        refresh=task.refresh_terms,
        dropout_rows=() if whole_only else _dropout_rows(task, graph),
        seed=task.seed,
        max_update_bytes=packed_bytes_limit(longest),
        chunk_bytes=CHUNK_BYTES,
        staleness_limit=task.limits.staleness,
        exchanges=exchanges,
        sizing=terms_of(task.submodel),
    )


def _dropout_rows(task: Task, graph: ChannelGraph) -> tuple[tuple[float, ...], ...]:
    """What devices choose from before each mini-batch; nothing where no part can be left out.

    Raises TaskError for a table or a vector that is not made for the model.
    """
    rule, groups = task.submodel, [group.name for group in graph.groups]
    if not isinstance(rule, Distreal):
        return ()
    if rule.table is None:
        for number, rate in enumerate(rule.rates):
            if isinstance(rate, tuple):
                _check_vector(f"rates[{number}]", rate, graph)
        return rule.rows if groups else ()
    path, file = Path(rule.table), task.origin.path
    table = read_dropout_table(path if file is None else file.parent / path)
    if not groups:
        raise _useless("table", graph)
    table.check(graph.manifest, groups)
    return table.rows


def _check_vector(key: str, vector: Sequence[float], graph: ChannelGraph) -> None:
    groups = [group.name for group in graph.groups]
    if not groups:
        raise _useless(key, graph)
    if len(vector) not in {1, len(groups)}:
        raise TaskError(
            f"submodel.{key} has {len(vector)} shares, and the groups of channels that this model "
            f"drops together are {len(groups)}: {', '.join(groups)}; give one share for each, in "
            "this order"
        )


def _useless(key: str, graph: ChannelGraph) -> TaskError:
    """A choice that nobody could make."""
    why = graph.nothing()
    return TaskError(f"submodel.{key} is given, but {why.message}", **why.details)
