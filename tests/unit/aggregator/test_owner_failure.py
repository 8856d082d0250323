"""The owner when the rules break over an event: what is answered, written and never said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest
import torch
from hocket_aggregator.job import Core
from hocket_aggregator.journal.entries import Entry, Settled
from hocket_aggregator.journal.unjournalled import Unjournalled
from hocket_aggregator.owner import Owner
from hocket_aggregator.turn import Turn
from support.clock import ManualClock
from support.fragile import POISON, Fragile
from support.limits import LIMIT_S
from support.scalar import WORK, caller, device, update
from torch import Tensor

from hocket.core.coordinator import Coordinator
from hocket.core.events import DeviceSeen, Pushed, Subscribed, Tick
from hocket.core.ids import DeviceId, Version
from hocket.core.scheduling import Concurrent, Uniform
from hocket.core.strategy import Global
from hocket.core.triggering import CoordinatorRules
from hocket.core.update import Applied, Dropped, DropReason, Update
from hocket.errors import RulesFailed, Unavailable


class Kept(Unjournalled):
    """A journal in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.entries: list[Entry] = []

    def append(self, entry: Entry) -> int:
        self.entries.append(entry)
        return len(self.entries)

    @property
    def outcomes(self) -> list[object]:
        return [entry.outcome for entry in self.entries if isinstance(entry, Settled)]


@dataclass
class Owned:
    owner: Owner
    core: Core
    task: asyncio.Future[None]
    journal: Kept
    turns: list[Turn] = field(default_factory=list)

    async def end(self) -> BaseException | None:
        async with asyncio.timeout(LIMIT_S):
            await asyncio.wait((self.task,))
        return self.task.exception()


SOUND = Fragile()


@asynccontextmanager
async def owning(rule: Fragile = SOUND) -> AsyncIterator[Owned]:
    """An owner whose devices a, b and c hold version 1."""
    rules = CoordinatorRules(pace=Concurrent(1), selection=Uniform(), work=WORK)
    core: Core = Coordinator.begin(rules, rule, Global(torch.zeros(2)))
    journal, turns = Kept(), list[Turn]()
    owner = Owner(core, ManualClock(), [turns.append], journal)
    task = asyncio.ensure_future(owner.run())
    for name in "abc":
        await owner.handle(DeviceSeen(device(name)))
        core.versions.hold(DeviceId(name), Version(1))
    turns.clear()
    try:
        yield Owned(owner, core, task, journal, turns)
    finally:
        task.cancel()
        await asyncio.wait((task,))


def pushed(name: str, examples: int = 100) -> Pushed[Tensor]:
    made = replace(update(name, 1).header, num_examples=examples)
    return Pushed(Update(made, torch.ones(2)))


async def test_what_came_before_in_the_same_batch_is_answered_and_what_came_after_is_not() -> None:
    async with owning() as owned:
        before, broken, after, read = await asyncio.gather(
            owned.owner.handle(pushed("a")),
            owned.owner.handle(pushed("b", POISON)),
            owned.owner.handle(pushed("c")),
            owned.owner.read(lambda core: core.newest.version),
            return_exceptions=True,
        )
        assert isinstance(before, list)
        assert all(isinstance(answer, Unavailable) for answer in (broken, after, read))
        applied, given_up = owned.journal.outcomes
        assert applied == Applied(Version(2), 1.0, 0)
        assert isinstance(given_up, Dropped)
        assert (given_up.reason, given_up.tau) == (DropReason.RULES_FAILED, 1)
        assert [type(turn.event) for turn in owned.turns] == [Pushed, Pushed]
        assert isinstance(await owned.end(), RulesFailed)
        assert not owned.owner.is_sound
        with pytest.raises(Unavailable):
            await owned.owner.read(lambda core: core)


async def test_an_answer_that_was_given_before_stays() -> None:
    """The rules break after all they had to say of the update: the first answer counts."""
    async with owning() as owned:
        await owned.owner.handle(pushed("a"))
        owned.core._triggering.due = broken_rule  # type: ignore[method-assign,assignment]
        with pytest.raises(Unavailable):
            await owned.owner.handle(pushed("a"))
        assert owned.journal.outcomes == [Applied(Version(2), 1.0, 0)]
        assert isinstance(await owned.end(), RulesFailed)


async def test_a_model_that_can_have_no_digest_is_the_rules_failure() -> None:
    """Or its update would be pushed again, and end every life."""
    async with owning(Fragile(strided=True)) as owned:
        with pytest.raises(Unavailable):
            await owned.owner.handle(pushed("a", POISON))
        assert isinstance(await owned.end(), RulesFailed)
        (given_up,) = owned.journal.outcomes
        assert isinstance(given_up, Dropped)
        assert given_up.reason is DropReason.RULES_FAILED


def broken_rule(*_: object) -> list[object]:
    raise ZeroDivisionError("no pace")


@pytest.mark.parametrize("waits", [True, False])
async def test_rules_that_break_over_anything_else_end_it_too(*, waits: bool) -> None:
    async with owning() as owned:
        owned.core._triggering.due = broken_rule  # type: ignore[method-assign,assignment]
        if waits:
            with pytest.raises(Unavailable):
                await owned.owner.handle(Subscribed(caller("a")))
        else:
            owned.owner.post(Tick())
        ended = await owned.end()
        assert isinstance(ended, RulesFailed)
        assert ("Subscribed" if waits else "Tick") in ended.message
        assert owned.journal.entries == []


async def test_a_bug_outside_the_rules_is_the_askers_alone() -> None:
    def look(_: Core) -> None:
        raise ZeroDivisionError("a bug in a read")

    async with owning() as owned:
        with pytest.raises(ZeroDivisionError):
            await owned.owner.read(look)
        assert owned.owner.is_sound
        assert len(await owned.owner.handle(pushed("a"))) > 0
