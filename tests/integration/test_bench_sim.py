"""`hocket bench sim` with tiny fleets, each measurement in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from support.limits import LIMIT_S


def test_every_figure_is_told_and_missing_data_is_named(tmp_path: Path) -> None:
    sizes = ("--devices", "60", "--training", "5", "--updates", "500")
    short = ("--seconds", "0.1", "--together", "4")
    command = [sys.executable, "-c", "from hocket.cli import main; main()", "bench", "sim"]
    done = subprocess.run(
        [*command, *sizes, *short, "--data", str(tmp_path), "--format", "json"],
        capture_output=True,
        text=True,
        timeout=4 * LIMIT_S,
        check=False,
        env=os.environ,
    )
    assert done.returncode == 0, done.stderr
    missing = f"no data at 'cifar10-train.parquet' (looked at {tmp_path}"
    assert f"overhead_fraction is not measured: {missing}" in done.stderr
    found = json.loads(done.stdout)
    assert found["overhead_fraction"] is None
    assert found["noop_updates_per_s"] > 0
    assert found["registered_devices"] == 60
    assert found["rss_peak_bytes"] > 50_000_000
    assert found["seconds_per_event"].keys() == {"60"}
    assert found["seconds_per_event"]["60"] > 0
    assert found["batched"].keys() == found["batched_auto"].keys()
    assert found["batched"]["mlp-64-64-10"] > 0
    assert "bench sim" in found["environment"]["command"]
