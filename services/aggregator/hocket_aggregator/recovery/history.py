"""From a snapshot on through the journal: the model as it was, bit for bit.

Recovery goes to the end, `hocket replay` to a version. Both read only; what changes is the state.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hocket.core.coordinator import Coordinator
from hocket.core.events import Effect, VersionMade
from hocket.core.ids import Version
from hocket.core.ledger import Ledger
from hocket.core.past import Answered, BaseHeld, Ended, RoundClosed
from hocket.core.state import TaskState
from hocket.core.terms import Finished
from hocket.core.update import Dropped, Update
from hocket.core.versions import IN_MEMORY, Shelf, Versions
from hocket.errors import CorruptState, HocketError
from hocket.learn.digest import digest_of
from hocket.task.setup import Setup
from hocket_aggregator.journal.entries import Closed, Concluded, Held, Settled
from hocket_aggregator.journal.reader import Found, read_entries
from hocket_aggregator.recovery.bodies import Bodies, OpenBody
from hocket_aggregator.snapshots.snapshots import Snapshot


@dataclass(frozen=True, slots=True)
class Lived:
    """An update that was answered, or a round closed, once more; and what version came of it."""

    entry: Settled | Closed
    version: Version | None = None
    update_ids: tuple[str, ...] = ()


class History:
    """A task's past since a snapshot."""

    def __init__(
        self,
        setup: Setup,
        snapshot: Snapshot,
        folder: Path,
        *,
        ledger: Ledger | None = None,
        shelf: Shelf[Tensor] | None = None,
        bases_in_memory: int = IN_MEMORY,
    ) -> None:
        self.core = core_from(setup, snapshot, ledger, shelf, bases_in_memory)
        self.bodies = Bodies(setup.terms.max_update_bytes)
        self._snapshot = snapshot
        self._folder = folder
        self._model = setup.sliceable()

    def live(self) -> Iterator[Lived]:
        """Live through the journal, update by update, and closed round by closed round.

        Raises CorruptState, which names file and offset, for what does not fit together.
        """
        for found in read_entries(self._folder, self._snapshot.pieces_from):
            try:
                lived = self._take(found)
            except CorruptState as error:
                raise _at(found, self._folder, error.message) from error
            except HocketError as error:
                raise _at(found, self._folder, f"{error.reason}: {error.message}") from error
            if lived is not None:
                yield lived

    def _take(self, found: Found) -> Lived | None:
        new = found.segment >= self._snapshot.segment  # older ones are read for their pieces only
        match found.entry:
            case Settled() as settled:
                whole = self.bodies.pop(settled.header.update_id)
                return self._settle(settled, whole) if new else None
            case Held(device_id, version) if new:
                self.core.relive(BaseHeld(device_id, version))
            case Closed(version) as closed if new:
                return self._lived(closed, self.core.relive(RoundClosed(version)))
            case Concluded(reason) if new:
                self.core.relive(Ended(Finished(reason)))
            case _:
                self.bodies.take(found)
        return None

    def _settle(self, settled: Settled, body: OpenBody | None) -> Lived:
        update = self._update(settled, body)
        return self._lived(settled, self.core.relive(Answered(update, settled.outcome)))

    def _lived(self, entry: Settled | Closed, effects: Iterable[Effect[Tensor]]) -> Lived:
        for effect in effects:
            if isinstance(effect, VersionMade):
                digest = digest_of(effect.made.model)
                if digest != entry.digest:
                    raise CorruptState(
                        f"version {effect.made.version} had digest {entry.digest}, and now comes "
                        f"to {digest}: rebuild it with the Hocket and torch that made it"
                    )
                return Lived(entry, effect.made.version, effect.update_ids)
        return Lived(entry)

    def _update(self, settled: Settled, body: OpenBody | None) -> Update[Tensor]:
        header = settled.header
        if isinstance(settled.outcome, Dropped):
            return Update(header, torch.empty(0), codec=settled.codec)
        if body is None:
            raise CorruptState(f"the bytes of update {header.update_id!r} are missing")
        return self._model.decode(header, body.assembler.whole(), self._model.plan(header.spec))


def core_from(
    setup: Setup,
    snapshot: Snapshot,
    ledger: Ledger | None,
    shelf: Shelf[Tensor] | None,
    bases_in_memory: int,
) -> Coordinator[Tensor, Any]:
    """The rules as they stood when the snapshot was taken. Raises CorruptState."""
    limit = setup.rules.staleness_limit
    versions = Versions(snapshot.newest, limit, shelf=shelf, in_memory=bases_in_memory)
    versions.restore(snapshot.bases, snapshot.holds)
    state: TaskState[Tensor, Any] = TaskState(
        versions,
        setup.strategy.recall(snapshot.memory, snapshot.newest.model),
        ledger if ledger is not None else Ledger(),
        list(snapshot.pending_ids),
        set(snapshot.contributors),
        Finished(snapshot.finished) if snapshot.finished else None,
        snapshot.updates_accepted,
        snapshot.updates_rejected,
        snapshot.triggers_sent,
    )
    slots = setup.slots()
    slots.recall(snapshot.slots)
    return Coordinator(setup.rules, setup.strategy, state, slots)


def snapshot_of(
    core: Coordinator[Tensor, Any],
    digest: str,
    unix_s: float,
    *,
    segment: int,
    pieces_from: int,
    journalled: bool,
) -> Snapshot:
    """All of the rules' state; what may change later is copied.

    `journalled` says whether there is a journal from `segment` on.
    """
    state = core.state
    return Snapshot(
        newest=core.newest,
        digest=digest,
        segment=segment,
        pieces_from=pieces_from,
        bases=state.versions.bases,
        holds=state.versions.holds,
        memory=core.strategy.keep(state.memory),
        slots=core.slots.keep(),
        pending_ids=tuple(state.pending_ids),
        contributors=tuple(sorted(state.contributors)),
        updates_accepted=state.updates_accepted,
        updates_rejected=state.updates_rejected,
        triggers_sent=state.triggers_sent,
        finished=state.finished.reason if state.finished else "",
        journalled=journalled,
        created_unix_s=unix_s,
    )


def _at(found: Found, folder: Path, message: str) -> CorruptState:
    return CorruptState(
        f"{folder}, segment {found.segment}, offset {found.offset}: {message}",
        segment=str(found.segment),
        offset=str(found.offset),
    )
