"""A recorded history lived through again by the rules: every version, bit for bit."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hocket.core import past
from hocket.core.coordinator import Coordinator
from hocket.core.events import Effect, VersionMade
from hocket.core.ids import Version
from hocket.core.strategy import Global
from hocket.core.terms import Finished
from hocket.core.update import Dropped, Update
from hocket.errors import CorruptState, HocketError, TaskError
from hocket.learn.digest import digest_of
from hocket.learn.submodels.sliceable import main_codec
from hocket.sim.history import Closed, Ended, Found, Held, History, Joined, Settled
from hocket.task.setup import Setup
from hocket.task.soundness import check_update


@dataclass(frozen=True, slots=True)
class Difference:
    """The first thing that comes out otherwise than it was recorded."""

    line: int  # of the history's entries
    message: str


@dataclass(frozen=True, slots=True)
class Relived:
    """What came of it, up to the first difference."""

    version: Version  # the newest that was made
    digest: str  # of its values
    versions: int  # made and found equal, without the first
    updates: int
    difference: Difference | None


def relive(setup: Setup, history: History) -> Relived:
    """Feed a history to the rules of a task, which must be the one that it was recorded of.

    Each update is decoded as a server does, and each version's digest compared with the recorded.

    Raises TaskError where the history is of another model, and CorruptState, naming file and line,
    for one that is damaged.
    """
    told = history.beginning
    if told.manifest != setup.terms.manifest.digest:
        raise TaskError(
            f"{history.folder} is the history of task {told.task!r}, whose model is laid out "
            f"otherwise than that of task {setup.terms.name!r}; name its own task file with --task"
        )
    life = _Life(setup)
    first = digest_of(setup.first)
    if first != told.digest:
        message = (
            f"version 1 had digest {told.digest}, and now has {first}: the task file's seed or "
            "model is another, or torch"
        )
        return life.result(Difference(1, message))
    for found in history.entries():
        try:
            difference = life.take(found)
        except CorruptState as error:  # the rules' own: an update came to something else
            difference = Difference(found.line, error.message)
        except HocketError as error:
            raise history.corrupt(found.line, f"{error.reason}: {error.message}") from error
        if difference is not None:
            return life.result(difference)
    return life.result(None)


class _Life:
    """The rules, and what they have come to."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._model = setup.sliceable()
        self._core: Coordinator[Tensor, Any] = Coordinator.begin(
            setup.rules, setup.strategy, Global(setup.first), setup.slots()
        )
        self._versions = self._updates = 0

    def take(self, found: Found) -> Difference | None:
        """Live through one entry."""
        entry = found.entry
        if isinstance(entry, Joined):
            return None
        effects = self._core.relive(self._past(entry))
        self._updates += isinstance(entry, Settled)
        recorded = entry.digest if isinstance(entry, (Settled, Closed)) else ""
        made = _made(effects)
        digest = "" if made is None else digest_of(made.model)
        if digest != recorded:
            return Difference(found.line, _told(made, digest, recorded))
        self._versions += made is not None
        return None

    def result(self, difference: Difference | None) -> Relived:
        """What came of it so far."""
        newest = self._core.newest
        return Relived(
            newest.version, digest_of(newest.model), self._versions, self._updates, difference
        )

    def _past(self, entry: Held | Settled | Closed | Ended) -> past.Past[Tensor]:
        match entry:
            case Held(_, device_id, version):
                return past.BaseHeld(device_id, version)
            case Settled():
                return past.Answered(self._update(entry), entry.outcome)
            case Closed(_, version):
                return past.RoundClosed(version)
            case Ended(_, reason):
                return past.Ended(Finished(reason))

    def _update(self, settled: Settled) -> Update[Tensor]:
        header, payload = settled.header, settled.payload
        if isinstance(settled.outcome, Dropped):
            codec = "" if payload is None else main_codec(payload.header)
            return Update(header, torch.empty(0), codec=codec)
        if payload is None:
            raise HocketError(f"the bytes of update {header.update_id!r} are missing")
        check_update(header, payload.header, self._setup.terms, self._model)
        return self._model.decode(header, payload, self._model.plan(header.spec))


def _made(effects: Iterable[Effect[Tensor]]) -> Global[Tensor] | None:
    return next((effect.made for effect in effects if isinstance(effect, VersionMade)), None)


def _told(made: Global[Tensor] | None, digest: str, recorded: str) -> str:
    if made is None:
        return f"a version with digest {recorded} was made here, and now none is"
    if not recorded:
        return f"version {made.version} is made here, where none was"
    return (
        f"version {made.version} had digest {recorded}, and now comes to {digest}: relive it with "
        "the task file, the Hocket and the torch that made it"
    )
