"""How the bench comes to its figures: loops, percentiles, slopes, rates and ratios."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import mmap
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hocket.cli.bench import processor
from hocket.cli.bench.cases import CASES, Target
from hocket.cli.bench.closed_loop import closed_loop, nearest_rank
from hocket.cli.bench.disk import Disk, Rate
from hocket.cli.bench.results import Limits, Measured, Recovered
from hocket.cli.bench.table import row
from hocket.errors import HocketError, NotFound, StorageFailed, Unavailable

DURABLE = next(case for case in CASES if case.name == "dense-44mb-durable")
TOLD: dict[str, Any] = {
    "updates": 30,
    "seconds": 3.0,
    "wire_bytes": 400,
    "model_bytes": 400,
    "p50_ms": 1.0,
    "p99_ms": 2.0,
    "server_cpu_ms_per_update": 0.5,
    "client_cpu_ms_per_update": 0.25,
    "rss_peak_bytes": 1024,
    "rss_slope_bytes_per_update": -2048.0,
}


async def test_a_stream_waits_for_its_answer_and_every_number_is_sent_once() -> None:
    busy: set[int] = set()
    sent: list[int] = []
    most = 0

    async def transfer(stream: int, number: int) -> None:
        nonlocal most
        assert stream not in busy
        busy.add(stream)
        most = max(most, len(busy))
        await asyncio.sleep(0)
        busy.remove(stream)
        sent.append(number)

    told: list[int] = []
    ran = await closed_loop(transfer, streams=3, count=20, done=told.append)
    assert sorted(sent) == list(range(20))
    assert most == 3
    assert told == list(range(1, 21))
    assert len(ran.latencies_s) == 20
    assert 0 < max(ran.latencies_s) <= ran.seconds


async def test_nothing_begins_after_the_time_is_over() -> None:
    async def transfer(_: int, number: int) -> None:
        raise AssertionError(number)

    ran = await closed_loop(transfer, streams=2, count=5, seconds=0.0)
    assert ran.latencies_s == ()
    assert ran.percentile_ms(0.5) == 0.0


async def test_the_first_failure_ends_the_run_and_is_raised() -> None:
    async def transfer(stream: int, _: int) -> None:
        if stream == 1:
            raise Unavailable("gone")
        await asyncio.Event().wait()

    with pytest.raises(HocketError, match="gone"):
        await closed_loop(transfer, streams=2, count=5)


def test_percentiles_are_values_that_were_seen() -> None:
    hundred = [float(value) for value in range(1, 101)]
    assert [nearest_rank(hundred, share) for share in (0.5, 0.99, 1.0)] == [50, 99, 100]
    assert nearest_rank([7.0], 0.5) == 7.0
    assert nearest_rank([1.0, 2.0, 3.0], 0.5) == 2.0


def test_slopes() -> None:
    assert processor.slope([(0, 1), (1, 3), (2, 5)]) == pytest.approx(2.0)
    # Least squares by hand: mean (1, 2), sum of (x - 1)(y - 2) = 3, of (x - 1)^2 = 2.
    assert processor.slope([(0, 1), (1, 1), (2, 4)]) == pytest.approx(1.5)
    assert processor.slope([(3, 9)]) == processor.slope([]) == 0.0
    filling = [(float(x), 100.0 * x) for x in range(10)]
    flat = [(float(x), 1000.0) for x in range(10, 20)]
    assert processor.settled_slope(filling + flat) == 0.0


def test_a_process_s_own_figures() -> None:
    pid = os.getpid()
    assert 10**6 < processor.rss_bytes(pid) <= processor.rss_peak_bytes(pid)
    user_s, system_s = os.times()[:2]
    assert processor.cpu_s(pid) == pytest.approx(user_s + system_s, abs=0.5)
    with pytest.raises(NotFound, match="no Linux"):
        processor.rss_bytes(2**22 + 1)  # above the largest pid


def test_a_group_shares_one_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr("os.fdatasync", lambda file: synced.append(os.fstat(file).st_size))
    with Disk(tmp_path) as disk:
        assert disk.append(100, 10, group=4).num_bytes == 1000
    assert synced == [400, 800, 1000]
    assert list(tmp_path.iterdir()) == []


def test_no_file_gets_what_another_has_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files: list[int] = []
    monkeypatch.setattr("os.fdatasync", files.append)
    with Disk(tmp_path) as disk:
        for _ in range(3):
            disk.append(100, 1)
    assert len(set(files)) == 3  # all open at once, or the number would be used again


@pytest.mark.skipif(not hasattr(os, "O_DIRECT"), reason="Linux only")
def test_what_goes_past_the_cache_goes_in_whole_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    direct: list[bool] = []

    def synced(file: int) -> None:
        direct.append(bool(fcntl.fcntl(file, fcntl.F_GETFL) & os.O_DIRECT))

    monkeypatch.setattr("os.fdatasync", synced)
    with Disk(tmp_path) as disk:
        rate = disk.append_directly(100, 3)
    if rate.num_bytes:  # else this file system has no such way
        assert rate.num_bytes == 3 * mmap.PAGESIZE
        assert direct == [True] * 3


def test_a_disk_of_larger_pages_has_no_direct_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr("os.write", refuse)
    with Disk(tmp_path) as disk:
        assert disk.append_directly(100, 3).bytes_per_s == 0


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with Disk(tmp_path / "file") as disk, pytest.raises(StorageFailed, match="/file: "):
        disk.append(100, 1)


def test_ratios_are_to_the_smaller_limit() -> None:
    # 30 updates of 400 bytes in 3 s: 4000 bytes/s.
    raw, one, four = Rate(16_000, 2.0), Rate(4_000, 1.0), Rate(6_000, 1.0)
    limits = Limits(raw, one, four) + Limits(disk=Rate(1_000, 0.0), disk_direct=Rate(9_000, 1.0))
    found = Measured.of(DURABLE, TOLD, limits, Recovered(1.5, 0.5, 1008))
    assert (found.updates_per_s, found.bytes_per_s, found.raw_bytes_per_s) == (10, 4000, 8000)
    assert found.ratio_to_raw == pytest.approx(0.5)
    assert (found.disk_bytes_per_s, found.disk_group_bytes_per_s) == (5000, 6000)
    assert found.disk_direct_bytes_per_s == 9000
    assert found.ratio_to_limit == pytest.approx(0.8)
    assert (found.recovery_s, found.journalled_updates) == (1.5, 1008)
    slow_wire = Measured.of(DURABLE, TOLD, Limits(Rate(4_000, 1.0), one, four), None)
    assert slow_wire.ratio_to_limit == pytest.approx(1.0)
    assert slow_wire.recovery_s is None
    assert slow_wire.disk_direct_bytes_per_s is None
    volatile = Measured.of(replace(DURABLE, durable=False), TOLD, Limits(raw), None)
    assert (volatile.disk_bytes_per_s, volatile.ratio_to_limit) == (None, None)


def test_a_row_says_whether_the_target_is_met() -> None:
    limits = Limits(Rate(16_000, 2.0), Rate(5_000, 1.0), Rate(6_000, 1.0))
    found = Measured.of(DURABLE, TOLD, limits, None)
    assert row(found, DURABLE.targets)[-2:] == ["of limit 0.8", "met"]
    assert row(found, [Target("updates_per_s", 10.1)])[-2:] == ["updates/s 10.1", "missed"]
    assert row(found, [])[-2:] == ["-", "-"]
    assert row(found, [])[-3] == "-2.0 KiB"
