"""What goes wrong with devices, links and clocks: the simulator must do as the services would."""

from __future__ import annotations

import gc
import random
import sys
import weakref
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from support.simulations import (
    PHONE,
    Rows,
    fleet,
    ready,
    simulation,
    stopwatch,
    task,
    traced,
)

from hocket.core import events as ev
from hocket.core.payload import Payload
from hocket.core.sizing.size import WHOLE
from hocket.errors import NotFinite
from hocket.learn.flat import flatten
from hocket.sim.fleet import FleetFile
from hocket.sim.result import Result
from hocket.sim.server import Turn
from hocket.sim.simulation import Simulation
from hocket.sim.workshop import TorchWorkshop
from hocket.task import Task

ALONE = {"kind": "concurrent", "devices": 1}
REFRESHING = {"kind": "fixed", "slot": 1}


def there(*steps: tuple[float, bool], mid_training: str = "vanish", **phone: Any) -> dict[str, Any]:
    """Tables of a fleet of phones that come and go by a plan, over and over."""
    plan = {"name": "on", "kind": "windows", "steps": steps, "mid_training": mid_training}
    return {"classes": [PHONE | {"availability": "on"} | phone], "availability": [plan]}


def link(**values: float) -> dict[str, Any]:
    return {"name": "lte"} | values


def impatient(running: Simulation) -> None:
    """A watch that fails where virtual time stands still, or never ends."""
    assert running.agenda.handled < 5_000, f"it still runs at {running.agenda.now} s"


# --- the server's clock and the end


def test_a_stop_by_time_that_rounding_hides_from_its_own_deadline_still_comes() -> None:
    assert (1.1 + 0.9) - 1.1 < 0.9  # what the rules compare, in floating point
    some_fleet = fleet(1, **there((1.1, False), (1000.0, True)), stop={"virtual_s": 0.0})
    result = simulation(task(stop={"wall_s": 0.9}), some_fleet, watch=impatient).run()
    assert result.reason == "0.9 s are over"
    assert result.virtual_s == pytest.approx(2.0, abs=0.01)


def test_evaluations_on_a_grid_do_not_keep_a_dead_fleet_going() -> None:
    some_fleet = fleet(2, **there((1e9, False)), evaluation={"every_s": 1.0}, stop={"versions": 3})
    result = simulation(task(), some_fleet, watch=impatient).run()
    assert "no device will come back" in result.reason
    assert result.virtual_s <= 1.0


def test_a_round_that_can_never_be_complete_says_who_waits() -> None:
    away = {"name": "never", "kind": "windows", "steps": [[1e9, False]]}
    classes = [PHONE, {"name": "gone", "per_example_s": 0.01, "availability": "never"}]
    some_task = task(strategy={"kind": "fedavg", "cohort": 4}, pace={"kind": "rounds", "cohort": 4})
    half = fleet(4, classes=classes, availability=[away], stop={"versions": 3})
    result = simulation(some_task, half, watch=impatient).run()
    assert "the 2 that are there wait for others" in result.reason
    assert result.counts.updates_accepted == 2


def test_the_last_version_is_judged_though_another_was_at_the_same_moment() -> None:
    phone = PHONE | {"per_example_s": 1.0 / 128.0}  # two epochs of 50 examples take 100 / 128 s
    at_once = fleet(4, classes=[phone], evaluation={"every_s": 100.0 / 128.0}, stop={"versions": 2})
    result = simulation(task(), at_once).run()
    assert result.virtual_s == 100.0 / 128.0
    assert [point.version for point in result.curve][-1] == result.newest.version == 2


def test_versions_of_one_moment_are_judged_once() -> None:
    some_task = task(pace={"kind": "concurrent", "devices": 4}, evaluation={"every_versions": 1})
    result = simulation(some_task, fleet(stop={"versions": 8})).run()
    points = Counter((point.at_s, point.version) for point in result.curve)
    assert result.counts.updates_accepted == 7
    assert set(points.values()) == {1}


def test_work_is_counted_until_the_end_and_no_further() -> None:
    result = simulation(task(pace=ALONE), fleet(1, stop={"virtual_s": 3.0})).run()
    assert result.devices[0].busy_s == pytest.approx(3.0)  # of 4


# --- triggers and subscriptions


