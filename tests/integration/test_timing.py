"""Recorded timings lived through with real training: what is held to, and what may differ."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest
from support.histories import entries, recorded
from support.simulations import PHONE, Rows, fleet, ready, stopwatch, task

from hocket.core.payload import Payload
from hocket.core.sizing.size import part_of
from hocket.errors import TaskError
from hocket.learn.submodels.plan import plan_of
from hocket.sim.fleet import FleetFile
from hocket.sim.history import Closed, History, Settled
from hocket.sim.result import Result
from hocket.sim.timing import Replay, plans_of
from hocket.task import Task
from hocket.task.setup import set_up

SLOW_LINK = {"name": "l", "up_bytes_per_s": 4000.0, "down_bytes_per_s": 20000.0, "loss": 0.1}
SLOWER_THAN_AN_EPOCH = {"name": "l", "down_bytes_per_s": 6000.0}
FEDASMU: dict[str, Any] = {
    "strategy": {"kind": "fedasmu"},
    "refresh": {"kind": "learned"},
    "training": {"local_epochs": 3, "batch_size": 8, "learning_rate": 0.1},
    "codec": {"kind": "topk", "ratio": 0.1},
}
ROUNDS: dict[str, Any] = {
    "strategy": {"kind": "fedavg", "cohort": 3},
    "pace": {"kind": "rounds", "cohort": 3, "over_selection": 1.4, "deadline_s": 2.0},
}
UNEQUAL = (
    {"name": "quick", "per_example_s": 0.005},
    {"name": "slow", "per_example_s": 0.08, "share": 2.0},
)


def replayed(some_task: Task, devices: FleetFile, history: History) -> tuple[Replay, Result, Rows]:
    prepared, rows = ready(some_task, devices), Rows()
    replay = Replay(
        prepared, history, plans_of(history, prepared), stopwatch=stopwatch, tracer=rows
    )
    return replay, replay.run(), rows


def test_the_same_task_learns_the_same_again(tmp_path: Path) -> None:
    devices = fleet(5, link=[SLOW_LINK], stop={"versions": 12})
    result, history = recorded(task(**FEDASMU), devices, tmp_path)
    replay, again, rows = replayed(task(**FEDASMU), devices, history)
    told = [entry for entry in entries(history) if isinstance(entry, Settled)]
    assert [r.tau for r in rows.of("settle")] == [entry.outcome.tau for entry in told]
    assert [r.at_s for r in rows.of("settle")] == [entry.at_s for entry in told]
    assert replay.unlike == 0
    assert again.digest == result.digest
    assert again.counts.merges == sum(e.header.refresh is not None for e in told) > 0
    assert again.counts.tau_sum == result.counts.tau_sum > 0
    assert again.counts.bytes_up == sum(e.payload.header.wire_bytes for e in told if e.payload)
    assert again.virtual_s == result.virtual_s


def test_a_part_whose_mini_batches_have_widths_of_their_own_learns_the_same_again(
    tmp_path: Path,
) -> None:
    """What a replayed device affords is not known any more, only which part it trained."""
    cnn = task(
        model={"function": "hocket.learn.models:digits_cnn"},
        training={"local_epochs": 1, "batch_size": 8, "learning_rate": 0.1},
        submodel={"kind": "fjord"},
    )
    classes = [{"name": "half", "per_example_s": 0.01, "keep": 0.65}]
    devices = fleet(3, classes=classes, stop={"versions": 5})
    result, history = recorded(cnn, devices, tmp_path)
    assert {e.header.spec for e in entries(history) if isinstance(e, Settled)} == {part_of(0.6)}
    _, again, _ = replayed(cnn, devices, history)
    assert again.digest == result.digest
    part = plan_of(set_up(cnn).graph, part_of(0.6)).sliced_manifest.dense_bytes
    pulls = again.counts.bytes_down / part
    assert pulls == round(pulls) >= again.counts.trainings


def test_rounds_close_where_they_were_closed(tmp_path: Path) -> None:
    devices = fleet(6, classes=UNEQUAL, stop={"versions": 8})
    result, history = recorded(task(**ROUNDS), devices, tmp_path)
    closed = [entry.version for entry in entries(history) if isinstance(entry, Closed)]
    assert len(closed) > 1
    replay, again, rows = replayed(task(**ROUNDS), devices, history)
    assert replay.unlike == 0
    assert again.newest.version == result.newest.version
    assert set(closed) <= {row.version for row in rows.of("version")}
    assert again.counts.updates_dropped == result.counts.updates_dropped > 0


def test_another_strategy_is_tried_on_the_same_timing(tmp_path: Path) -> None:
    devices = fleet(4, stop={"versions": 13})
    _, history = recorded(task(), devices, tmp_path)
    waiting = task(strategy={"kind": "fedbuff", "goal": 3})
    replay, again, rows = replayed(waiting, devices, history)
    told = [entry for entry in entries(history) if isinstance(entry, Settled)]
    assert [r.update_id for r in rows.of("settle")] == [e.header.update_id for e in told]
    assert again.newest.version == 1 + 12 // 3
    assert replay.unlike > 0  # fewer versions, so nobody is as far behind


def test_evaluations_fall_on_the_fleets_grid(tmp_path: Path) -> None:
    few = task(data={"kind": "digits", "limit": 60})
    devices = fleet(3, stop={"virtual_s": 3.0}, evaluation={"every_s": 1.0})
    _, history = recorded(few, devices, tmp_path)
    _, again, rows = replayed(few, devices, history)
    times = [point.at_s for point in again.curve]
    assert times[:3] == [0.0, 1.0, 2.0]
    assert [row.at_s for row in rows.of("evaluate")] == times


def test_devices_are_found_by_name_or_given_out_in_order(tmp_path: Path) -> None:
    own = [{"name": name, "class": "phone", "shard": 0} for name in ("pi", "tv")]
    named = fleet(None, device=own, stop={"versions": 5})
    _, history = recorded(task(), named, tmp_path)
    first = next(e.header.device_id for e in entries(history) if isinstance(e, Settled))
    plans = plans_of(history, ready(task(), fleet(9)))
    assert set(plans) == {"pi", "tv"}
    assert {plan.index for plan in plans.values()} == {0, 1}
    assert plans[first].device_id == first
    with pytest.raises(TaskError, match="set devices = 2"):
        plans_of(history, ready(task(), fleet(1)))
    other = fleet(None, device=[own[0] | {"name": "pi"}, own[0] | {"name": "radio"}])
    with pytest.raises(TaskError, match="no device 'tv'"):
        plans_of(history, ready(task(), other))


def test_a_merge_that_a_slow_download_put_off_is_done_an_epoch_after_its_slot(
    tmp_path: Path,
) -> None:
    """A history says from which slot a fresh model was asked for, not when it was merged."""
    early = {"refresh": {"kind": "fixed", "slot": 1}}
    training = {"training": {"local_epochs": 4, "batch_size": 8, "learning_rate": 0.1}}
    some_task = task(strategy={"kind": "fedasmu"}, **early, **training)
    for link, alike in (({"name": "l"}, True), (SLOWER_THAN_AN_EPOCH, False)):
        uneven = [{**PHONE, "jitter": 0.5}]
        devices = fleet(5, classes=uneven, link=[link], stop={"versions": 12})
        result, history = recorded(some_task, devices, tmp_path / str(alike))
        replay, again, _ = replayed(some_task, devices, history)
        assert again.counts.merges > 0
        assert replay.unlike == 0
        assert again.newest.version == result.newest.version
        assert (again.digest == result.digest) == alike


def test_the_last_version_is_judged_though_another_was_judged_at_the_same_moment(
    tmp_path: Path,
) -> None:
    often = task(evaluation={"limit": 50, "every_versions": 3})
    devices = fleet(3, stop={"versions": 4})  # two hold as many examples: both end at one moment
    result, history = recorded(often, devices, tmp_path)
    _, again, rows = replayed(often, devices, history)
    assert [point.version for point in again.curve] == [1, 3, 4]
    assert again.curve[1].at_s == again.curve[2].at_s == again.virtual_s
    assert again.curve[-1] == result.curve[-1]
    assert len(rows.of("evaluate")) == 3


def test_nothing_is_judged_twice_at_one_moment(tmp_path: Path) -> None:
    every = task(evaluation={"limit": 50, "every_versions": 1})
    devices = fleet(1, stop={"versions": 3})
    _, history = recorded(every, devices, tmp_path)
    _, again, _ = replayed(every, devices, history)
    assert [point.version for point in again.curve] == [1, 2, 3]


def test_what_a_device_reports_follows_the_share_of_its_processor(tmp_path: Path) -> None:
    halved = [PHONE | {"processor_share": 0.5}]
    devices = fleet(1, classes=halved, stop={"versions": 2})
    _, history = recorded(task(), devices, tmp_path)
    replay, _, _ = replayed(task(), devices, history)
    (member,) = replay.server.core.fleet
    capability = member.device.capability
    assert capability.processor_share == 0.5
    assert capability.training_s(1, 8) == pytest.approx(8 * 0.01 / 0.5)


def test_updates_that_were_used_are_not_kept(tmp_path: Path) -> None:
    def payloads() -> int:
        gc.collect()
        return sum(type(thing) is Payload for thing in gc.get_objects())

    devices = fleet(8, stop={"versions": 12})
    _, history = recorded(task(), devices, tmp_path)
    before = payloads()
    replay, _, _ = replayed(task(), devices, history)
    assert payloads() == before
    assert replay.counts.updates_accepted == 11
