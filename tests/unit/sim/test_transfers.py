"""Transfers: their ends by hand, what bottlenecks share, loss by chance, and cuts."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hocket.core.chance import Stream
from hocket.sim.agenda import Agenda
from hocket.sim.fleet import DevicePlan, FleetFile, Roster
from hocket.sim.fleet.classes import DeviceClass
from hocket.sim.fleet.csv_trace import TracedRates
from hocket.sim.fleet.file import Server
from hocket.sim.fleet.links import LinkClass, Uplink
from hocket.sim.fleet.steps import Steps
from hocket.sim.transfers import Transfer, Transfers

PHONE = DeviceClass("phone", per_example_s=0.02)
SLOW = LinkClass("slow", up_bytes_per_s=500.0, down_bytes_per_s=1000.0, rtt_s=0.2)
FREE = LinkClass("free", rtt_s=0.2)


@dataclass
class Wires:
    """A fleet's transfers, and what was told of them: by name, or by device."""

    link: LinkClass = FREE
    devices: int = 10
    server: Server = field(default_factory=Server)
    uplinks: tuple[Uplink, ...] = ()
    seed: int = 1
    agenda: Agenda = field(default_factory=Agenda)
    done: dict[object, float] = field(default_factory=dict)  # seconds
    broke: dict[object, int] = field(default_factory=dict)  # bytes
    told_s: dict[object, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        fleet = FleetFile(
            devices=self.devices,
            classes=(PHONE,),
            links=(self.link,),
            uplinks=self.uplinks,
            server=self.server,
        )
        self.roster = Roster(fleet, seed=7)
        self.transfers = Transfers(self.agenda, self.roster, fleet, self.seed)

    def pull(self, device: int, size: int, name: object = None) -> Transfer:
        return self.begin(self.transfers.pull, self.roster.plan(device), size, name)

    def push(self, device: int, size: int, name: object = None) -> Transfer:
        return self.begin(self.transfers.push, self.roster.plan(device), size, name)

    def begin(
        self, begin: Callable[..., Transfer], plan: DevicePlan, size: int, name: object = None
    ) -> Transfer:
        name = plan.index if name is None else name
        return begin(plan, size, partial(self._done, name), partial(self._broke, name))

    def run(self, until_s: float = math.inf) -> None:
        """Let all happen, or all that comes before a moment."""
        if until_s < math.inf:
            self.agenda.at(until_s, lambda: None)
        self.agenda.run(lambda: self.agenda.now >= until_s)

    def _done(self, name: object, seconds: float) -> None:
        self._told(name)
        self.done[name] = seconds

    def _broke(self, name: object, num_bytes: int) -> None:
        self._told(name)
        self.broke[name] = num_bytes

    def _told(self, name: object) -> None:
        assert name not in self.told_s, "told twice"
        self.told_s[name] = self.agenda.now


# --- ends


def test_by_hand_a_round_trip_and_then_the_bytes() -> None:
    wires = Wires(SLOW)
    wires.run(5.0)  # seconds count from the call
    wires.pull(0, 1500)
    wires.push(1, 1500)
    wires.run()
    assert wires.done == pytest.approx({0: 0.2 + 1.5, 1: 0.2 + 3.0})
    assert wires.told_s == pytest.approx({0: 5.0 + 1.7, 1: 5.0 + 3.2})
    assert not wires.broke


def test_nothing_to_carry_and_no_limit_take_one_round_trip() -> None:
    wires = Wires()
    wires.pull(0, 10**12)
    wires.push(1, 10**12)
    wires.push(2, 0)
    wires.run()
    assert wires.done == pytest.approx({0: 0.2, 1: 0.2, 2: 0.2})


def test_what_takes_no_time_is_not_told_before_the_call_returns() -> None:
    wires = Wires(LinkClass("none"))
    wires.pull(0, 10**9)
    wires.push(1, 0)
    assert not wires.done
    wires.run()
    assert wires.done == {0: 0.0, 1: 0.0}


@pytest.mark.parametrize("flows", [1, 2, 7])
def test_n_equal_flows_through_one_uplink_take_n_times_as_long(flows: int) -> None:
    cell = Uplink("cell", up_bytes_per_s=100.0, down_bytes_per_s=400.0)
    wires = Wires(replace(FREE, uplink="cell"), uplinks=(cell,))
    for device in range(flows):
        wires.push(device, 50)
    wires.pull(9, 400, "the other way")
    wires.run()
    assert wires.done.pop("the other way") == pytest.approx(0.2 + 1.0)
    assert wires.done == pytest.approx(dict.fromkeys(range(flows), 0.2 + flows * 50 / 100.0))


def test_each_instance_of_an_uplink_is_a_bottleneck_of_its_own() -> None:
    cell = Uplink("cell", up_bytes_per_s=100.0, devices_each=4)
    crowded = Server(up_bytes_per_s=1.0, down_bytes_per_s=1.0)  # not on their way
    wires = Wires(replace(FREE, uplink="cell"), uplinks=(cell,), server=crowded)
    for device in range(10):
        wires.push(device, 50)
    wires.run()
    full, two = 0.2 + 4 * 0.5, 0.2 + 2 * 0.5
    assert wires.done == pytest.approx({d: full if d < 8 else two for d in range(10)})


def test_without_an_uplink_all_share_the_servers_link_and_run_at_most_at_their_own() -> None:
    # Push: 1,200 B/s for three, at most 500 each: 400 each. Pull: 1,200 B/s for one, at most 1,000.
    wires = Wires(SLOW, server=Server(up_bytes_per_s=1200.0, down_bytes_per_s=1200.0))
    for device in range(3):
        wires.push(device, 800)
    wires.pull(3, 800)
    wires.run()
    assert wires.done == pytest.approx({0: 2.2, 1: 2.2, 2: 2.2, 3: 1.0})


# --- rates that change


def traced(plan: DevicePlan, *steps: tuple[float, float], period_s: float = 0.0) -> DevicePlan:
    """The same device, with (from when, bytes a second up); downloads carry ten times as much."""
    up = np.array([rate for _, rate in steps])
    starts = [start for start, _ in steps]
    return replace(plan, rates=TracedRates(Steps(starts, period_s), up, 10.0 * up))


def test_by_hand_the_rate_changes_in_mid_transfer() -> None:
    # Bytes pass from 0.2 on: 180 until 2.0, at 50 B/s 100 until 4.0, the last 220 in 2.2 s.
    wires = Wires()
    plan = traced(wires.roster.plan(0), (0.0, 100.0), (2.0, 50.0), (4.0, 100.0))
    wires.begin(wires.transfers.push, plan, 500, "push")
    wires.begin(wires.transfers.pull, plan, 5000, "pull")
    wires.run()
    assert wires.done == pytest.approx({"push": 6.2, "pull": 6.2})


def test_by_hand_nothing_passes_while_the_rate_is_0() -> None:
    # Nothing before 1.0; 100 B at the server's 100 B/s until 2.0; nothing until the plan, begun
    # anew at 5.0, lets it go on at 6.0. Meanwhile the other passes 280 of its 300 B. At 50 B/s
    # each, its last 20 take until 6.4; the first has passed 120 then, 180 of 250 B at 7.0, and the
    # rest from 11.0 on.
    wires = Wires(server=Server(up_bytes_per_s=100.0))
    plan = traced(wires.roster.plan(0), (0.0, 0.0), (1.0, 150.0), (2.0, 0.0), period_s=5.0)
    wires.begin(wires.transfers.push, plan, 250)
    wires.run(3.0)
    wires.push(1, 300)
    wires.run(20.0)  # its plan goes on for ever
    assert wires.done == pytest.approx({0: 11.7, 1: 3.4})


def test_a_link_that_never_carries_anything_again_leaves_nothing_on_the_agenda() -> None:
    wires = Wires()
    plan = traced(wires.roster.plan(0), (0.0, 100.0), (2.0, 0.0))
    transfer = wires.begin(wires.transfers.push, plan, 500)
    wires.run()
    assert not wires.told_s
    assert transfer.cut() == 180


# --- cuts


def test_a_cut_transfer_says_what_had_passed_and_nothing_else() -> None:
    wires = Wires(SLOW)
    waiting, passing, ended = wires.pull(0, 999), wires.pull(1, 999), wires.pull(2, 9)
    wires.run(0.1)
    assert waiting.cut() == 0
    wires.run(0.9504)  # 0.7504 s at 1,000 B/s
    assert passing.cut() == 750
    assert passing.cut() == 750
    wires.run()
    assert ended.cut() == 9
    assert list(wires.told_s) == [2]
    assert len(wires.agenda) == 0


def test_what_is_cut_leaves_its_part_to_the_others() -> None:
    # 100 B/s: 50 each until 1.2, then all of it for the last 50 of 100 B.
    wires = Wires(server=Server(up_bytes_per_s=100.0))
    one, _ = wires.push(0, 100), wires.push(1, 100)
    wires.run(1.2)
    assert one.cut() == 50
    wires.run()
    assert wires.done == pytest.approx({1: 1.7})


@given(
    st.lists(st.tuples(st.floats(0.0, 9.0), st.integers(0, 600), st.floats(0.0, 9.0)), max_size=20)
)
def test_bytes_are_conserved_under_cuts_and_breaks(plans: list[tuple[float, int, float]]) -> None:
    """The link is never idle from 0.2 to 10 s, so 100 B/s times that have passed."""
    wires = Wires(replace(FREE, loss=0.3), devices=21, server=Server(up_bytes_per_s=100.0))
    always = wires.transfers.push(
        replace(wires.roster.plan(20), link=FREE), 10**9, lambda _: None, lambda _: None
    )
    begun: dict[int, Transfer] = {}

    def cut(number: int) -> None:
        begun[number].cut()

    def begin(number: int, size: int, stay_s: float) -> None:
        begun[number] = wires.push(number, size)
        wires.agenda.after(stay_s, partial(cut, number))

    for number, (at_s, size, stay_s) in enumerate(plans):
        wires.agenda.at(at_s, partial(begin, number, size, stay_s))
    wires.run(10.0)
    passed = {number: transfer.cut() for number, transfer in begun.items()}
    whole = sum(passed.values()) + always.cut()
    assert 100 * 9.8 - len(plans) - 2 <= whole <= 100 * 9.8 + 1e-6
    for number, (_, size, _) in enumerate(plans):
        assert 0 <= passed[number] <= size
        if number in wires.done:
            assert passed[number] == size
        if number in wires.broke:
            assert passed[number] == wires.broke[number]


# --- loss


def test_transfers_break_off_as_often_as_their_link_says_at_a_uniform_place() -> None:
    devices, each, loss, size = 40, 100, 0.25, 10**6
    wires = Wires(replace(SLOW, loss=loss), devices)
    for device in range(devices):
        for number in range(each):
            begin = wires.pull if number % 2 else wires.push
            begin(device, size, (device, number))
    wires.run()
    total, breaks = devices * each, len(wires.broke)
    assert len(wires.done) == total - breaks
    assert abs(breaks - loss * total) < 4.0 * math.sqrt(total * loss * (1.0 - loss))
    # Kolmogorov and Smirnov: a uniform sample exceeds 1.95 / sqrt(n) once in a thousand times.
    places = sorted(num_bytes / size for num_bytes in wires.broke.values())
    assert places[0] >= 0.0
    assert places[-1] < 1.0
    distance = max(
        max(place - rank / breaks, (rank + 1) / breaks - place) for rank, place in enumerate(places)
    )
    assert distance < 1.95 / math.sqrt(breaks)
    for (device, number), num_bytes in wires.broke.items():  # type: ignore[misc] # these names
        rate = 1000.0 if number % 2 else 500.0
        told_s = 0.2 + num_bytes / rate + 0.1
        assert wires.told_s[device, number] == pytest.approx(told_s)


def test_a_transfer_that_broke_off_can_be_cut_before_it_is_known() -> None:
    wires = Wires(replace(SLOW, loss=0.999))
    transfer = wires.push(0, 1000)
    wires.run()
    (num_bytes,) = wires.broke.values()
    again = Wires(wires.link)
    transfer = again.push(0, 1000)
    again.run(0.2 + num_bytes / 500.0 + 0.05)
    assert transfer.cut() == num_bytes
    again.run()
    assert not again.told_s


def fates(wires: Wires, device: int) -> list[object]:
    return [
        wires.broke.get((device, number), wires.done.get((device, number))) for number in range(20)
    ]


def lossy(order: list[int], seed: int = 1) -> Wires:
    """Each time a device comes up, its next transfer begins."""
    wires, numbers = Wires(replace(SLOW, loss=0.5), seed=seed), dict.fromkeys(range(10), 0)
    for device in order:
        wires.pull(device, 1000, (device, numbers[device]))
        numbers[device] += 1
    wires.run()
    return wires


def test_the_fate_of_a_devices_transfers_depends_on_no_other_device() -> None:
    alone, among = lossy([3] * 20), lossy([d for _ in range(20) for d in (9, 3, 0)])
    backwards = lossy([0] * 20 + [9] * 20 + [3] * 20)
    assert fates(alone, 3) == fates(among, 3) == fates(backwards, 3)
    assert fates(among, 9) == fates(backwards, 9) != fates(among, 3)
    assert fates(lossy([3] * 20, seed=2), 3) != fates(alone, 3)


# --- the rest


def test_nothing_is_kept_of_a_transfer_that_has_ended() -> None:
    class Told:
        def __call__(self, _: float) -> None:
            pass

    wires, size = Wires(), 10
    for end in ("done", "cut"):
        told = Told()
        kept = weakref.ref(told)
        transfer = wires.transfers.pull(wires.roster.plan(0), size, told, told)
        del told
        if end == "cut":
            transfer.cut()
        wires.run()
        assert kept() is None
        assert transfer.cut() == (0 if end == "cut" else size)


def test_many_transfers_are_as_many_entries_and_no_more() -> None:
    """One for its first byte, one for its end: that of a link's next end, made anew."""
    wires, chance = Wires(SLOW, server=Server(up_bytes_per_s=800.0)), Stream(3, "sizes")
    for number in range(500):
        wires.push(number % 10, chance.below(10_000), number)
    assert len(wires.agenda) == 500
    wires.run()
    assert len(wires.done) == 500
    assert wires.agenda.handled <= 1000


def test_a_negative_size_is_refused() -> None:
    wires = Wires()
    with pytest.raises(ValueError, match="num_bytes is -1"):
        wires.pull(0, -1)
