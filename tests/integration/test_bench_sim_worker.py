"""How `hocket bench sim` comes to its figures."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from hocket.cli.bench import sim_worker, stacking
from hocket.cli.bench.sim import rows
from hocket.cli.bench.sim_scenes import CIFAR, find_cifar
from hocket.cli.bench.sim_worker import noop, overhead, registered, seconds_per_event
from hocket.errors import DataError


def png(shade: int) -> bytes:
    image = Image.fromarray(np.full((32, 32, 3), shade, dtype=np.uint8))
    with io.BytesIO() as out:
        image.save(out, "PNG")
        return out.getvalue()


def write(file: Path, count: int) -> None:
    images = [{"bytes": png(number % 256), "path": None} for number in range(count)]
    pq.write_table(pa.table({"image": images, "label": [n % 10 for n in range(count)]}), file)


def found(**changes: Any) -> dict[str, Any]:
    return {
        "overhead_fraction": 0.1,
        "noop_updates_per_s": 2000.0,
        "registered_devices": 100_000,
        "rss_peak_bytes": 2_999_999_999,
        "seconds_per_event": {"1000": 100e-6, "100000": 150e-6},
    } | changes


def test_an_event_costs_what_it_does_in_the_median_part_after_the_beginning() -> None:
    """Dear at first, then 2 ms each but for one slow part of five."""
    marks = [(0, 0.0), (100, 50.0)]
    for events in range(110, 510, 10):
        cost = 0.7 if 250 <= events < 290 else 0.02  # of ten
        marks.append((events, marks[-1][1] + cost))
    assert seconds_per_event(marks) == pytest.approx(0.002)


@pytest.mark.parametrize(
    ("changes", "results"),
    [
        ({}, ["met"] * 4),
        ({"overhead_fraction": 0.11}, ["missed", "met", "met", "met"]),
        ({"overhead_fraction": None}, ["-", "met", "met", "met"]),
        ({"noop_updates_per_s": 1999.0}, ["met", "missed", "met", "met"]),
        ({"rss_peak_bytes": 3_000_000_000}, ["met", "met", "missed", "met"]),
        ({"seconds_per_event": {"1000": 1e-4, "100000": 1.6e-4}}, ["met", "met", "met", "missed"]),
    ],
)
def test_the_table_says_what_is_met(changes: dict[str, Any], results: list[str]) -> None:
    told = rows(found(**changes))
    assert [row[-1] for row in told] == results
    assert ("not measured" in told[0]) == (found(**changes)["overhead_fraction"] is None)


def test_overhead_is_measured_on_the_files_of_cifar(tmp_path: Path) -> None:
    write(tmp_path / CIFAR.train, 800)
    write(tmp_path / str(CIFAR.test), 20)
    find_cifar([tmp_path])
    told = overhead({"folders": [str(tmp_path)], "trainings": 2, "examples_each": 8})
    assert told["trainings"] >= 2
    assert 0 < told["overhead_fraction"] < 1
    torch_s = told["train_s"] + told["evaluate_s"]
    assert told["overhead_fraction"] == pytest.approx(1 - torch_s / told["total_s"])


def test_missing_data_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cifar10-train\.parquet.*HOCKET_DATA"):
        find_cifar([tmp_path])


def test_every_update_of_the_noop_run_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sim_worker, "CALIBRATION", 60)
    told = noop({"seconds": 0.01, "runs": 1})
    assert set(told) == {"fedasync", "fedasmu"}
    assert min(told.values()) > 0


def test_a_large_fleet_is_measured_with_its_memory() -> None:
    told = registered({"devices": 300, "training_at_once": 20, "updates": 500})
    assert told["devices"] == 300
    assert told["updates"] == 500
    assert 0 < told["seconds_per_event"] < 0.1
    assert told["events"] > 5 * 500  # trigger, pull, epoch, push and answer of each update
    assert told["rss_peak_bytes"] > 50_000_000


def test_gains_are_told_with_what_the_rule_says(monkeypatch: pytest.MonkeyPatch) -> None:
    some = [known for known in stacking.MODELS if known.name in {"mlp-64-64-10", "digits_cnn"}]
    monkeypatch.setattr(stacking, "MODELS", some)
    monkeypatch.setattr(stacking, "EXAMPLES", 20)
    told = stacking.gains(devices=4, runs=1)
    assert {model: gain.auto for model, gain in told.items()} == {
        "mlp-64-64-10": True,
        "digits_cnn": False,
    }
    assert min(gain.gain for gain in told.values()) > 0
