"""What must hold after each turn of an aggregator; see design.md, section 7."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from support.reference_model import ReferenceModel, promise
from support.simulated_disk import Disk
from support.simulated_life import Life

from hocket.core import events as ev
from hocket.core.update import Dropped, UpdateHeader
from hocket.errors import UnknownVersion

REBUILD_EVERY = 7  # turns; each time from the older and the newer snapshot


class Told(Protocol):
    """A turn's effects."""

    @property
    def effects(self) -> list[ev.Effect[float]]: ...


class Checks:
    """Holds the live rules against the reference. `holds` is what each device trains from."""

    def __init__(self, disk: Disk, reference: ReferenceModel) -> None:
        self.counts: Counter[str] = Counter()
        self.triggers: Counter[str] = Counter()
        self._disk = disk
        self._reference = reference
        self._life: Life | None = None
        self._holds: dict[str, int] = {}

    def reborn(self, life: Life) -> None:
        """A life began: what was durable is there, and nothing else."""
        self._life, self._holds = life, dict(life.holds)
        self.counts["recoveries"] += 1
        self._same_as_reference(life)

    def dead(self) -> None:
        """Nothing to look at until the next life."""
        self._life = None

    def took(self, device_id: str, version: int) -> None:
        """A device began to train from a version."""
        self._holds[device_id] = version

    def rested(self, device_id: str, *, really: bool = True) -> None:
        """A device has nothing in flight any more."""
        if really:
            self._holds.pop(device_id, None)

    def triggered(self, device_id: str) -> None:
        """A device was sent to work."""
        self.triggers[device_id] += 1
        self.counts["triggers"] += 1

    def took_in(self, event: ev.Event[float], effects: Iterable[ev.Effect[float]]) -> None:
        """The rules took an event in."""
        self.counts[f"events: {type(event).__name__}"] += 1
        for effect in effects:
            if isinstance(effect, ev.Settled) and effect.first_time:
                self.rested(effect.header.device_id)
            elif isinstance(effect, ev.VersionMade) and isinstance(event, ev.Tick):
                self.counts["rounds closed"] += 1

    def settled(self, turns: Iterable[Told]) -> None:
        """A batch is durable, and about to be told of."""
        assert self._life is not None
        for turn in turns:
            for effect in turn.effects:
                if isinstance(effect, ev.Settled):
                    self._answer(effect)
        self._same_as_reference(self._life)
        self._memory_is_bounded(self._life)
        self.counts["turns checked"] += 1
        if self.counts["turns checked"] % REBUILD_EVERY == 0:
            self.rebuild()

    def told(self, turn: Told) -> None:
        """Somebody hears of a turn: all of it must be durable."""
        reference = self._reference
        for effect in turn.effects:
            if isinstance(effect, ev.Settled):
                durable = effect.header.update_id in reference.answers
                promise(durable, f"{effect.header.update_id} is answered, but not durable")
            elif isinstance(effect, ev.VersionMade):
                number, ids = effect.made.version, effect.update_ids
                promise(number <= reference.newest, f"version {number} is told, but not durable")
                promise(ids == reference.made_of[number - 1], f"parents of {number}: {ids}")

    @contextmanager
    def gone_for_a_reason(self, header: UpdateHeader) -> Iterator[None]:
        """Only a base that nobody held is unknown; one that is too old is told so."""
        try:
            yield
        except UnknownVersion:
            assert self._life is not None
            tau = self._life.core.newest.version - header.base_version
            limit = self._life.setup.rules.staleness_limit
            promise(tau <= limit, f"{header.update_id} is {tau} old, and not dropped for it")
            held = self._holds.get(header.device_id)
            promise(held != header.base_version, f"{header.device_id} held version {held}")
            raise

    def rebuild(self) -> None:
        """Snapshot and journal give everything that is retained now, bit for bit."""
        assert self._life is not None
        live = self._life.core
        for snapshot in self._disk.snapshots:
            again = Life(self._life.setup)
            again.begin(self._disk, snapshot)
            self._same_as_reference(again)
            for version in live.versions.retained:
                rebuilt = again.core.versions.get(version)
                promise(rebuilt == live.versions.get(version), f"version {version} was rebuilt")
            self.counts["rebuilds"] += 1

    def _answer(self, effect: ev.Settled) -> None:
        line = self._reference.answers.get(effect.header.update_id)
        promise(line is not None, f"{effect.header.update_id} is answered, but not durable")
        assert line is not None
        promise(effect.outcome == line.outcome, f"{effect.outcome} after {line.outcome}")
        kind = type(effect.outcome).__name__ if effect.first_time else "again"
        if isinstance(effect.outcome, Dropped) and effect.first_time:
            kind += f" {effect.outcome.reason.name}"
        self.counts[f"answers: {kind}"] += 1

    def _same_as_reference(self, life: Life) -> None:
        core, reference = life.core, self._reference
        state, pending = core.state, reference.pending
        promise(core.newest.version == reference.newest, f"newest is {core.newest.version}")
        promise(core.newest.model == reference.models[-1], "the newest model differs")
        promise(
            state.pending_ids == [line.header.update_id for line in pending],
            f"pending are {state.pending_ids}",
        )
        promise(state.contributors == {line.header.device_id for line in pending}, "contributors")
        promise(life.slots.mean == reference.slot_mean, "the slot policy differs")
        promise((core.finished is not None) == reference.finished, "finished or not")
        lines = reference.lines
        accepted = sum(not isinstance(line.outcome, Dropped) for line in lines)
        promise(state.updates_accepted == accepted, f"{state.updates_accepted} accepted")
        for version in core.versions.retained:
            promise(core.versions.get(version) == reference.models[version - 1], f"base {version}")
        if not reference.finished:
            for line in reference.needed(core.versions.oldest):
                header = line.header
                known = state.ledger.outcome(header.update_id, header.device_id)
                promise(known == line.outcome, f"{header.update_id} is answered with {known}")

    def _memory_is_bounded(self, life: Life) -> None:
        core, newest = life.core, life.core.newest.version
        limit = life.setup.rules.staleness_limit
        held = {version for version in self._holds.values() if newest - version <= limit}
        retained = core.versions.retained
        promise(set(retained) == held | {newest}, f"{retained} are retained, {held} are held")
        shelved = life.shelf.models
        promise(set(shelved) <= set(retained), f"{list(shelved)} are on the shelf")
        lines, size = self._reference.lines, len(core.state.ledger)
        young = self._reference.needed(newest - limit)
        since = len(lines) - (lines.index(young[0]) if young else len(lines))
        promise(size <= life.setup.ledger_entries + since, f"{size} answers are remembered")


def fingerprint(life: Life) -> tuple[Any, ...]:
    """All that bad input must leave as it is."""
    core = life.core
    state, versions = core.state, core.versions
    return (
        core.newest,
        versions.retained,
        dict(versions.holds),
        repr(life.rule.keep(state.memory)),
        life.slots.mean,
        tuple(state.pending_ids),
        frozenset(state.contributors),
        len(state.ledger),
        state.updates_accepted,
        state.updates_rejected,
        core.finished,
    )