def test_a_trigger_of_a_stream_that_broke_is_void() -> None:
    """The device is back before it would have arrived, and is asked anew: it trains once."""
    some_fleet = fleet(
        1,
        **there((0.5, True), (0.1, False), (1000.0, True)),
        link=[link(rtt_s=2.0)],
        stop={"versions": 2},
    )
    result, rows = traced(task(pace=ALONE), some_fleet)
    assert [row.at_s for row in rows.of("trigger")] == pytest.approx([0.0, 0.6])
    assert [row.at_s for row in rows.of("pull")] == pytest.approx([0.6 + 1.0 + 2.0])
    assert result.virtual_s == pytest.approx(3.6 + 4.0 + 2.0)


def test_a_device_that_finishes_is_not_asked_for_another_training() -> None:
    plan = there((3.0, True), (4.0, False), mid_training="finish")
    some_fleet = fleet(1, **plan, link=[link(rtt_s=0.1)], stop={"virtual_s": 6.9})
    result, rows = traced(task(pace=ALONE), some_fleet)
    # Half a round trip for the trigger, one to pull, 4 s of work, one to push, half for the answer.
    assert [row.at_s for row in rows.of("leave")] == pytest.approx([4.3])
    assert (result.counts.triggers, result.counts.trainings) == (1, 1)


def test_a_device_that_is_back_before_it_has_finished_goes_on() -> None:
    plan = there((3.0, True), (4.0, False), mid_training="finish", per_example_s=0.02)
    result, rows = traced(task(pace=ALONE), fleet(1, **plan, stop={"virtual_s": 9.0}))
    assert [row.at_s for row in rows.of("settle")] == pytest.approx([8.0])
    assert [row.at_s for row in rows.of("pull")] == pytest.approx([0.0, 8.0])
    assert not rows.of("leave")
    assert result.newest.version == 2


def test_the_registry_hears_which_share_of_its_processor_a_device_has_now() -> None:
    plan = there((0.5, True), (1.0, False), (1e3, True), share_schedule=[(1.0, 1.0), (1e3, 0.5)])
    some_fleet = fleet(1, **plan, server={"lease_s": 0.5}, stop={"virtual_s": 2.0})
    running = simulation(task(), some_fleet)
    running.run()
    (member,) = running.server.core.fleet
    capability = member.device.capability
    assert capability.processor_share == 0.5
    assert capability.training_s(3, 8) == pytest.approx(3 * 8 * 0.01 / 0.5)


def test_the_registry_hears_it_after_a_training_though_the_link_is_as_it_was() -> None:
    phone = PHONE | {"share_schedule": [(3.0, 1.0), (1e3, 0.5)]}
    running = simulation(task(pace=ALONE), fleet(1, classes=[phone], stop={"versions": 3}))
    running.run()
    (member,) = running.server.core.fleet
    assert member.device.capability.processor_share == 0.5


# --- calls


def test_whoever_is_away_trains_on_without_the_fresh_model() -> None:
    some_fleet = fleet(1, **there((1.0, True), (9.0, False)), stop={"versions": 2})
    result, rows = traced(task(pace=ALONE, refresh=REFRESHING), some_fleet)
    assert [row.at_s for row in rows.of("epoch")] == pytest.approx([2.0, 4.0])
    assert [(row.version, row.seconds, row.bytes) for row in rows.of("fresh")] == [(-1, 0.0, -1)]
    assert result.virtual_s == pytest.approx(10.0)


def test_a_fresh_model_takes_one_round_trip_whether_there_is_one_or_not() -> None:
    quick = PHONE | {"name": "quick", "per_example_s": 0.003}
    some_fleet = fleet(
        None,
        classes=[PHONE, quick],
        device=[{"name": "one", "class": "phone"}, {"name": "two", "class": "quick"}],
        link=[link(rtt_s=1.0)],
        stop={"virtual_s": 30.0},
    )
    result, rows = traced(task(refresh=REFRESHING), some_fleet)
    assert 0 < result.counts.merges < result.counts.fresh_pulls
    ends = {(row.device, row.training): row.at_s for row in rows.of("epoch") if row.slot == 1}
    for row in rows.of("fresh"):
        assert row.at_s - ends[row.device, row.training] == pytest.approx(1.0)
        assert row.seconds == pytest.approx(1.0)
        assert (row.bytes > 0) == (row.version > 0)
    whole = {row.bytes for row in rows.of("pull")}
    assert {row.bytes for row in rows.of("fresh") if row.version > 0} == whole
    seconds = [row.seconds for row in rows.of("pull")]
    assert seconds == pytest.approx([1.0] * len(seconds))


