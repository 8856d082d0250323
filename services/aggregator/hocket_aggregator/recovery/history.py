"""From a snapshot on through the journal: the model as it was, bit for bit.

Recovery goes to the end, `hocket replay` to a version. Both read only; what changes is the state.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hocket.core.coordinator import Coordinator
from hocket.core.events import VersionMade
from hocket.core.ids import DeviceId, UpdateId, Version
from hocket.core.ledger import Ledger
from hocket.core.past import Answered, BaseHeld, Ended
from hocket.core.state import TaskState
from hocket.core.terms import Finished
from hocket.core.update import Dropped, Update, UpdateHeader
from hocket.core.versions import IN_MEMORY, Shelf, Versions
from hocket.errors import CorruptState, HocketError
from hocket.learn.digest import digest_of
from hocket.learn.submodels.sliceable import Sliceable
from hocket.rpc.chunks import Assembler
from hocket.rpc.push_message import Chunk
from hocket.task.setup import Setup
from hocket_aggregator.journal.entries import Concluded, Discarded, Held, Opened, Piece, Settled
from hocket_aggregator.journal.reader import Found, read_entries
from hocket_aggregator.snapshots.snapshots import Snapshot


@dataclass(slots=True)
class OpenBody:
    """A body whose update has no answer yet."""

    header: UpdateHeader
    assembler: Assembler
    segment: int  # in which it begins


@dataclass(frozen=True, slots=True)
class Lived:
    """An update that was answered, once more, and the version that came of it, if any."""

    settled: Settled
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
        self.bodies: dict[UpdateId, OpenBody] = {}  # in the order in which they began
        self._latest: dict[DeviceId, UpdateId] = {}  # that each device has begun
        self._snapshot = snapshot
        self._folder = folder
        self._model = Sliceable.of(setup.graph)
        self._limit_bytes = setup.terms.max_update_bytes

    def live(self) -> Iterator[Lived]:
        """Live through the journal, update by update.

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
            case Opened(header, payload):
                self._open(OpenBody(header, Assembler(payload, self._limit_bytes), found.segment))
            case Piece(update_id, offset, data, checksum) if update_id in self.bodies:
                self.bodies[update_id].assembler.add(Chunk(offset, memoryview(data), checksum))
            case Discarded(update_id):
                self.bodies.pop(update_id, None)
            case Settled() as settled:
                whole = self.bodies.pop(settled.header.update_id, None)
                return self._settle(settled, whole) if new else None
            case Held(device_id, version) if new:
                self.core.relive(BaseHeld(device_id, version))
            case Concluded(reason) if new:
                self.core.relive(Ended(Finished(reason)))
        return None

    def _open(self, body: OpenBody) -> None:
        """As staging does: a device's next body takes the place of one that has not come whole.

        The journal says so itself of every body but one that the disk had no room for.
        """
        header = body.header
        before = self.bodies.get(self._latest.get(header.device_id, header.update_id))
        if before is not None and not before.assembler.is_complete:
            del self.bodies[before.header.update_id]
        self.bodies.pop(header.update_id, None)  # so that bodies are in the order of their begin
        self.bodies[header.update_id] = body
        self._latest[header.device_id] = header.update_id

    def _settle(self, settled: Settled, body: OpenBody | None) -> Lived:
        update = self._update(settled, body)
        for effect in self.core.relive(Answered(update, settled.outcome)):
            if isinstance(effect, VersionMade):
                digest = digest_of(effect.made.model)
                if digest != settled.digest:
                    raise CorruptState(
                        f"version {effect.made.version} had digest {settled.digest}, and now comes "
                        f"to {digest}: rebuild it with the Hocket and torch that made it"
                    )
                return Lived(settled, effect.made.version, effect.update_ids)
        return Lived(settled)

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
