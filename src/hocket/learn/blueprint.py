"""What all devices of a task train by: built once in a process, and shared by its learners."""

from __future__ import annotations

import textwrap
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import nn

from hocket.core.chance import stream_seed
from hocket.core.payload import CodecId
from hocket.core.sizing import AnySizing, Distreal, Full, choices_of, sizing_of
from hocket.core.sizing.size import UNKNOWN, Dropping, FisherForm, Size, part_of
from hocket.core.submodel import FULL, SubmodelSpec
from hocket.core.terms import EncodingTerms, TaskTerms, TrainingTerms
from hocket.errors import ModelError, TaskError
from hocket.learn.codecs import Codec, TopK, codec_for
from hocket.learn.data import Examples
from hocket.learn.features import Features
from hocket.learn.flat import manifest_of
from hocket.learn.layout import laid_out, layout_for
from hocket.learn.local_rule import LocalRule
from hocket.learn.masked_loss import FILLS, OFF
from hocket.learn.norms import use_batch_statistics
from hocket.learn.sgd import TrainingRules
from hocket.learn.strategies import rule_of
from hocket.learn.submodels.cost import ForwardCost, forward_cost
from hocket.learn.submodels.dropout import DropoutTable, dropout_table
from hocket.learn.submodels.graph import channel_graph
from hocket.learn.submodels.head import Head, head_of
from hocket.learn.submodels.layout import ChannelGraph, undroppable
from hocket.learn.submodels.mini_batch import AllOfIt, BatchParts, FromTable, OrderedWidths
from hocket.learn.submodels.plan import IndexPlan, plan_of

MAX_PLANS = 64  # that are remembered: random parts are drawn anew each time
NOTHING = "no part of this model can be left out: "
LONGEST_REASON = 120  # characters: what devices say of their size is a short line

TableKey = tuple[tuple[float, ...], tuple[int, ...]]


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
    sizing: AnySizing = field(default_factory=Full)
    head: Head | None = None  # where devices send the rows of their own classes only
    _plans: OrderedDict[SubmodelSpec, IndexPlan] = field(default_factory=OrderedDict, repr=False)
    _tables: dict[TableKey, DropoutTable | None] = field(default_factory=dict, repr=False)
    _costs: dict[TableKey, ForwardCost] = field(default_factory=dict, repr=False)
    _layouts: dict[tuple[int, ...], torch.memory_format] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, module: nn.Module, terms: TaskTerms) -> Blueprint:
        """The blueprint of a task.

        With static norm, `module` takes the statistics of each batch from now on.

        Raises ModelError where the model is not the one that the terms are about, or the terms'
        local rule or masked loss cannot work on it, and TaskError for a sizing rule that has
        devices train parts of a model of which no part can be left out, and for a local or sizing
        rule, or a masked loss, that is not known here.
        """
        _check_manifest(module, terms)
        rules, codec = _rules(terms.training), _codec(terms.encoding)
        local = rule_of(terms.training.local)
        features = None
        if local is not None:
            features = Features.of(module) if local.watches else None
            _check_dropout(local, terms)
        sizing = sizing_of(terms.sizing)
        graph = graph_of(module)
        _check_sizes(sizing, graph)
        head = None if rules.masked_loss == OFF else head_of(module)
        if rules.norm == "static":
            use_batch_statistics(module)
        return cls(module, terms, rules, codec, graph, local, features, sizing, head)

    @property
    def fisher(self) -> FisherForm | None:
        """Which score its steps measure for the sizing rule; None: none."""
        return self.sizing.watches_fisher

    def check_width(self, keep: float) -> None:
        """Raise ModelError for a share below 1 of what is trained as a whole or not at all.

        That is a model of which no part can be left out, and any under a local rule that wants all.
        """
        if keep >= 1.0:
            return
        if self.local is not None and self.local.whole_only:
            raise ModelError(
                f"this device keeps a share of {keep} of its model's channels, and what task "
                f"{self.terms.name!r} has its devices do ({self.local.kind}) is meant for whole "
                "models; start the device with a share of 1, or take another strategy"
            )
        if not self.graph.groups:
            why = self.graph.nothing()
            raise ModelError(
                f"this device keeps a share of {keep} of its model's channels, but {why.message}",
                **why.details,
            )

    def plan(self, spec: SubmodelSpec) -> IndexPlan:
        """Which entries a device trains that is to train this part.

        Raises ModelError for less than all of a model of which no part can be left out, or that
        the task's local rule wants all of; InvalidRequest for a spec that does not fit.
        """
        known = self._plans.pop(spec, None)
        if known is None:
            self.check_width(min(spec.keep, default=1.0))
            known = plan_of(self.graph, spec)
        self._plans[spec] = known
        while len(self._plans) > MAX_PLANS:
            self._plans.popitem(last=False)
        return known

    def table(self, spec: SubmodelSpec, input_shape: tuple[int, ...]) -> DropoutTable | None:
        """What a device with this part chooses from before each mini-batch; None: drops nothing.

        `input_shape` is of one example. Raises InvalidRequest for rows that do not fit the model.
        """
        key = (spec.keep, input_shape)
        if key not in self._tables:
            self._tables[key] = self._table(spec, input_shape)
        return self._tables[key]

    def dropping(self, keep: float, input_shape: tuple[int, ...]) -> Dropping:
        """What DISTREAL's mini-batches choose from where this share is kept, or why nothing."""
        if not isinstance(self.sizing, Distreal):
            return UNKNOWN
        table = self.table(part_of(keep), input_shape)
        return Dropping(table, nothing="" if table else _shortly(self._undropped()))

    def _undropped(self) -> str:
        if not self.graph.groups:
            return self.graph.nothing().message.removeprefix(NOTHING)
        if self.local is not None and self.local.whole_only:
            return f"the local rule ({self.local.kind}) is meant for whole models"
        return "the task names no rows"

    def parts(
        self, size: Size, input_shape: tuple[int, ...], name: str, training: int
    ) -> BatchParts:
        """What the mini-batches do without in one training of the device of this name."""
        if size.widths:
            cost = self._cost(size.spec, input_shape)
            seed = stream_seed(self.terms.seed, name, "widths", training)
            return OrderedWidths(cost, size.widths, seed)
        table = self.table(size.spec, input_shape)
        if table is None:
            return AllOfIt()
        skips = isinstance(self.sizing, Distreal) and self.sizing.none_fits == "skip"
        return FromTable(table, skips)

    def share(self, keep: float, input_shape: tuple[int, ...]) -> float:
        """M of a width: its work relative to the whole model's, in (0, 1]."""
        if not self.graph.groups:
            return 1.0
        whole = self._cost(FULL, input_shape)
        return whole.share(plan_of(self.graph, part_of(keep)).sizes)

    def macs(self, input_shape: tuple[int, ...]) -> int:
        """Multiply-accumulates of one example's forward pass through the whole model."""
        return self._cost(FULL, input_shape).macs()

    def _cost(self, spec: SubmodelSpec, input_shape: tuple[int, ...]) -> ForwardCost:
        """Of a part: the same for all parts of one width, whichever their channels are."""
        key = (spec.keep, input_shape)
        if key not in self._costs:
            graph = self.plan(spec).sliced_graph
            self._costs[key] = forward_cost(self.module, graph, input_shape)
        return self._costs[key]

    def laid_out(self, examples: Examples) -> Examples:
        """The examples in the memory layout that suits the model: themselves if they lie so."""
        shape = examples.input_shape
        if shape not in self._layouts:
            self._layouts[shape] = layout_for(self.module, shape)
        return laid_out(examples, self._layouts[shape])

    def _table(self, spec: SubmodelSpec, input_shape: tuple[int, ...]) -> DropoutTable | None:
        rows, groups = self.terms.dropout_rows, self.graph.groups
        if not rows or not groups:
            return None
        vectors = [row * len(groups) if len(row) == 1 else row for row in rows]
        return dropout_table(self._cost(spec, input_shape), vectors)


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
            f"besides ({local.kind}) is meant for whole models; set submodel = 'full', or take "
            "another strategy"
        )