def test_no_wait_between_two_tries_is_longer_than_a_service_waits() -> None:
    result, rows = traced(
        task(pace=ALONE), fleet(1, link=[link(loss=0.97)], stop={"virtual_s": 400.0})
    )
    breaks = [row.at_s for row in rows.of("break")]
    assert result.counts.breaks > 100
    waits = [later - earlier for earlier, later in pairwise(breaks)]
    assert 2.0 < max(wait for wait in waits if wait < 4.0) <= 3.0
    assert sum(wait > 3.0 for wait in waits) <= result.counts.trainings  # those trained between


def test_a_training_that_diverged_leaves_no_model_behind() -> None:
    wild = {"local_epochs": 2, "batch_size": 8, "learning_rate": 1e30}
    prepared = ready(task(training=wild), fleet())
    workshop = TorchWorkshop(prepared.blueprint, prepared.shards, stopwatch, "off")
    learner = workshop.learner(prepared.roster.plan(0))
    base = flatten(prepared.scenario.task.build_model())
    kept = weakref.ref(base)
    learner.take(WHOLE, 1)
    learner.start(base, None)
    for epoch in (1, 2):
        learner.note(epoch, 1.0)
    with pytest.raises(NotFinite):
        learner.finish()
    del base
    assert kept() is None


def test_an_update_that_was_used_is_not_kept_and_its_end_changes_nothing() -> None:
    prepared = ready(task(), fleet())
    base = flatten(prepared.scenario.task.build_model())

    def second(*, used: bool) -> tuple[int, bytes]:
        """References to the first update that went, and the next one."""
        workshop = TorchWorkshop(prepared.blueprint, prepared.shards, stopwatch, "off")
        learner = workshop.learner(prepared.roster.plan(0))
        learner.take(WHOLE, 1)
        learner.start(base, None)
        learner.note(1, 1.0)
        parcel = learner.finish()
        before = sys.getrefcount(parcel.payload)
        if used:
            learner.used()
        gone = before - sys.getrefcount(parcel.payload)
        learner.take(WHOLE, 2)
        learner.start(base, None)
        learner.note(1, 1.0)
        return gone, bytes(learner.finish().payload.body)

    (kept, one), (let_go, other) = second(used=False), second(used=True)
    assert (kept, let_go) == (0, 1)
    assert one == other


def test_memory_does_not_follow_the_devices_that_have_trained() -> None:
    def payloads() -> int:
        gc.collect()
        return sum(type(thing) is Payload for thing in gc.get_objects())

    before = payloads()
    running = simulation(task(pace=ALONE), fleet(8, stop={"versions": 30}))
    result = running.run()
    assert sum(device.trainings > 0 for device in result.devices) > 4
    assert payloads() - before <= 1  # on its way


# --- fleets of chance

STRATEGIES: Sequence[tuple[str, str]] = (  # with what a round fills, for those of rounds
    ("fedasync", ""),
    ("fedasmu", ""),
    ("port", "minimum"),
    ("asofed", ""),
    ("fedbuff", "goal"),
    ("ca2fl", "goal"),
    ("fadas", "goal"),
    ("fedavg", "cohort"),
    ("fedprox", "cohort"),
    ("fednova", "cohort"),
    ("scaffold", "cohort"),
    ("moon", "cohort"),
)


COUNTING = {"scaffold", "asofed", "ca2fl"}  # what they do depends on the size of the fleet


