"""What the coordinator tells a selection of the updates that it took."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest
from support.scalar import WORK, Halfway, caller, coordinator, device, update

from hocket.core import events as ev
from hocket.core.chance import Stream
from hocket.core.coordinator import Coordinator
from hocket.core.ids import DeviceId, Version
from hocket.core.past import Answered
from hocket.core.scheduling import Concurrent, Oort, Pool, Seen, Tifl
from hocket.core.strategy import Global
from hocket.core.triggering import CoordinatorRules
from hocket.core.update import Applied


@dataclass
class Listening:
    """Takes the first of the idle devices, and keeps all that it is told."""

    told: list[Seen] = field(default_factory=list)
    kind: str = "listening"

    def begin(self) -> list[Seen]:
        return self.told

    def learn(self, memory: list[Seen], seen: Seen) -> None:
        memory.append(seen)

    def choose(
        self,
        pool: Pool,
        count: int,
        chance: Stream,  # noqa: ARG002 -- the protocol's
        memory: list[Seen],
    ) -> list[DeviceId]:
        assert memory is self.told
        return [pool.device_id(rank) for rank in range(min(count, len(pool)))]


def listened(selection: object) -> Coordinator[float, None]:
    """Device `a` was seen at 0 s and triggered at 5 s."""
    # AnySelection lists the kinds that a task file can name; the rules take any.
    kind = cast("Any", selection)
    rules = CoordinatorRules(Concurrent(1), kind, WORK, staleness_limit=1, seed=7)
    c = Coordinator.begin(rules, Halfway(), Global(0.0))
    c.handle(ev.DeviceSeen(device("a")), 0.0)
    [trigger] = c.handle(ev.Subscribed(caller("a")), 5.0)
    assert isinstance(trigger, ev.SendTrigger)
    return c


def pushed(c: Coordinator[float, None], base: int, at: float, **said: float) -> None:
    told = update("a", base)
    header = replace(told.header, train_loss=0.5, **cast("Any", said))
    c.handle(ev.Pushed(replace(told, header=header)), at)


def test_each_accepted_update_is_told_once() -> None:
    listening = Listening()
    c = listened(listening)
    pushed(c, 1, at=17.0, train_loss_rms=0.75, num_examples=40)
    pushed(c, 1, at=18.0, train_loss_rms=0.75, num_examples=40)  # the answer was lost on its way
    first = Seen(DeviceId("a"), 40, 0.75, took_s=12.0, version=Version(2), now=17.0)
    assert listening.told == [first]
    pushed(c, 2, at=31.0)  # it rested, and was triggered again at 18 s; it tells no squares
    assert listening.told == [first, Seen(DeviceId("a"), 100, 0.5, 13.0, Version(3), 31.0)]


def test_a_dropped_update_and_a_relived_one_teach_nothing() -> None:
    listening = Listening()
    c = listened(listening)
    for base in (1, 2, 3):
        pushed(c, base, at=10.0 + base)
    del listening.told[:]
    late = update("a", 1, update_id="late")  # three versions old, where the limit is one
    c.handle(ev.Pushed(late), 20.0)
    assert c.settled(late.header) is not None
    assert listening.told == []
    again, listening = coordinator(staleness_limit=1), Listening()
    again.relive(Answered(update("a", 1), Applied(Version(2), 0.5, 0)))
    assert again.newest.version == 2
    assert listening.told == []


def test_a_loss_below_nothing_counts_as_nothing() -> None:
    listening = Listening()
    c = listened(listening)
    told = update("a", 1)
    c.handle(ev.Pushed(replace(told, header=replace(told.header, train_loss=-3.0))), 6.0)
    assert listening.told[0].loss_rms == 0.0


@pytest.mark.parametrize("selection", [Oort(cut_off=0.0), Tifl(tiers=2, every=5)])
def test_what_devices_teach_changes_who_is_asked(selection: Oort | Tifl) -> None:
    """One of two devices at a time: the one that has most to learn is asked more often."""
    rules = CoordinatorRules(Concurrent(1), selection, WORK, staleness_limit=99, seed=7)
    c = Coordinator.begin(rules, Halfway(), Global(0.0))
    effects: list[ev.Effect[float]] = []
    for name, step_s in (("a", 0.1), ("b", 0.2)):
        c.handle(ev.DeviceSeen(device(name, step_s=step_s)), 0.0)
        effects += c.handle(ev.Subscribed(caller(name)), 0.0)
    asked: list[str] = []
    now = 0.0
    for turn in range(1, 401):
        [name] = [e.caller.device_id for e in effects if isinstance(e, ev.SendTrigger)]
        asked.append(name)
        told = update(name, c.newest.version, update_id=str(turn))
        header = replace(told.header, train_loss_rms=5.0 if name == "b" else 0.5)
        now += 2.0 if name == "a" else 2.5
        effects = c.handle(ev.Pushed(replace(told, header=header)), now)
    later = asked[100:]
    assert later.count(DeviceId("b")) > 1.2 * later.count(DeviceId("a")) > 0
