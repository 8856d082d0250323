"""What is measured: the cases, and the figures that they should reach."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from hocket.errors import InvalidRequest

VALUES_44_MB = 11_000_000
VALUES_1_MB = 262_144
BYTES_PER_VALUE = 4
DEVICES = "devices"


class Rule(StrEnum):
    """Strategies that make a version of every update."""

    FEDASMU = "fedasmu"
    FEDASYNC = "fedasync"


class Coding(StrEnum):
    """How updates are written. Top-k sends 1 %."""

    RAW = "raw"
    TOPK = "topk"


@dataclass(frozen=True, slots=True)
class Target:
    """A figure of a case, and the least that it should be."""

    figure: str
    at_least: float


@dataclass(frozen=True, slots=True)
class Case:
    """One run: `streams` devices push `updates` in all, each its next once one is answered."""

    name: str
    model_values: int
    coding: Coding
    durable: bool
    updates: int
    targets: tuple[Target, ...] = ()
    strategy: Rule = Rule.FEDASMU
    streams: int = 4
    compares: bool = False  # shown beside the others; nothing is asked of it
    recovers: bool = False  # the aggregator is killed at the end and started again

    @property
    def model_bytes(self) -> int:
        """Of the model asked for; the one that is built differs by less than 1 %."""
        return self.model_values * BYTES_PER_VALUE


def _reported() -> tuple[Case, ...]:
    big, small, raw, topk = VALUES_44_MB, VALUES_1_MB, Coding.RAW, Coding.TOPK
    fast, safe = (Target("ratio_to_raw", 0.6),), (Target("ratio_to_limit", 0.8),)
    many, sixty = (Target("updates_per_s", 350.0),), (Target("updates_per_s", 60.0),)
    return (
        Case("dense-44mb", big, raw, durable=False, updates=80, targets=fast),
        Case("dense-44mb-one", big, raw, durable=False, updates=80, targets=fast, streams=1),
        Case("dense-44mb-durable", big, raw, durable=True, updates=60, targets=safe),
        Case("dense-1mb", small, raw, durable=False, updates=2000, targets=many),
        Case(
            "dense-1mb-durable",
            small,
            raw,
            durable=True,
            updates=2000,
            targets=(Target("updates_per_s", 200.0),),
        ),
        Case("topk-44mb", big, topk, durable=False, updates=600, targets=sixty),
        Case("topk-44mb-durable", big, topk, durable=True, updates=600, targets=sixty),
    )


def _compared(case: Case) -> Case:
    name = f"{case.name}-{Rule.FEDASYNC}"
    updates = max(1, case.updates // 2)
    return replace(
        case, name=name, strategy=Rule.FEDASYNC, updates=updates, targets=(), compares=True
    )


RECOVERY = Case("recovery", VALUES_1_MB, Coding.RAW, durable=True, updates=1000, recovers=True)
CASES = (
    *_reported(),
    *(_compared(c) for c in _reported() if c.streams > 1 and not c.durable),
    RECOVERY,
)
NAMES = (*(case.name for case in CASES), DEVICES)


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the command line asks for; None and nothing: the defaults."""

    only: Sequence[str] = ()
    updates: int | None = None
    streams: int | None = None
    strategy: Rule | None = None
    model_bytes: int | None = None


def chosen(wishes: Wishes) -> tuple[Case, ...]:
    """The cases to run, as asked for. Raises InvalidRequest for a name that is none.

    With a strategy named, all cases take it and those that only compare go.
    """
    for name in wishes.only:
        if name not in NAMES:
            near = difflib.get_close_matches(name, NAMES, n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise InvalidRequest(f"there is no case {name!r}{hint}; take {', '.join(NAMES)}")
    named = [case for case in CASES if not wishes.only or case.name in wishes.only]
    if wishes.strategy is not None:
        named = [case for case in named if not case.compares or case.name in wishes.only]
    return tuple(_as_wished(case, wishes) for case in named)


def _as_wished(case: Case, wishes: Wishes) -> Case:
    values = case.model_values
    if wishes.model_bytes is not None:
        values = max(1, wishes.model_bytes // BYTES_PER_VALUE)
    return replace(
        case,
        model_values=values,
        updates=wishes.updates or case.updates,
        streams=case.streams if case.streams == 1 else wishes.streams or case.streams,
        strategy=wishes.strategy or case.strategy,
    )