def some_task(chance: random.Random, kind: str, fills: str, devices: int) -> Task:
    part, pick = chance.randint(1, devices), chance.choice
    paces: list[dict[str, Any]] = [
        {"kind": "rounds", "cohort": part, "over_selection": pick([1, 2])}
    ]
    if fills:
        paces[0] |= {"deadline_s": pick([0.4, 2.1]), "replace_lost": pick([True, False])}
    if fills != "cohort":
        paces.append({"kind": "concurrent", "devices": part})
        paces.append({"kind": "periodic", "period_s": pick([0.3, 1.1]), "triggers": part})
    lossy = {"kind": "topk", "ratio": 0.1}
    return task(
        strategy={"kind": kind}
        | ({fills: part} if fills else {})
        | ({"devices": devices} if kind in COUNTING else {}),
        pace=pick(paces),
        codec={"kind": "raw"} if kind == "scaffold" else pick([{"kind": "raw"}, lossy]),
        refresh=pick([REFRESHING, {"kind": "learned"}, {"kind": "none"}]),
        selection={"kind": pick(["uniform", "capability", "oort", "tifl"])},
        limits={"train_timeout_s": pick([600.0, 0.7]), "staleness": pick([99, 1])},
        training={"local_epochs": 2, "batch_size": 8, "learning_rate": pick([0.1, 0.1, 1e30])},
        data={"kind": "digits", "limit": pick([20, devices])},
        evaluation={"limit": 10, "every_versions": 3},
    )


def some_fleet(chance: random.Random, devices: int) -> FleetFile:
    pick = chance.choice
    leaving = {"mid_training": pick(["vanish", "finish"])}
    on_off = {"kind": "on_off", "mean_on_s": pick([0.5, 3.0]), "mean_off_s": pick([0.2, 1.0])}
    rates = {"up_bytes_per_s": pick([0.0, 9e3]), "down_bytes_per_s": pick([0.0, 3e4])}
    slow = {"name": "slow", "per_example_s": 0.1, "availability": pick(["", "chance"])}
    made: FleetFile = fleet(
        devices,
        seed=chance.randrange(1000),
        classes=[PHONE | {"jitter": pick([0.0, 0.3])}, slow],
        availability=[{"name": "chance"} | on_off | leaving],
        link=[link(**rates, rtt_s=pick([0.0, 0.3]), loss=pick([0.0, 0.5]))],
        server={
            "up_bytes_per_s": pick([0.0, 2e4]),
            "lease_s": pick([0.3, 15.0]),
            "resume_s": pick([0.0, 300.0]),
            "step_s": pick([0.0, 0.1]),
        },
        stop={"virtual_s": 6.0, "versions": 6},
        evaluation=pick([{}, {"every_s": 0.7}]),
    )
    return made


def settled_by(turns: Sequence[Turn]) -> list[str]:
    effects = [effect for turn in turns for effect in turn.effects]
    return [e.header.update_id for e in effects if isinstance(e, ev.Settled) and e.first_time]


def check(running: Simulation, result: Result, rows: Rows, turns: Sequence[Turn]) -> None:
    state, counts, settled = running.server.core.state, result.counts, settled_by(turns)
    assert len(settled) == len(set(settled)) == counts.updates_accepted + counts.updates_dropped
    assert counts.updates_accepted == state.updates_accepted
    assert [r.version for r in rows.of("version")] == list(range(2, result.newest.version + 1))
    assert result.curve[-1].version == result.newest.version
    times = [row.at_s for row in rows.rows]
    assert times == sorted(times)
    assert result.virtual_s <= 6.0
    for device in result.devices:
        steps = [
            (row.training, row.kind != "pull", row.slot if row.kind == "epoch" else 99)
            for row in rows.of("pull", "epoch", "push", device=device.device_id)
        ]
        assert steps == sorted(set(steps))  # one training after the other, each step once
        assert device.here_s <= result.virtual_s
    assert counts.bytes_up == sum(device.bytes_up for device in result.devices)
    assert counts.bytes_down == sum(device.bytes_down for device in result.devices)


@pytest.mark.parametrize("at", range(len(STRATEGIES)))
def test_whatever_happens_versions_rise_and_every_update_is_settled_once(at: int) -> None:
    kind, fills = STRATEGIES[at]
    for seed in range(3):
        chance = random.Random(100 * at + seed)
        devices = chance.randint(2, 5)
        prepared = ready(some_task(chance, kind, fills, devices), some_fleet(chance, devices))
        rows, turns = Rows(), list[Turn]()
        running = Simulation(
            prepared,
            stopwatch=stopwatch,
            tracer=rows,
            watch=impatient,
            sinks=(turns.append,),
        )
        check(running, running.run(), rows, turns)
        assert torch.isfinite(running.server.newest.model).all()
