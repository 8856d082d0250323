"""The simulator over the real rules: what must hold whatever the fleet does."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from support.simulations import PHONE, fleet, ready, simulation, stopwatch, task, traced

from hocket.core.chance import stream_seed
from hocket.errors import TaskError
from hocket.learn.blueprint import Blueprint
from hocket.learn.flat import flatten, manifest_of
from hocket.learn.training import LocalTrainer
from hocket.sim.result import Result
from hocket.sim.scenario import scenario_of
from hocket.sim.simulation import Simulation
from hocket.task.setup import set_up

LINK = {"name": "lte", "up_bytes_per_s": 10_000.0, "down_bytes_per_s": 40_000.0, "rtt_s": 0.1}
LOSSY = LINK | {"loss": 0.2}
REFRESHING = {"kind": "fixed", "slot": 1}
FEDASMU = {"kind": "fedasmu", "mu_alpha": 2.0, "iota0": 0.1}
FEW = {"kind": "digits", "limit": 40}  # where training is beside the point
UNEQUAL = [PHONE, {"name": "board", "per_example_s": 0.04, "jitter": 0.2, "spread": 0.3}]


def facts(result: Result) -> tuple[Any, ...]:
    return result.digest, result.curve, result.counts, result.virtual_s, list(result.devices)


def test_the_same_seed_gives_the_same_bits_and_another_seed_others() -> None:
    some_task = task(strategy=FEDASMU, refresh=REFRESHING, codec={"kind": "topk", "ratio": 0.1})
    some_fleet = fleet(classes=UNEQUAL, link=[LOSSY], stop={"virtual_s": 10.0})
    first = simulation(some_task, some_fleet).run()
    assert first.counts.merges > 0
    assert first.counts.breaks > 0
    assert facts(simulation(some_task, some_fleet).run()) == facts(first)
    assert simulation(some_task, some_fleet, seed=6).run().digest != first.digest


def test_whoever_watches_or_traces_changes_nothing() -> None:
    some_task = task(strategy=FEDASMU)
    some_fleet = fleet(classes=UNEQUAL, link=[LOSSY], stop={"virtual_s": 10.0})
    quiet = simulation(some_task, some_fleet).run()
    seen: list[float] = []
    watched = Simulation(
        ready(some_task, some_fleet),
        stopwatch=iter(range(10**6)).__next__,  # a machine on which everything takes long
        watch=lambda running: seen.append(running.agenda.now),
    )
    assert facts(watched.run()) == facts(quiet)
    assert facts(traced(some_task, some_fleet)[0]) == facts(quiet)
    assert seen == sorted(seen)


def test_training_is_charged_its_examples_and_transfers_their_bytes() -> None:
    link = LINK | {"up_bytes_per_s": 1_000.0, "down_bytes_per_s": 2_000.0}
    some_task = task(pace={"kind": "concurrent", "devices": 1})
    result, rows = traced(some_task, fleet(1, link=[link], stop={"versions": 2}))
    size = manifest_of(some_task.build_model()).dense_bytes
    (pushed,) = rows.of("push")
    pull_s = 0.05 + 0.1 + size / 2_000.0  # the trigger; request and first byte; the rest
    train_s = 2 * 200 * 0.01  # two epochs
    push_s = 0.1 + pushed.bytes / 1_000.0
    assert result.virtual_s == pytest.approx(pull_s + train_s + push_s)
    assert result.devices[0].busy_s == pytest.approx(train_s)
    assert [row.seconds for row in rows.of("epoch")] == pytest.approx([train_s / 2] * 2)
    assert (result.counts.bytes_down, result.counts.bytes_up) == (size, pushed.bytes)
    assert 0.7 * size < pushed.bytes <= size  # raw float32, as zstd leaves them
    assert result.reason == "version 2 of 2 reached"


def test_one_device_alone_is_plain_sgd_from_version_to_version() -> None:
    """Every update fresh, alpha 1: the model must be what the device trained, epoch by epoch."""
    some_task = task(
        strategy={"kind": "fedasync", "alpha": 1.0, "staleness": "constant"},
        pace={"kind": "concurrent", "devices": 1},
    )
    some_fleet = fleet(1, stop={"versions": 4})
    prepared = ready(some_task, some_fleet)
    result = Simulation(prepared, stopwatch=stopwatch).run()

    blueprint = Blueprint.of(prepared.scenario.task.build_model(), prepared.setup.terms)
    examples = prepared.shards.of(0)
    trainer = LocalTrainer(blueprint.module, blueprint.rules, examples.inputs, examples.labels)
    model = flatten(prepared.scenario.task.build_model())
    for training in (1, 2, 3):
        trainer.start(model)
        for epoch in (1, 2):
            seed = stream_seed(5, "device-0", "train", training, epoch)
            chance = torch.Generator().manual_seed(seed)
            for batch in trainer.epoch_batches(chance):
                trainer.step(batch, None, chance)
        model = trainer.weights()
    assert torch.allclose(result.newest.model, model, atol=1e-6)


def test_one_round_of_everybody_is_the_mean_of_their_models() -> None:
    """FedAvg's closed form, by training each device's shard on its own."""
    some_task = task(strategy={"kind": "fedavg", "cohort": 4}, pace={"kind": "rounds", "cohort": 4})
    prepared = ready(some_task, fleet(4, classes=UNEQUAL, link=[LINK], stop={"versions": 2}))
    result = Simulation(prepared, stopwatch=stopwatch).run()

    blueprint = Blueprint.of(prepared.scenario.task.build_model(), prepared.setup.terms)
    first = flatten(prepared.scenario.task.build_model())
    total, weights = torch.zeros_like(first), 0
    for shard in range(4):
        examples = prepared.shards.of(shard)
        trainer = LocalTrainer(blueprint.module, blueprint.rules, examples.inputs, examples.labels)
        trainer.start(first)
        for epoch in (1, 2):
            seed = stream_seed(5, f"device-{shard}", "train", 1, epoch)
            chance = torch.Generator().manual_seed(seed)
            for batch in trainer.epoch_batches(chance):
                trainer.step(batch, None, chance)
        total += len(examples) * trainer.weights()
        weights += len(examples)
    assert torch.allclose(result.newest.model, total / weights, atol=1e-6)


def test_a_device_never_trains_twice_at_a_time_and_versions_rise_by_one() -> None:
    _, rows = traced(
        task(strategy=FEDASMU, refresh=REFRESHING), fleet(classes=UNEQUAL, link=[LOSSY])
    )
    for number in range(4):
        kinds = [row.kind for row in rows.of("pull", "settle", device=f"device-{number}")]
        assert all(one != other for one, other in pairwise(kinds))
    versions = [row.version for row in rows.of("version")]
    assert versions == list(range(2, len(versions) + 2))


def test_one_device_after_the_other_is_never_stale_and_never_merges() -> None:
    """fedasmu.md 1.9, 9: one trigger a period that outlasts a training is sequential."""
    pace = {"kind": "periodic", "period_s": 5.0, "triggers": 1}
    result, rows = traced(
        task(strategy=FEDASMU, refresh=REFRESHING, pace=pace),
        fleet(link=[LINK | {"up_bytes_per_s": 0.0, "down_bytes_per_s": 0.0}]),
    )
    assert [row.tau for row in rows.of("settle")] == [0] * result.counts.updates_accepted
    assert result.counts.updates_accepted == 4
    assert result.counts.fresh_pulls == 4
    assert result.counts.merges == 0


def test_a_refreshing_device_downloads_once_more_and_uploads_as_much() -> None:
    """fedasmu.md 1.9, 8."""
    result, rows = traced(task(refresh=REFRESHING), fleet(classes=UNEQUAL, stop={"versions": 30}))
    size = manifest_of(task().build_model()).dense_bytes
    pulls, fresh = rows.of("pull"), [row for row in rows.of("fresh") if row.version > 0]
    assert len(fresh) >= result.counts.merges >= 5
    asked = {(row.device, row.training) for row in rows.of("fresh")}
    assert len(asked) == len(rows.of("fresh")) == result.counts.fresh_pulls
    assert result.counts.bytes_down == (len(pulls) + len(fresh)) * size
    assert result.counts.bytes_up == sum(row.bytes for row in rows.of("push"))
    assert len(rows.of("push")) == result.counts.trainings


def test_a_push_that_breaks_off_is_applied_once_and_sends_the_rest_only() -> None:
    result, rows = traced(
        task(pace={"kind": "concurrent", "devices": 4}, data=FEW),
        fleet(link=[LINK | {"loss": 0.5, "up_bytes_per_s": 2_000.0}], stop={"versions": 20}),
    )
    settled = [row.update_id for row in rows.of("settle")]
    assert len(set(settled)) == len(settled) == result.counts.updates_accepted
    assert len(rows.of("break")) > 10
    size = manifest_of(task().build_model()).dense_bytes
    in_flight = 4 * size
    assert result.counts.bytes_up <= len(settled) * size + in_flight


def test_a_server_that_forgets_half_a_push_gets_all_of_it_again() -> None:
    link = LINK | {"loss": 0.5, "up_bytes_per_s": 2_000.0}
    some_task = task(pace={"kind": "concurrent", "devices": 1}, data=FEW)
    kept = simulation(some_task, fleet(1, link=[link], stop={"versions": 10})).run()
    forgot = simulation(
        some_task, fleet(1, link=[link], stop={"versions": 10}, server={"resume_s": 0.0})
    ).run()
    assert kept.counts.updates_accepted == forgot.counts.updates_accepted == 9
    assert forgot.counts.bytes_up > kept.counts.bytes_up


def leaving(mid_training: str, **more: Any) -> Any:
    """One device that is there for 3 of every 7 seconds; its training takes 4."""
    plan = {
        "name": "on",
        "kind": "windows",
        "steps": [[3.0, True], [4.0, False]],
        "mid_training": mid_training,
    }
    phone = PHONE | {"availability": "on"}
    return fleet(1, classes=[phone], availability=[plan], **more)


def test_a_device_that_vanishes_trains_on_and_pushes_when_it_is_back() -> None:
    some_task = task(pace={"kind": "concurrent", "devices": 1})
    _, rows = traced(some_task, leaving("vanish", stop={"versions": 2}))
    assert [row.at_s for row in rows.of("epoch")] == pytest.approx([2.0, 4.0])
    assert [row.at_s for row in rows.of("leave")] == pytest.approx([3.0])
    (settled,) = rows.of("settle")
    assert settled.at_s == pytest.approx(7.0)
    assert settled.outcome == "applied"


def test_a_device_that_finishes_leaves_only_after_its_training() -> None:
    some_task = task(pace={"kind": "concurrent", "devices": 1})
    _, rows = traced(some_task, leaving("finish", stop={"virtual_s": 12.0}))
    assert [row.at_s for row in rows.of("settle")] == pytest.approx([4.0, 11.0])
    assert [row.at_s for row in rows.of("leave")] == pytest.approx([4.0, 11.0])


@pytest.mark.parametrize(("lease_s", "incarnation"), [(3.5, 2), (4.5, 1)])
def test_who_is_away_for_longer_than_its_lease_comes_back_as_another(
    lease_s: float, incarnation: int
) -> None:
    some_fleet = leaving("vanish", server={"lease_s": lease_s}, stop={"virtual_s": 8.0})
    running = simulation(task(pace={"kind": "concurrent", "devices": 1}), some_fleet)
    running.run()
    (member,) = running.server.core.fleet
    assert member.device.incarnation == incarnation
    assert running.counts.updates_accepted == 1


def test_a_push_cut_off_by_leaving_goes_on_where_it_was() -> None:
    some_task = task(pace={"kind": "concurrent", "devices": 1})
    _, quick = traced(some_task, fleet(1, stop={"versions": 2}))
    size = quick.of("push")[0].bytes
    link = {"name": "slow", "up_bytes_per_s": size / 3.0}  # the push takes 3 s
    plan = {"name": "on", "kind": "windows", "steps": [[5.0, True], [1.0, False]]}
    phone = PHONE | {"availability": "on"}
    some_fleet = fleet(1, classes=[phone], availability=[plan], link=[link], stop={"versions": 2})
    result, rows = traced(some_task, some_fleet)
    (settled,) = rows.of("settle")
    # 4 s of training, 1 s of pushing, 1 s away, the other 2 s.
    assert settled.at_s == pytest.approx(8.0, abs=0.01)
    assert result.counts.bytes_up == pytest.approx(size, abs=1)


def test_training_that_diverges_is_given_up_and_the_device_asked_again() -> None:
    wild = {"local_epochs": 2, "batch_size": 8, "learning_rate": 1e30}
    result = simulation(task(training=wild), fleet(stop={"virtual_s": 5.0})).run()
    assert result.counts.failures > 2
    assert result.counts.updates_accepted == 0
    assert result.newest.version == 1


def test_accuracy_on_a_grid_of_virtual_time_also_ends_it() -> None:
    some_fleet = fleet(stop={"accuracy": 0.6, "virtual_s": 99.0}, evaluation={"every_s": 2.0})
    result = simulation(task(), some_fleet).run()
    assert [point.at_s for point in result.curve] == pytest.approx(
        [2.0 * step for step in range(len(result.curve))]
    )
    assert result.curve[-1].accuracy >= 0.6 > result.curve[-2].accuracy
    assert "0.6000" in result.reason
    assert result.reached_s(0.6) == result.virtual_s
    assert result.reached_s(0.999) is None


def test_a_fleet_that_never_comes_ends_at_once_and_says_so() -> None:
    plan = {"name": "off", "kind": "on_off", "mean_on_s": 1.0, "mean_off_s": 1.0, "start_on": 0.0}
    never = {"name": "off", "kind": "windows", "steps": [[1e9, False]]}
    phone = PHONE | {"availability": "off"}
    waiting = fleet(classes=[phone], availability=[plan], stop={"versions": 3})
    assert simulation(task(), waiting).run().newest.version == 3
    result = simulation(
        task(), fleet(classes=[phone], availability=[never], stop={"versions": 3})
    ).run()
    assert result.virtual_s == 0.0
    assert "no device will come back" in result.reason


def test_nothing_that_ends_it_is_a_mistake_in_the_files() -> None:
    endless = replace(fleet(), stop=replace(fleet().stop, virtual_s=0.0))
    with pytest.raises(TaskError, match=r"stop\.virtual_s"):
        scenario_of(task(), endless)
    assert scenario_of(task(stop={"versions": 9}), endless).task.stop.versions == 9
    with pytest.raises(TaskError, match=r"an accuracy of 0\.9 may never be reached: set stop"):
        scenario_of(task(), fleet(stop={"accuracy": 0.9}))


def test_training_that_never_comes_to_a_version_ends_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hocket.sim.simulation.FRUITLESS", 100)
    wild = {"local_epochs": 2, "batch_size": 8, "learning_rate": 1e30}
    result = simulation(task(training=wild), fleet(stop={"versions": 5})).run()
    assert result.reason == "nothing came of the last 100 trainings"
    assert result.counts.failures > 90


def test_a_buffer_that_fills_slowly_is_no_training_in_vain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hocket.sim.simulation.FRUITLESS", 5)
    patient = task(strategy={"kind": "fedbuff", "goal": 20}, codec={"kind": "int8"}, data=FEW)
    result = simulation(patient, fleet(stop={"versions": 2, "virtual_s": 999.0})).run()
    assert result.reason == "version 2 of 2 reached"


def test_a_task_that_counts_on_other_devices_than_there_are_is_a_mistake() -> None:
    few = {"strategy": {"kind": "fedavg", "cohort": 5}, "pace": {"kind": "rounds", "cohort": 5}}
    with pytest.raises(TaskError, match=r"pace\.cohort is 5, but the fleet has 4 devices"):
        scenario_of(task(**few), fleet(4))
    cached = {"kind": "ca2fl", "devices": 100}
    with pytest.raises(TaskError, match=r"has 4 devices; set it by --set strategy\.devices=4"):
        scenario_of(task(strategy=cached), fleet(4))


def test_narrow_devices_pull_and_push_less() -> None:
    narrow = PHONE | {"keep": 0.5}
    cnn = {"function": "hocket.learn.models:digits_cnn", "arguments": {"classes": 10}}
    some_task = task(pace={"kind": "concurrent", "devices": 1}, model=cnn)
    result = simulation(some_task, fleet(1, classes=[narrow], stop={"versions": 2})).run()
    whole = set_up(some_task).terms.manifest.dense_bytes
    assert 0.2 * whole < result.counts.bytes_down < 0.6 * whole
    assert 0.2 * whole < result.counts.bytes_up <= result.counts.bytes_down
