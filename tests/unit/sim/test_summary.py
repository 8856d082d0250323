"""summary.json of a simulation that is known to the last number."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from support.simulated import curve, devices, result, scenario

from hocket.core.stop import Stop
from hocket.sim.result import Counts, Wall
from hocket.sim.summary import MOST_DEVICES, summarise, targets_of

COMMAND = "hocket simulate tiny.toml"


def test_the_summary_has_the_promised_keys_and_numbers(tmp_path: Path) -> None:
    summary = json.loads(json.dumps(summarise(result(tmp_path), command=COMMAND, data_s=0.5)))
    expected = {
        "task": "digits",
        "strategy": "fedasmu",
        "fleet": "tiny",
        "command": COMMAND,
        "seed": 7,
        "finished_reason": "7200 s are over",
        "versions": 17,
        "virtual_s": 7200.0,
        "wall_s": 10.0,
        "targets": {"0.5": 1200.0, "0.9": None},
        "updates_accepted": 16,
        "updates_rejected": 3,
        "updates_dropped": 1,
        "updates_refused": 2,
        "mean_tau": 2.5,
        "max_tau": 9,
        "triggers": 20,
        "trainings": 18,
        "fresh_pulls": 9,
        "merges": 4,
        "failures": 1,
        "breaks": 3,
        "bytes_up": 16_000,
        "bytes_down": 70_000,
        "num_devices": 6,
        "utilisation": 0.25,  # 0 + 10 + 20 + 30 + 40 + 50 of 600 seconds
    }
    assert {key: summary[key] for key in expected} == expected
    assert set(summary) - set(expected) == {
        "hocket_version", "torch_version", "digest", "final_accuracy", "test_accuracy",
        "test_loss", "classes", "devices", "curve", "wall",
    }  # fmt: skip
    last = curve()[-10:]
    assert summary["final_accuracy"] == pytest.approx(sum(p.accuracy for p in last) / 10)
    assert summary["test_accuracy"] == last[-1].accuracy
    assert summary["curve"][1] == [300.0, 2, curve()[1].accuracy, curve()[1].loss]
    assert len(summary["curve"]) == 24
    assert summary["wall"] == {
        "data_s": 0.5,
        "train_s": 7.0,
        "evaluate_s": 1.0,
        "other_s": 2.0,
        "overhead_fraction": pytest.approx(0.2),
        "events": 5_000,
    }


def test_devices_are_listed_and_added_up_by_class(tmp_path: Path) -> None:
    summary = summarise(result(tmp_path), command=COMMAND)
    assert summary["devices"]["device-3"] == {
        "class": "slow <&>",
        "link": "wire",
        "trainings": 3,
        "updates_accepted": 3,
        "busy_s": 30.0,
        "here_s": 100.0,
        "bytes_up": 3000,
        "bytes_down": 12_000,
    }
    assert list(summary["classes"]) == ["quick", "slow <&>"]
    assert summary["classes"]["slow <&>"] == {
        "devices": 3,
        "trainings": 9,
        "updates_accepted": 9,
        "busy_s": 90.0,
        "here_s": 300.0,
        "utilisation": 0.3,
        "bytes_up": 9000,
        "bytes_down": 36_000,
    }


def test_many_devices_are_told_of_by_class_only(tmp_path: Path) -> None:
    at_most = summarise(result(tmp_path, count=MOST_DEVICES), command=COMMAND)
    assert len(at_most["devices"]) == MOST_DEVICES
    beyond = summarise(result(tmp_path, count=MOST_DEVICES + 1), command=COMMAND)
    assert beyond["devices"] == {}
    assert beyond["num_devices"] == sum(c["devices"] for c in beyond["classes"].values())


def test_what_never_was_is_null(tmp_path: Path) -> None:
    away = [replace(device, here_s=0.0, busy_s=0.0) for device in devices(2)]
    empty = replace(result(tmp_path), curve=(), counts=Counts(), devices=away, wall=Wall())
    summary = summarise(empty, command=COMMAND)
    for key in ("final_accuracy", "test_accuracy", "test_loss", "mean_tau", "max_tau"):
        assert summary[key] is None
    assert summary["utilisation"] is None
    assert summary["targets"] == {"0.5": None, "0.9": None}
    json.dumps(summary, allow_nan=False)


def test_the_accuracy_that_stops_a_run_is_a_target_too(tmp_path: Path) -> None:
    known = scenario(tmp_path)
    task = replace(known.task, stop=Stop(accuracy=0.7))
    assert targets_of(replace(known, task=task)) == [0.5, 0.7, 0.9]
