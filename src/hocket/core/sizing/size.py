"""The words of a sizing rule: what it is told of a device, and the part of the model that it says.

A rule is a frozen dataclass whose fields are its settings. Devices and the simulator ask the very
same one before each training; nothing that it says needs the server.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from hocket.core.capability import Capability
from hocket.core.ids import DeviceId, Version
from hocket.core.submodel import FULL, ChannelRule, SubmodelSpec

FisherForm = Literal["proxy", "per_sample"]
"""What of a mini-batch's gradient the Fisher score is taken from: learn.submodels.fisher."""


class Row(Protocol):
    """A dropout vector, as it is told: what it costs relative to dropping nothing, in (0, 1]."""

    @property
    def cost(self) -> float:
        """Of the work."""
        ...

    @property
    def memory(self) -> float:
        """Of a step's memory."""
        ...


class Rows(Protocol):
    """Dropout vectors to choose from: learn.submodels.dropout."""

    def choose(self, resource: float, memory: float = math.inf) -> Row:
        """The one that so much of a processor, and of a whole step's memory, affords."""
        ...


@dataclass(frozen=True, slots=True)
class Dropping:
    """What a device's mini-batches can do without, as far as it is known."""

    rows: Rows | None = None
    step_bytes: int = 0  # that a step without dropout takes; 0: not measured
    nothing: str = ""  # why they do without nothing, in a few words; empty: they do


UNKNOWN = Dropping()


@dataclass(frozen=True, slots=True)
class Ability:
    """What a device can do now, as it measured it itself."""

    capability: Capability = field(default_factory=Capability)
    up_bytes_per_s: float = 0.0  # of its link to the aggregator; 0 if not measured yet
    down_bytes_per_s: float = 0.0
    keep: float = 1.0  # the largest share of channels that it is set to train, in (0, 1]
    dropping: Dropping = UNKNOWN  # told to people; mini-batches ask for themselves

    @property
    def room(self) -> float:
        """Memory to be had now, over what a step takes; infinite where one is not known."""
        left_bytes, step_bytes = self.capability.memory_bytes, self.dropping.step_bytes
        return left_bytes / step_bytes if left_bytes and step_bytes else math.inf


UNMEASURED = Ability()


@dataclass(frozen=True, slots=True)
class Facts:
    """What a rule is told before a training."""

    device_id: DeviceId
    training: int  # of this device, from 1
    version: Version  # the newest when it was triggered
    ability: Ability
    num_steps: int  # optimiser steps of a training
    batch_size: int
    model_bytes: int  # of the whole model, as a pull brings it
    seed: int = 0  # the task's

    def training_s(self, keep: float) -> float | None:
        """Seconds that the steps take at this width; None if nothing was measured."""
        return self.ability.capability.training_s(self.num_steps, self.batch_size, keep)

    def transfer_s(self, keep: float) -> float:
        """Seconds that the pull and the push of that width take; 0 for a way not measured yet.

        Tensors shrink on both axes, so a width costs its square.
        """
        ability, part_bytes = self.ability, keep * keep * self.model_bytes
        rates = (ability.down_bytes_per_s, ability.up_bytes_per_s)
        return math.fsum(part_bytes / rate for rate in rates if rate > 0.0)


@dataclass(frozen=True, slots=True)
class Size:
    """The part of the model that a device trains once, and why."""

    spec: SubmodelSpec = FULL
    widths: tuple[float, ...] = ()  # of that part, one drawn for each mini-batch; empty: all of it
    why: str = ""  # for people: names capability, link and phase where they decided


WHOLE = Size()


@dataclass(frozen=True, slots=True)
class Lesson:
    """What a training that has ended tells a rule."""

    size: Size
    train_s: float  # seconds between the starts and the ends of its local epochs
    fisher: float  # WHALE-FL's score of the training; 0 if not measured


class Sizing(Protocol):
    """A sizing rule."""

    @property
    def kind(self) -> str:
        """Name in task files."""
        ...

    @property
    def watches_fisher(self) -> FisherForm | None:
        """Which Fisher score devices measure in each step, at a cost; None: none, at no cost."""
        ...

    def choose(self, facts: Facts, memory: Mapping[str, Any]) -> Size:
        """The size of the next training. `memory` is this rule's, empty at first."""
        ...

    def learn(self, lesson: Lesson, facts: Facts, memory: Mapping[str, Any]) -> Mapping[str, Any]:
        """The memory after a training: JSON values, bounded in size, for the device's disk."""
        ...


def part_of(keep: float, rule: ChannelRule = ChannelRule.LEADING, seed: int = 0) -> SubmodelSpec:
    """The spec of one width for all layers."""
    return FULL if keep >= 1.0 else SubmodelSpec((keep,), rule, seed)


def width_of(spec: SubmodelSpec) -> float:
    """The width of a spec that `part_of` made."""
    return spec.keep[0] if spec.keep else 1.0
