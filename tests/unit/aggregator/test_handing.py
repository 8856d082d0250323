"""The next step runs while a version is given its name; what follows keeps its order."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from hocket_aggregator.handing import Handing
from hocket_aggregator.job import Job
from hocket_aggregator.owner import Owner
from hocket_aggregator.telling import Telling
from hocket_aggregator.turn import Turn
from support.aggregating import until
from support.clock import settle
from support.limits import LIMIT_S
from support.owning import Held, Written, owning, pushed
from support.scalar import caller
from torch import Tensor

from hocket.core.events import BaseTaken, Effect, Pushed, Settled, VersionMade
from hocket.core.ids import Version
from hocket.core.strategy import Global
from hocket.errors import Unavailable
from hocket.learn.digest import digest_of


@dataclass
class Hashing:
    """Digests that wait until the test lets them go on, or fail."""

    go: threading.Event = field(default_factory=threading.Event)
    begun: int = 0
    threads: list[str] = field(default_factory=list)
    error: Exception | None = None

    def __call__(self, model: Tensor) -> str:
        self.begun += 1
        self.threads.append(threading.current_thread().name)
        assert self.go.wait(LIMIT_S)
        if self.error is not None:
            raise self.error
        return digest_of(model)


@dataclass
class Scene:
    """Two devices that hold version 1, and what comes of their pushes."""

    owner: Owner
    rule: Held
    hashing: Hashing
    journal: Written
    turns: list[Turn]

    def push(self, name: str) -> asyncio.Task[list[Effect[Tensor]]]:
        return asyncio.create_task(self.owner.handle(pushed(name)))

    async def hashes_while(self, *waiting: asyncio.Task[Any]) -> None:
        """Let a step go on for which others wait, up to its digest."""
        await settle()
        assert not any(task.done() for task in waiting)
        self.rule.go.set()
        await until(lambda: self.hashing.begun >= 1)
        await settle()


@asynccontextmanager
async def scene(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    rule, hashing, journal = Held(), Hashing(), Written()
    async with owning(rule, journal=journal) as (owner, _, turns):
        for name in "ab":
            await owner.handle(BaseTaken(caller(name), Version(1)))
        monkeypatch.setattr("hocket_aggregator.turn.digest_of", hashing)
        turns.clear()
        journal.log.clear()
        try:
            yield Scene(owner, rule, hashing, journal, turns)
        finally:
            hashing.go.set()


async def test_the_next_step_runs_while_a_digest_is_computed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with scene(monkeypatch) as it:
        pushes = [it.push("a"), it.push("b")]
        await it.hashes_while(*pushes)
        await until(lambda: it.rule.steps == 2)
        await settle()
        assert (it.turns, it.journal.log) == ([], [])
        assert not any(push.done() for push in pushes)
        it.hashing.go.set()
        await asyncio.gather(*pushes)
        assert [list(turn.digests) for turn in it.turns] == [[2], [3]]
        assert it.journal.log == ["Settled", "Settled"]


async def test_what_changes_nothing_of_the_model_does_not_overtake(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with scene(monkeypatch) as it:
        push = it.push("a")
        taken = asyncio.create_task(it.owner.handle(BaseTaken(caller("b"), Version(2))))
        await it.hashes_while(push, taken)
        assert not taken.done()
        it.hashing.go.set()
        await asyncio.gather(push, taken)
        assert [type(turn.event) for turn in it.turns] == [Pushed, BaseTaken]
        assert it.journal.log == ["Settled", "Held"]


async def test_who_reads_the_digest_gets_that_of_the_newest_version(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with scene(monkeypatch) as it:
        push = it.push("a")
        read = asyncio.create_task(
            it.owner.read(lambda core: (core.newest, it.owner.newest_digest))
        )
        await it.hashes_while(push, read)
        it.hashing.go.set()
        newest, digest = await read
        assert (newest.version, digest) == (2, digest_of(newest.model))
        await push


async def test_a_snapshot_waits_until_the_journal_has_what_it_covers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with scene(monkeypatch) as it:
        push = it.push("a")
        rotated = asyncio.create_task(it.owner.transact(lambda *_: it.journal.rotate(), heavy=True))
        late = it.push("b")
        await it.hashes_while(push, rotated, late)
        assert it.journal.log == []
        it.hashing.go.set()
        await asyncio.gather(push, rotated, late)
        assert it.journal.log == ["Settled", "rotated", "Settled"]


async def test_what_was_done_is_handed_over_before_the_owner_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with scene(monkeypatch) as it:
        push, late = it.push("a"), it.push("b")
        await it.hashes_while(push, late)
        (running,) = (t for t in asyncio.all_tasks() if "Owner.run" in repr(t.get_coro()))
        running.cancel()
        await settle()
        assert not push.done()
        it.hashing.go.set()
        for each in (push, late):
            assert any(isinstance(effect, Settled) for effect in await each)
        assert it.journal.log == ["Settled", "Settled"]


async def test_where_a_digest_fails_all_who_wait_hear_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with scene(monkeypatch) as it:
        it.hashing.error = MemoryError()
        pushes = [it.push("a"), it.push("b")]
        read = asyncio.create_task(it.owner.read(lambda core: core.newest.version))
        await it.hashes_while(*pushes, read)
        it.hashing.go.set()
        async with asyncio.timeout(LIMIT_S):
            for waiting in (*pushes, read):
                with pytest.raises(Unavailable):
                    await waiting
        assert it.journal.log == []
        assert not it.owner.is_sound


async def test_where_nobody_waits_the_step_s_own_thread_computes_the_digest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another thread would only take longer."""
    async with scene(monkeypatch) as it:
        it.rule.go.set()
        it.hashing.go.set()
        await it.push("a")
        assert it.hashing.threads == it.rule.threads


async def test_nothing_is_handed_over_once_a_digest_has_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Or the journal would have what came after an update, and not the update."""
    hashing = Hashing(error=MemoryError())
    hashing.go.set()
    monkeypatch.setattr("hocket_aggregator.turn.digest_of", hashing)
    journal = Written()
    handing = Handing(journal, Telling(journal, []), [], "", in_threads=True)
    made = VersionMade(Global(torch.ones(2), Version(2)), ())
    handing.put(done(Turn(pushed("a"), (made,), 0.0, 0.0)))
    with pytest.raises(MemoryError):
        await handing.run()
    handing.put(done(Turn(BaseTaken(caller("a"), Version(2)), (), 0.0, 0.0)))
    assert journal.log == []
    with pytest.raises(Unavailable):
        await handing.all_handed()


def done(turn: Turn) -> Job:
    return Job(lambda *_: None, heavy=False, ahead=True, answer=None, turns=[turn])
