"""A disk in memory: a journal of which only what is synced outlives a crash, and snapshots."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from support.reference_model import ReferenceModel
from support.scalar_rules import AnyScalarRule, RunningMean

from hocket.core.coordinator import Coordinator
from hocket.core.ids import DeviceId, UpdateId, Version
from hocket.core.ledger import Ledger
from hocket.core.past import Answered, BaseHeld, Past, RoundClosed
from hocket.core.state import TaskState
from hocket.core.strategy import Global, Memory
from hocket.core.terms import Finished
from hocket.core.versions import Versions

Entry = Past[float]
Core = Coordinator[float, Any]
KEPT_SNAPSHOTS = 2


class Shelf:
    """A place outside main memory, which remembers what it holds."""

    def __init__(self) -> None:
        self.models: dict[Version, float] = {}

    def put(self, version: Version, model: float) -> float:
        self.models[version] = model
        return model

    def drop(self, version: Version) -> None:
        self.models.pop(version, None)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that decides the model from journal entry `at` on."""

    at: int
    newest: Global[float]
    bases: Mapping[Version, float]
    holds: Mapping[DeviceId, Version]
    memory: Memory[float]
    slots: Memory[float]
    pending_ids: tuple[UpdateId, ...]
    contributors: frozenset[DeviceId]
    finished: Finished | None
    counts: tuple[int, int, int]

    @classmethod
    def of(cls, core: Core, rule: AnyScalarRule, slots: RunningMean, at: int) -> Snapshot:
        state = core.state
        return cls(
            at,
            core.newest,
            state.versions.bases,
            state.versions.holds,
            _through_json(rule.keep(state.memory)),
            _through_json(slots.keep()),
            tuple(state.pending_ids),
            frozenset(state.contributors),
            state.finished,
            (state.updates_accepted, state.updates_rejected, state.triggers_sent),
        )

    def state(
        self, rule: AnyScalarRule, versions: Versions[float], ledger: Ledger
    ) -> TaskState[float, Any]:
        accepted, rejected, triggers = self.counts
        versions.restore(self.bases, self.holds)
        return TaskState(
            versions,
            rule.recall(self.memory, self.newest.model),
            ledger,
            list(self.pending_ids),
            set(self.contributors),
            self.finished,
            accepted,
            rejected,
            triggers,
        )


@dataclass(slots=True)
class Disk:
    """Entries are numbered from the journal's very beginning; `reference` hears of durable ones."""

    reference: ReferenceModel
    snapshots: list[Snapshot]  # oldest first
    entries: list[Entry] = field(default_factory=list)  # from number `first` on
    first: int = 0
    synced: int = 0
    rows: list[tuple[int, Answered[float]]] = field(default_factory=list)  # the index: all answers

    @property
    def end(self) -> int:
        """The number of the next entry."""
        return self.first + len(self.entries)

    def append(self, entries: list[Entry]) -> None:
        """Write; nothing of it is safe yet."""
        self.entries += entries

    def sync(self) -> None:
        """Make safe what was written."""
        for number in range(self.synced, self.end):
            entry = self.entries[number - self.first]
            if isinstance(entry, Answered):
                self.rows.append((number, entry))
                update = entry.update
                self.reference.answered(update.header, update.delta, entry.outcome)
            elif isinstance(entry, RoundClosed):
                self.reference.closed(entry.version)
            elif not isinstance(entry, BaseHeld):
                self.reference.finished = True
        self.synced = self.end

    def crash(self, chance: Random) -> int:
        """Lose what was not synced, but for a first part that happened to reach the disk."""
        written = self.end - self.synced
        survivors = chance.randint(0, written)
        del self.entries[len(self.entries) - (written - survivors) :]
        self.sync()
        return written - survivors

    def publish(self, snapshot: Snapshot) -> None:
        """A snapshot has got its name: entries that only older ones need may go."""
        ordered = sorted([*self.snapshots, snapshot], key=lambda kept: kept.at)
        self.snapshots = ordered[-KEPT_SNAPSHOTS:]
        covered = self.snapshots[0].at
        del self.entries[: covered - self.first]
        self.first = covered

    def since(self, snapshot: Snapshot) -> list[Entry]:
        """The synced entries that a snapshot does not cover."""
        return self.entries[snapshot.at - self.first : self.synced - self.first]

    def ledger(self, snapshot: Snapshot, entries: int) -> Ledger:
        """The answers before a snapshot: the last ones, and those that could be asked for yet."""
        oldest = min([snapshot.newest.version, *snapshot.bases])
        before = [row for number, row in self.rows if number < snapshot.at]
        recent = len(before) - entries
        ledger = Ledger(entries)
        for place, row in enumerate(before):
            header = row.update.header
            if place >= recent or header.base_version >= oldest:
                ledger.note(header.update_id, header.device_id, header.base_version, row.outcome)
        return ledger


def _through_json(memory: Memory[float]) -> Memory[float]:
    return Memory(json.loads(json.dumps(memory.facts)), dict(memory.tensors))
