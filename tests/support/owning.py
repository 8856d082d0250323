"""An owner around a rule whose steps wait until the test lets them go on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import torch
from hocket_aggregator.job import Core
from hocket_aggregator.journal import AnyJournal
from hocket_aggregator.journal import entries as journal_entries
from hocket_aggregator.journal.unjournalled import Unjournalled
from hocket_aggregator.owner import Owner
from hocket_aggregator.turn import Sink, Turn
from support.clock import ManualClock
from support.limits import LIMIT_S
from support.scalar import WORK, device
from support.scalar import update as scalar_update
from torch import Tensor

from hocket.core.coordinator import Coordinator
from hocket.core.events import DeviceSeen, Pushed
from hocket.core.ids import Version
from hocket.core.scheduling import Concurrent, Periodic, Uniform
from hocket.core.stop import Stop
from hocket.core.strategy import Global, Memory, Step
from hocket.core.triggering import CoordinatorRules
from hocket.core.update import Applied, Update


@dataclass
class Held:
    """A rule whose step waits until the test lets it go on; counts steps that overlap."""

    go: threading.Event = field(default_factory=threading.Event)
    inside: int = 0
    most_inside: int = 0
    steps: int = 0
    threads: list[str] = field(default_factory=list)
    kind: str = "held"

    def init(self, model: Tensor) -> None:
        """It remembers nothing."""

    def step(
        self,
        now: Global[Tensor],
        memory: None,
        update: Update[Tensor],
        base: Tensor,  # noqa: ARG002 -- the protocol's
    ) -> Step[Tensor, None]:
        self.inside += 1
        self.threads.append(threading.current_thread().name)
        self.most_inside = max(self.most_inside, self.inside)
        assert self.go.wait(LIMIT_S)
        self.inside -= 1
        self.steps += 1
        made = Global(now.model + update.delta, Version(now.version + 1))
        return Step(made, memory, Applied(made.version, 1.0, 0))

    def keep(self, memory: None) -> Memory[Tensor]:  # noqa: ARG002 -- the protocol's
        return Memory()

    def recall(self, kept: Memory[Tensor], model: Tensor) -> None:
        """It remembers nothing."""


class Written(Unjournalled):
    """A journal that remembers the order of what happened to it."""

    def __init__(self) -> None:
        self.log: list[str] = []

    def append(self, entry: journal_entries.Entry) -> int:
        self.log.append(type(entry).__name__)
        return len(self.log)

    def rotate(self) -> int:
        self.log.append("rotated")
        return 1


def pushed(name: str, base: int = 1) -> Pushed[Tensor]:
    of_floats = scalar_update(name, base)
    return Pushed(Update(of_floats.header, torch.ones(2)))


@asynccontextmanager
async def owning(
    rule: Held,
    *,
    pace: Concurrent | Periodic | None = None,
    stop: Stop | None = None,
    journal: AnyJournal | None = None,
    counts: Sequence[Sink] = (),
) -> AsyncIterator[tuple[Owner, ManualClock, list[Turn]]]:
    rules = CoordinatorRules(
        pace=pace or Concurrent(1), selection=Uniform(), work=WORK, stop=stop or Stop()
    )
    clock, turns = ManualClock(), list[Turn]()
    core: Core = Coordinator.begin(rules, rule, Global(torch.zeros(2)))
    owner = Owner(core, clock, [turns.append], journal, counts=counts)
    running = asyncio.ensure_future(owner.run())
    for name in "ab":
        await owner.handle(DeviceSeen(device(name)))
    turns.clear()
    try:
        yield owner, clock, turns
    finally:
        rule.go.set()
        running.cancel()
        await asyncio.wait((running,))


class Syncing(Written):
    """A journal whose entries are on the disk when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.on_disk = asyncio.Semaphore(0)

    async def synced(self, ticket: int) -> None:  # noqa: ARG002 -- one after the other is enough
        async with asyncio.timeout(LIMIT_S):
            await self.on_disk.acquire()