def graph_of(model: nn.Module) -> ChannelGraph:
    """Its channel graph; without groups where it cannot be sliced: then it is trained whole."""
    try:
        return channel_graph(model)
    except ModelError as error:
        return undroppable(manifest_of(model), error)


def _check_sizes(sizing: AnySizing, graph: ChannelGraph) -> None:
    """Raise TaskError for a rule that chooses among parts, where there are none."""
    smallest = min(choices_of(sizing), default=1.0)
    if smallest < 1.0 and not graph.groups:
        why = graph.nothing()
        raise TaskError(
            f"submodel.kind is {sizing.kind!r}, by which devices train parts of the model, down to "
            f"{smallest:g} of its channels, but {why.message}",
            **why.details,
        )


def _shortly(text: str) -> str:
    """A reason as part of a line that is shown in terminals."""
    plain = "".join(char if char.isprintable() else " " for char in text)
    return textwrap.shorten(plain, LONGEST_REASON, placeholder=" ...")


def _rules(terms: TrainingTerms) -> TrainingRules:
    return TrainingRules(
        local_epochs=terms.local_epochs,
        batch_size=terms.batch_size,
        learning_rate=terms.learning_rate,
        momentum=terms.momentum,
        weight_decay=terms.weight_decay,
        gradient_clip_norm=terms.gradient_clip_norm or None,
        rescale=terms.rescale,
        norm="static" if terms.static_norm else "running",
        masked_loss=_masked_loss(terms.masked_loss),
    )


def _masked_loss(kind: str) -> Literal["off", "zero", "minus_infinity"]:
    match kind:
        case "off" | "zero" | "minus_infinity":
            return kind
    raise TaskError(
        f"the task masks the loss by {kind!r}, which this device does not know (it knows "
        f"{', '.join(FILLS)}); install the version of Hocket that the aggregator runs"
    )


def _codec(terms: EncodingTerms) -> Codec:
    return TopK(terms.topk_ratio) if terms.codec is CodecId.TOPK else codec_for(terms.codec)
