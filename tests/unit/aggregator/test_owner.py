"""One task owns the coordinator: nothing interleaves, nobody's hanging up undoes a step."""

from __future__ import annotations

import asyncio
import struct

import pytest
import xxhash
from hocket_aggregator.journal import entries as journal_entries
from hocket_aggregator.journal.unjournalled import Unjournalled
from hocket_aggregator.turn import Turn
from support.aggregating import until
from support.clock import settle
from support.limits import LIMIT_S
from support.owning import Held, Syncing, Written, owning, pushed
from support.scalar import caller

from hocket.core.events import BaseTaken, Pushed, SendTrigger, Settled, Subscribed, Tick
from hocket.core.ids import Version
from hocket.core.scheduling import Periodic
from hocket.core.stop import Stop
from hocket.core.update import Applied
from hocket.errors import Unavailable, UnknownDevice


async def test_a_client_that_hangs_up_in_mid_step_changes_nothing_about_the_step() -> None:
    rule = Held()
    async with owning(rule) as (owner, _, turns):
        asker = asyncio.ensure_future(owner.handle(pushed("a")))
        await until(lambda: rule.inside == 1)
        asker.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asker
        rule.go.set()
        (again,) = [e for e in await owner.handle(pushed("a")) if isinstance(e, Settled)]
        assert (again.outcome, again.first_time) == (Applied(Version(2), 1.0, 0), False)
        assert rule.steps == 1
        assert len(turns) == 2  # the records were told although the asker had gone


async def test_steps_never_overlap_and_the_loop_goes_on_meanwhile() -> None:
    rule = Held()
    async with owning(rule) as (owner, _, _):
        first = asyncio.ensure_future(owner.handle(pushed("a")))
        second = asyncio.ensure_future(owner.handle(pushed("b")))
        await until(lambda: rule.inside == 1)
        for _ in range(50):
            await asyncio.sleep(0)
        rule.go.set()
        await first
        with pytest.raises(Exception, match="not retained"):
            await second  # version 1 was nobody's base any more
        assert rule.most_inside == 1


async def test_reads_wait_for_the_step_before_them() -> None:
    rule = Held()
    async with owning(rule) as (owner, _, _):
        push = asyncio.ensure_future(owner.handle(pushed("a")))
        await until(lambda: rule.inside == 1)
        read = asyncio.ensure_future(owner.read(lambda core: core.newest.version))
        rule.go.set()
        await push
        assert await read == 2


async def test_what_a_snapshot_covers_is_in_the_segments_before_it() -> None:
    """Or recovery would live through an update that the snapshot holds already."""
    rule, journal = Held(), Written()
    rule.go.set()
    async with owning(rule, journal=journal) as (owner, _, _):
        await asyncio.gather(  # one batch
            owner.handle(pushed("a")),
            owner.transact(lambda _core, _take: journal.rotate()),
        )
    assert journal.log == ["Settled", "rotated"]


async def test_whoever_asked_gets_what_was_raised() -> None:
    async with owning(Held()) as (owner, _, turns):
        with pytest.raises(UnknownDevice):
            await owner.handle(Subscribed(caller("x")))
        assert turns == []
        assert await owner.read(lambda core: core.newest.version) == 1


async def test_the_digest_is_that_of_the_newest_version() -> None:
    rule = Held()
    rule.go.set()
    async with owning(rule) as (owner, _, turns):
        zero = owner.newest_digest
        await owner.handle(pushed("a"))
        ones = xxhash.xxh3_64_hexdigest(struct.pack("<2f", 1.0, 1.0))
        assert owner.newest_digest == ones != zero
        assert turns[-1].digests == {2: ones}


async def test_the_timer_fires_when_the_rules_said() -> None:
    rule = Held()
    async with owning(rule, pace=Periodic(period_s=10.0, triggers=1)) as (owner, clock, turns):
        for name in "ab":
            await owner.handle(Subscribed(caller(name)))
        triggers = [e for turn in turns for e in turn.effects if isinstance(e, SendTrigger)]
        assert len(triggers) == 1
        await clock.advance(9.99)
        await owner.read(lambda core: core)
        assert sum(isinstance(e, SendTrigger) for t in turns for e in t.effects) == 1
        await clock.advance(0.01)
        await owner.read(lambda core: core)
        assert sum(isinstance(e, SendTrigger) for t in turns for e in t.effects) == 2
        assert turns[-1].now == 10.0


async def test_a_deadline_that_a_tick_does_not_move_cannot_spin() -> None:
    """0.1 + 0.7 rounds to 0.7999..., 0.1 less than which is below 0.7: the stop is a hair away."""
    rule = Held()
    async with owning(rule, stop=Stop(wall_s=0.7)) as (owner, clock, turns):
        await clock.advance(0.1)
        await owner.handle(Subscribed(caller("a")))
        await clock.advance(0.7)
        await clock.advance(0.1)
        assert await owner.read(lambda core: core.finished is not None)
        assert len(turns) < 10


async def test_what_is_asked_of_an_owner_that_has_ended_is_unavailable() -> None:
    async with owning(Held()) as (owner, _, _):
        pass
    with pytest.raises(Unavailable, match="shutting down"):
        await owner.read(lambda core: core)


class Unwritable(Unjournalled):
    """A journal that takes nothing, for a reason that nobody has thought of."""

    def append(self, entry: journal_entries.Entry) -> int:
        raise ValueError(f"{type(entry).__name__} cannot be written")


