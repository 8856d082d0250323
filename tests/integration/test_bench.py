"""`hocket bench ingest` with tiny models: real services, real pushes, a real kill -9."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from support.limits import LIMIT_S

FIELDS = {
    *("case", "model_bytes", "streams", "durable", "codec", "strategy", "updates"),
    *("updates_per_s", "bytes_per_s", "raw_bytes_per_s", "ratio_to_raw", "disk_bytes_per_s"),
    *("ratio_to_limit", "p50_ms", "p99_ms", "rss_peak_bytes", "rss_slope_bytes_per_update"),
    *("recovery_s", "environment"),
}


def bench(
    folder: Path, *arguments: str, code: int = 0, **env: str
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from hocket.cli import main; main()", "bench", "ingest"]
    done = subprocess.run(
        [*command, "--data-dir", str(folder), *arguments],
        capture_output=True,
        text=True,
        timeout=4 * LIMIT_S,
        check=False,
        env=os.environ | env,
    )
    assert done.returncode == code, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done


def test_the_cases_run_and_tell_all_that_they_must(tmp_path: Path) -> None:
    cases = ("topk-44mb", "recovery", "devices")
    only = [word for case in cases for word in ("--only", case)]
    size = ("--model-bytes", "40000", "--updates", "12", "--streams", "3", "--devices", "40")
    told = bench(tmp_path, *only, *size, "--format", "json").stdout
    found: dict[str, dict[str, Any]] = {record["case"]: record for record in json.loads(told)}
    assert set(found) == set(cases)
    assert found["devices"]["devices"] == 40
    assert found["devices"]["registry_rss_bytes"] > 10**6
    for name in ("topk-44mb", "recovery"):
        record = found[name]
        assert record.keys() >= FIELDS
        assert record["updates"] == 12
        assert record["streams"] == 3
        assert abs(record["model_bytes"] - 40_000) < 4_000
        assert record["bytes_per_s"] > 0
        assert record["ratio_to_raw"] > 0
        assert 0 < record["p50_ms"] <= record["p99_ms"]
        assert record["rss_peak_bytes"] > 10**6
        assert "--model-bytes 40000" in record["environment"]["command"]
        assert (record["ratio_to_limit"] is not None) == record["durable"]
    assert found["topk-44mb"]["codec"] == "topk"
    assert found["topk-44mb"]["update_bytes"] < 10_000
    assert found["recovery"]["recovery_s"] > 0
    assert found["recovery"]["journalled_updates"] == 12 + 2 * 3
    assert found["topk-44mb"]["recovery_s"] is None
    assert list(tmp_path.iterdir()) == []


def test_a_case_that_cannot_run_is_told_and_leaves_its_logs(tmp_path: Path) -> None:
    done = bench(tmp_path, "--only", "dense-1mb", code=1, AGGREGATOR_STAGED_BYTES_LIMIT="1")
    assert "AGGREGATOR_STAGED_BYTES_LIMIT is 1" in done.stdout
    assert list(tmp_path.glob("bench-*/dense-1mb/logs/aggregator.log"))
    wrong = bench(tmp_path, "--only", "dense", code=1)
    assert wrong.stderr.startswith("hocket: there is no case 'dense'")
