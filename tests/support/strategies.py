"""Builders for tests of aggregation rules: updates, and a server that keeps every version."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

import torch
from torch import Tensor

from hocket.core.ids import DeviceId, Incarnation, UpdateId, Version
from hocket.core.strategy import Global
from hocket.core.update import Outcome, Update, UpdateHeader
from hocket.learn.strategies import AnyStrategy, FedASMU, FedAvg
from hocket.learn.strategies.parts import Parts
from hocket.learn.strategies.server import Adam


def every_strategy(waits_for: int, sketch_size: int = 64) -> list[AnyStrategy]:
    """One of each kind, FedASMU with its bounded memory, and an optimizer on the server."""
    rules: list[AnyStrategy] = [
        FedASMU(memory="sketch", sketch_size=sketch_size),
        FedAvg(waits_for, Parts(mean="moved"), Adam()),
    ]
    for kind in get_args(AnyStrategy):
        needs = {kind.waits_for: waits_for} if hasattr(kind, "waits_for") else {}
        rules.append(kind(**needs))
    return rules


def name_of(rule: AnyStrategy) -> str:
    """For pytest's ids."""
    if getattr(rule, "memory", "") == "sketch":
        return "sketch"
    return "adam" if isinstance(getattr(rule, "server", None), Adam) else rule.kind


def vector(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)


def bits(tensor: Tensor) -> bytes:
    return tensor.numpy().tobytes()


def push(
    delta: Tensor,
    *,
    base: int = 1,
    device: str = "a",
    examples: int = 1,
    steps: int = 1,
    learning_rate: float = 1.0,
    held: Tensor | None = None,
    extra: Tensor | None = None,
) -> Update[Tensor]:
    """With the vector of a rule that exchanges one: other rules do not look at it."""
    header = UpdateHeader(
        UpdateId(f"{device}-{base}"),
        DeviceId(device),
        Incarnation(1),
        Version(base),
        examples,
        steps,
        learning_rate,
    )
    return Update(header, delta, held, extra=delta * -0.5 if extra is None else extra)


@dataclass
class Server:
    """Folds updates in with `rule` and keeps each version as a base."""

    rule: Any  # strategies differ in the type of their memory
    now: Global[Tensor]
    memory: Any = None
    versions: dict[int, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.memory = self.rule.init(self.now.model)
        self.versions[self.now.version] = self.now.model

    def take(self, update: Update[Tensor]) -> Outcome:
        base = self.versions[update.header.base_version]
        step = self.rule.step(self.now, self.memory, update, base)
        self.now, self.memory = step.after, step.memory
        self.versions[self.now.version] = self.now.model
        outcome: Outcome = step.outcome
        return outcome


def server(rule: Any, *values: float, version: int = 1) -> Server:
    return Server(rule, Global(vector(*values), Version(version)))


@dataclass(frozen=True)
class Arrival:
    """One push of a random history: from whom, how stale (if so many versions exist), what."""

    device: str
    lag: int
    delta: Sequence[float]

    def at(self, now: Global[Tensor], **header: Any) -> Update[Tensor]:
        base = max(1, now.version - self.lag)
        return push(vector(*self.delta), base=base, device=self.device, **header)