async def test_whoever_waits_hears_of_it_when_the_owner_fails() -> None:
    rule = Held()
    rule.go.set()
    async with owning(rule, journal=Unwritable()) as (owner, _, _):
        first = asyncio.ensure_future(owner.handle(pushed("a")))
        second = asyncio.ensure_future(owner.read(lambda core: core.newest.version))
        async with asyncio.timeout(LIMIT_S):
            for waiting in (first, second):
                with pytest.raises(Unavailable):
                    await waiting


async def test_the_next_step_runs_while_the_one_before_is_synced_and_nobody_hears_of_either() -> (
    None
):
    rule, journal = Held(), Syncing()
    rule.go.set()
    async with owning(rule, journal=journal) as (owner, _, turns):
        for name in "ab":
            await owner.handle(BaseTaken(caller(name), Version(1)))
        turns.clear()
        pushes = [asyncio.create_task(owner.handle(pushed(name))) for name in "ab"]
        reads = [asyncio.create_task(owner.read(lambda core: core.newest.version))]
        await until(lambda: rule.steps == 2)
        await until(lambda: journal.log.count("Settled") == 2)
        assert turns == []
        assert not any(task.done() for task in (*pushes, *reads))
        journal.on_disk.release()
        await pushes[0]
        assert not any(task.done() for task in (pushes[1], *reads))
        assert [type(turn.event) for turn in turns] == [Pushed]
        journal.on_disk.release()
        await pushes[1]
        assert await reads[0] == 3


async def test_what_was_done_is_told_before_the_owner_ends() -> None:
    rule, journal = Held(), Syncing()
    rule.go.set()
    async with owning(rule, journal=journal) as (owner, _, turns):
        push = asyncio.create_task(owner.handle(pushed("a")))
        await until(lambda: rule.steps == 1)
        (running,) = tasks_of("Owner.run")
        running.cancel()
        for _ in range(10):
            await asyncio.sleep(0)
        late = asyncio.create_task(owner.handle(pushed("b")))
        for _ in range(10):
            await asyncio.sleep(0)
        assert not push.done()
        journal.on_disk.release()
        assert any(isinstance(effect, Settled) for effect in await push)
        assert any(isinstance(turn.event, Pushed) for turn in turns)
        with pytest.raises(Unavailable):
            await late


async def test_told_to_end_it_finishes_the_step_begun_begins_no_other_and_leaves_no_timer() -> None:
    rule = Held()
    async with owning(rule, stop=Stop(wall_s=60.0)) as (owner, _, _):
        for name in "ab":  # so that the second push is as good as the first
            await owner.handle(BaseTaken(caller(name), Version(1)))
        pushes = [asyncio.create_task(owner.handle(pushed(name))) for name in "ab"]
        await until(lambda: rule.inside == 1)
        assert len(tasks_of("Owner._tick_at")) == 1
        (running,) = tasks_of("Owner.run")
        running.cancel()
        await settle()
        assert not any(task.done() for task in (running, *pushes))
        rule.go.set()
        await asyncio.wait((running,))
        assert any(isinstance(effect, Settled) for effect in await pushes[0])
        with pytest.raises(Unavailable):
            await pushes[1]
        await settle()
        assert tasks_of("Owner.") == []
    assert rule.steps == 1


def tasks_of(coroutine: str) -> list[asyncio.Task[object]]:
    """The tasks at work on coroutines of this name."""
    return [task for task in asyncio.all_tasks() if coroutine in repr(task.get_coro())]


async def test_the_timer_is_armed_though_the_queue_is_never_empty() -> None:
    """Or a silent device would keep its place as long as others keep the aggregator busy."""
    rule = Held()
    rule.go.set()
    async with owning(rule, pace=Periodic(5.0, 1)) as (owner, clock, turns):
        ended = False

        async def ask_on() -> None:
            while not ended:
                await owner.transact(lambda core, _: core.newest.version, heavy=True)

        askers = [asyncio.create_task(ask_on()) for _ in range(6)]
        for name in "ab":
            await owner.handle(Subscribed(caller(name)))
        await clock.advance(6.0)
        await until(lambda: any(isinstance(turn.event, Tick) for turn in turns))
        ended = True
        await asyncio.gather(*askers)


async def test_what_counts_is_told_at_once_and_only_read_when_it_lasts() -> None:
    rule, journal, counted = Held(), Syncing(), list[Turn]()
    rule.go.set()
    async with owning(rule, journal=journal, counts=[counted.append]) as (owner, _, turns):
        await owner.handle(BaseTaken(caller("a"), Version(1)))
        counted.clear()
        turns.clear()
        push = asyncio.create_task(owner.handle(pushed("a")))
        read = asyncio.create_task(owner.read(lambda _: len(counted)))
        await until(lambda: len(counted) == 1)
        assert turns == []
        assert not read.done()
        journal.on_disk.release()
        await push
        assert await read == 1


async def test_what_comes_before_the_telling_follows_what_was_told_before() -> None:
    rule, journal, told = Held(), Syncing(), list[str]()
    rule.go.set()
    async with owning(rule, journal=journal) as (owner, _, turns):
        await owner.handle(BaseTaken(caller("a"), Version(1)))
        turns.clear()
        push = asyncio.create_task(owner.handle(pushed("a")))
        seat = asyncio.create_task(
            owner.transact(
                lambda _core, take: take(Subscribed(caller("b"))),
                before_telling=lambda: told.append(f"{len(turns)} told"),
            )
        )
        await until(lambda: rule.steps == 1)
        assert told == []
        journal.on_disk.release()
        await asyncio.gather(push, seat)
        assert told == ["1 told"]
