"""Who is in a fleet: mixes, chance by name, uplinks, named devices, and plans on demand."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.simulations import fleet, ready, task

from hocket.core.capability import CostLine
from hocket.sim.fleet import SERVER_LINK, DevicePlan, FleetFile, Roster, read_fleet, read_roster
from hocket.sim.fleet.classes import DeviceClass
from hocket.sim.fleet.file import OwnDevice
from hocket.sim.fleet.links import LinkClass, Uplink
from hocket.sim.fleet.roster import shared_out

FLEETS = Path(__file__).parents[3] / "examples" / "fleets"
PHONE = DeviceClass("phone", per_example_s=0.02, spread=0.5)
BOARD = DeviceClass("board", per_example_s=0.1)
WIFI, LTE = LinkClass("wifi", 1e6, 4e6), LinkClass("lte", 6e4, 0.0, uplink="cell")


def seen(plan: DevicePlan) -> tuple[object, ...]:
    """Everything about a device that chance decides."""
    changes, moment = [], 0.0
    for _ in range(4):
        change = plan.availability.next_change(moment)
        if change is None:
            break
        changes.append((change, plan.availability.at(change)))
        moment = change
    return (
        plan.device_id,
        plan.device_class.name,
        plan.link.name,
        plan.slowness,
        plan.uplink,
        plan.shard,
        plan.rates.at(0.0),
        tuple(changes),
    )


@pytest.mark.parametrize("name", ["hundred", "commuters"])
def test_the_same_seed_gives_the_same_fleet_in_any_order_of_asking(name: str) -> None:
    fleet = read_fleet(FLEETS / f"{name}.toml")
    one, other = read_roster(fleet), read_roster(fleet, seed=1)
    forwards = [seen(one.plan(index)) for index in range(one.num_devices)]
    backwards = [seen(other.plan(index)) for index in reversed(range(one.num_devices))]
    assert forwards == backwards[::-1]
    assert [seen(one.plan(index)) for index in range(one.num_devices)] == forwards
    again = read_roster(fleet, seed=2)
    assert [seen(again.plan(index)) for index in range(one.num_devices)] != forwards


def test_the_hundred_are_twenty_cells_of_five() -> None:
    roster = read_roster(read_fleet(FLEETS / "hundred.toml"))
    plans = [roster.plan(index) for index in range(100)]
    cells = Counter((plan.device_class.name, plan.link.name) for plan in plans)
    assert len(cells) == 20
    assert set(cells.values()) == {5}
    assert [plan.shard for plan in plans] == list(range(100))
    ids = [plan.device_id for plan in plans]
    assert sorted(ids) == ids
    assert ids[7] == "device-07"
    of_one_class = {p.slowness for p in plans if p.device_class.name == "nano"}
    assert len(of_one_class) == 20
    assert {p.mid_training for p in plans} == {"vanish", "finish"}


def test_shares_become_whole_devices_by_largest_remainder() -> None:
    # Quotas 4.5, 3.15, 1.35: the halves go to the largest remainder, .5.
    assert shared_out(9, [0.5, 0.35, 0.15]) == [5, 3, 1]
    assert shared_out(2, [1.0, 1.0, 1.0]) == [1, 1, 0]
    assert shared_out(5, [0.0, 1.0]) == [0, 5]


@given(st.integers(1, 500), st.lists(st.floats(0.01, 100.0), min_size=1, max_size=6))
def test_nobody_is_lost_in_the_parts(count: int, weights: list[float]) -> None:
    parts = shared_out(count, weights)
    assert sum(parts) == count
    for part, weight in zip(parts, weights, strict=True):
        assert abs(part - count * weight / sum(weights)) < 1.0 + 1e-9


def test_a_class_deals_out_its_own_links() -> None:
    phone = DeviceClass("phone", per_example_s=0.02, share=3.0, links={"wifi": 2.0, "lte": 1.0})
    board = DeviceClass("board", per_example_s=0.1, links={"wifi": 1.0})
    fleet = FleetFile(
        devices=40, classes=(phone, board), links=(WIFI, LTE), uplinks=(Uplink("cell"),)
    )
    roster = Roster(fleet, 3)
    plans = [roster.plan(index) for index in range(40)]
    cells = Counter((plan.device_class.name, plan.link.name) for plan in plans)
    assert cells == {("phone", "wifi"): 20, ("phone", "lte"): 10, ("board", "wifi"): 10}
    assert {plan.rates.at(9.0) for plan in plans if plan.link == LTE} == {(6e4, math.inf)}
    assert {plan.rates.next_change(0.0) for plan in plans} == {None}


def test_devices_of_a_class_differ_by_their_spread() -> None:
    roster = Roster(FleetFile(devices=2000, classes=(PHONE,)), 5)
    logs = [math.log(roster.plan(index).slowness) for index in range(2000)]
    assert statistics.fmean(logs) == pytest.approx(0.0, abs=0.05)
    assert statistics.stdev(logs) == pytest.approx(0.5, rel=0.1)
    plan = roster.plan(3)
    assert plan.own_costs[0].step_s(10) == pytest.approx(0.2 * plan.slowness)
    assert plan.costs[0].step_s(10) == pytest.approx(0.2)
    steady = Roster(FleetFile(devices=2, classes=(BOARD,)), 5)
    assert steady.plan(1).slowness == 1.0


def test_neighbours_by_number_share_an_uplink() -> None:
    cell, office = Uplink("cell", 1e6, devices_each=3), Uplink("office", 2e6)
    fleet = FleetFile(
        devices=30,
        classes=(PHONE,),
        links=(WIFI, LTE, LinkClass("lan", uplink="office")),
        uplinks=(cell, office),
    )
    roster = Roster(fleet, 3)
    plans = [roster.plan(index) for index in range(30)]
    assert [uplink.name for uplink in roster.uplinks] == ["cell"] * 4 + ["office"]
    assert [p.uplink for p in plans if p.link == LTE] == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3]
    assert {p.uplink for p in plans if p.link == WIFI} == {SERVER_LINK}
    assert {p.uplink for p in plans if p.link.name == "lan"} == {4}


def test_few_shards_are_held_by_several_devices() -> None:
    roster = Roster(FleetFile(devices=7, data_shards=3, classes=(BOARD,)), 0)
    assert [roster.plan(index).shard for index in range(7)] == [0, 1, 2, 0, 1, 2, 0]


def test_devices_may_be_named() -> None:
    fleet = FleetFile(
        classes=(PHONE, DeviceClass("board", per_example_s=0.1, links={"wifi": 1.0})),
        links=(WIFI, LTE),
        uplinks=(Uplink("cell"),),
        own_devices=(OwnDevice("kitchen", "board", shard=1), OwnDevice("ann", "phone", "lte")),
    )
    roster = Roster(fleet, 1)
    kitchen, ann = roster.plan(0), roster.plan(1)
    assert (kitchen.device_id, kitchen.device_class.name, kitchen.shard) == ("kitchen", "board", 1)
    assert kitchen.link == WIFI
    assert (ann.device_id, ann.link, ann.shard, ann.uplink) == ("ann", LTE, 1, 0)
    assert kitchen.availability.at(1e9)
    assert kitchen.availability.next_change(0.0) is None


@pytest.mark.parametrize("index", [-1, 3])
def test_there_is_no_device_beyond_the_last(index: int) -> None:
    roster = Roster(FleetFile(devices=3, classes=(BOARD,)), 1)
    with pytest.raises(IndexError, match=f"no device {index} of 3"):
        roster.plan(index)


def test_a_hundred_thousand_devices_are_but_a_few_numbers_each() -> None:
    roster = Roster(FleetFile(devices=100_000, preset="whale"), 1)
    kept = (roster._class_of, roster._link_of, roster._uplink_of)
    assert sum(numbers.nbytes for numbers in kept) <= 12 * 100_000
    assert roster.plan(99_999).device_id == "device-99999"


def test_a_speed_that_was_measured_on_one_net_is_translated_to_another() -> None:
    """The MLP of 64, 16 and 10 has 64 * 16 + 16 * 10 = 1,184 multiply-accumulates an example."""
    classes = (
        {"name": "known", "per_example_s": 0.01, "fixed_s": 0.002, "macs": 4 * 1184},
        {"name": "any", "per_example_s": 0.01},
    )
    roster = ready(task(), fleet(2, classes=classes)).roster
    lines = {(plan := roster.plan(at)).device_class.name: plan.costs[0] for at in range(2)}
    assert lines["known"] == CostLine(1.0, 0.0005, 0.0025)
    assert lines["any"] == CostLine(1.0, 0.0, 0.01)
    unknown = Roster(FleetFile(devices=1, classes=(replace(BOARD, macs=10),)), 1)
    assert unknown.plan(0).costs == BOARD.lines
