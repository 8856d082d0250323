"""A round's deadline in the owner's hands: the loop does not wait for the server step."""

from __future__ import annotations

import asyncio
import threading
from typing import ClassVar

import torch
from hocket_aggregator.job import Core
from hocket_aggregator.journal.entries import Closed, Concluded
from hocket_aggregator.journal.turns import entries_of
from hocket_aggregator.owner import Owner
from hocket_aggregator.turn import Turn
from support.aggregating import until
from support.clock import ManualClock
from support.scalar import WORK, caller, device
from support.strategies import push
from torch import Tensor

from hocket.core.coordinator import Coordinator
from hocket.core.events import BaseTaken, DeviceSeen, Pushed, Subscribed
from hocket.core.ids import Version
from hocket.core.scheduling import Rounds, Uniform
from hocket.core.stop import Stop
from hocket.core.strategy import Global, Step
from hocket.core.triggering import CoordinatorRules
from hocket.learn.digest import digest_of
from hocket.learn.strategies import FedAvg
from hocket.learn.strategies.rounds import Round


class Watched(FedAvg):
    """FedAvg that says in which thread a round was closed."""

    threads: ClassVar[list[int]] = []

    def close(self, now: Global[Tensor], memory: Round) -> Step[Tensor, Round] | None:
        self.threads.append(threading.get_ident())
        return super().close(now, memory)


async def test_a_round_is_closed_in_a_thread_and_written_down() -> None:
    rules = CoordinatorRules(Rounds(3, deadline_s=30.0), Uniform(), WORK, Stop(versions=2))
    core: Core = Coordinator.begin(rules, Watched(cohort=3), Global(torch.zeros(2)))
    clock, turns = ManualClock(), list[Turn]()
    owner = Owner(core, clock, [turns.append])
    running = asyncio.ensure_future(owner.run())
    for name in "abc":
        await owner.handle(DeviceSeen(device(name)))
        await owner.handle(Subscribed(caller(name)))
    await clock.advance(10.0)
    await owner.handle(BaseTaken(caller("a"), Version(1)))
    await owner.handle(Pushed(push(torch.ones(2), device="a")))
    await clock.advance(19.0)
    assert core.newest.version == 1
    Watched.threads.clear()
    await clock.advance(1.0)  # 30 s after the first trigger
    await until(lambda: core.newest.version == 2)
    await owner.read(lambda _: None)
    (thread,) = Watched.threads
    assert thread != threading.get_ident()
    digest = digest_of(torch.ones(2))
    assert owner.newest_digest == digest
    assert entries_of(turns[-1]) == [
        Closed(Version(2), digest, clock.unix()),
        Concluded("version 2 of 2 reached"),
    ]
    running.cancel()
    await asyncio.wait((running,))
