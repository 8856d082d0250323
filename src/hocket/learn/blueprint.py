"""What all devices of a task train by: built once in a process, and shared by its learners."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import nn

from hocket.core.payload import CodecId
from hocket.core.submodel import FULL, ChannelRule, SubmodelSpec
from hocket.core.terms import EncodingTerms, TaskTerms, TrainingTerms
from hocket.errors import ModelError
from hocket.learn.codecs import Codec, TopK, codec_for
from hocket.learn.data import Examples
from hocket.learn.features import Features
from hocket.learn.flat import manifest_of
from hocket.learn.layout import laid_out, layout_for
from hocket.learn.local_rule import LocalRule
from hocket.learn.sgd import TrainingRules
from hocket.learn.strategies import rule_of
from hocket.learn.submodels.cost import forward_cost
from hocket.learn.submodels.dropout import DropoutTable, dropout_table
from hocket.learn.submodels.graph import channel_graph
from hocket.learn.submodels.layout import ChannelGraph, undroppable
from hocket.learn.submodels.plan import IndexPlan, plan_of

TableKey = tuple[float, tuple[int, ...]]


@dataclass(frozen=True)
class Blueprint:
    """A task's model, and what its terms mean for training. For one thread at a time.

    `module` gives the forward pass; who trains keeps the weights.
    """

    module: nn.Module
    terms: TaskTerms
    rules: TrainingRules
    codec: Codec
    graph: ChannelGraph
    local: LocalRule | None = None  # None: plain gradient descent
    features: Features | None = None  # where the local rule watches them
    _plans: dict[float, IndexPlan] = field(default_factory=dict, repr=False)
    _tables: dict[TableKey, DropoutTable | None] = field(default_factory=dict, repr=False)
    _layouts: dict[tuple[int, ...], torch.memory_format] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, module: nn.Module, terms: TaskTerms) -> Blueprint:
        """The blueprint of a task.

        Raises ModelError where the model is not the one that the terms are about, or the terms'
        local rule cannot work on it, and TaskError for a local rule that is not known here.
        """
        _check_manifest(module, terms)
        rules, codec = _rules(terms.training), _codec(terms.encoding)
        local = rule_of(terms.training.local)
        features = None
        if local is not None:
            features = Features.of(module) if local.watches else None
            _check_dropout(local, terms)
        return cls(module, terms, rules, codec, _graph(module), local, features)

    def check_width(self, keep: float) -> None:
        """Raise ModelError for a share below 1 if the local rule has a meaning for all or none."""
        if keep < 1.0 and self.local is not None and self.local.whole_only:
            raise ModelError(
                f"this device keeps a share of {keep} of its model's channels, and what task "
                f"{self.terms.name!r} has its devices do ({self.local.kind}) is meant for whole "
                "models; start the device with a share of 1, or take another strategy"
            )

    def plan(self, keep: float) -> IndexPlan:
        """Which entries a device trains that keeps this share of channels; always the same object.

        Raises ModelError for a share below 1 of a model that cannot be sliced.
        """
        if keep not in self._plans:
            if keep < 1.0 and not self.graph.groups:
                channel_graph(self.module)  # says why
            self._plans[keep] = plan_of(self.graph, spec_of(keep))
        return self._plans[keep]

    def table(self, keep: float, input_shape: tuple[int, ...]) -> DropoutTable | None:
        """What such a device chooses from before each mini-batch; None: nothing is dropped.

        `input_shape` is of one example. Raises InvalidRequest for rows that do not fit the model.
        """
        key = (keep, input_shape)
        if key not in self._tables:
            self._tables[key] = self._table(self.plan(keep).sliced_graph, input_shape)
        return self._tables[key]

    def laid_out(self, examples: Examples) -> Examples:
        """The examples in the memory layout that suits the model: themselves if they lie so."""
        shape = examples.input_shape
        if shape not in self._layouts:
            self._layouts[shape] = layout_for(self.module, shape)
        return laid_out(examples, self._layouts[shape])

    def _table(self, graph: ChannelGraph, input_shape: tuple[int, ...]) -> DropoutTable | None:
        rows = self.terms.dropout_rows
        if not rows or not graph.groups:
            return None
        vectors = [row * len(graph.groups) if len(row) == 1 else row for row in rows]
        return dropout_table(forward_cost(self.module, graph, input_shape), vectors)


def spec_of(keep: float) -> SubmodelSpec:
    """The part of a model that a device trains which keeps this share of channels."""
    return FULL if keep >= 1.0 else SubmodelSpec((keep,), ChannelRule.LEADING)


def _check_manifest(model: nn.Module, terms: TaskTerms) -> None:
    mine = manifest_of(model)
    if mine.digest != terms.manifest.digest:
        raise ModelError(
            f"this device's model ({len(mine.tensors)} tensors, {mine.size} values, digest "
            f"{mine.digest}) is not the one of task {terms.name!r} at the aggregator "
            f"({len(terms.manifest.tensors)} tensors, {terms.manifest.size} values, digest "
            f"{terms.manifest.digest}); give both the same task file"
        )


def _check_dropout(local: LocalRule, terms: TaskTerms) -> None:
    if local.whole_only and terms.dropout_rows:
        raise ModelError(
            f"task {terms.name!r} drops filters in training, and what it has its devices do "
            f"besides ({local.kind}) is meant for whole models; set dropout.enabled = false, or "
            "take another strategy"
        )


def _graph(model: nn.Module) -> ChannelGraph:
    """A model that cannot be sliced is trained whole."""
    try:
        return channel_graph(model)
    except ModelError:
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
