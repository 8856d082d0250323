from __future__ import annotations

from pathlib import Path

import pytest
from hocket_device import cgroup
from hocket_device.resources import LEAST_SHARE, WINDOW_S, Resources


def resources(allowed: float = 1.0, quota: float = float("inf")) -> Resources:
    return Resources(lambda: allowed, lambda: quota, lambda: 1 << 30)


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
    return root


@pytest.mark.parametrize(
    ("allowed", "quota", "share"),
    [(1.0, float("inf"), 1.0), (0.3, float("inf"), 0.3), (1.0, 0.5, 0.5), (0.3, 4.0, 0.3)],
)
def test_before_anything_is_measured_the_tightest_grant_counts(
    allowed: float, quota: float, share: float
) -> None:
    assert resources(allowed, quota).share() == share


@pytest.mark.parametrize(("quota", "seconds"), [(0.25, 8.0), (1.0, 2.0), (4.0, 2.0)])
def test_a_quota_stretches_work_and_one_thread_gains_nothing_by_more(
    quota: float, seconds: float
) -> None:
    assert resources(quota=quota).granted_s(2.0) == seconds


def test_the_measured_share_of_the_processor_counts() -> None:
    r = resources()
    for _ in range(100):
        r.observe(busy_s=0.00475, wall_s=0.02)  # 0.2375, and a twentieth of it is forgiven
    assert r.share() == pytest.approx(0.25)


def test_nearly_all_of_the_processor_is_all_of_it() -> None:
    r = resources()
    r.observe(busy_s=0.96, wall_s=1.0)
    assert r.share() == 1.0


def test_only_the_last_window_counts() -> None:
    r = resources()
    for _ in range(50):
        r.observe(busy_s=0.01, wall_s=0.1)
    for _ in range(round(WINDOW_S / 0.1) + 1):
        r.observe(busy_s=0.1, wall_s=0.1)
    assert r.share() == 1.0


def test_a_single_step_longer_than_the_window_is_still_measured() -> None:
    r = resources()
    r.observe(busy_s=9.0, wall_s=9.0)
    r.observe(busy_s=1.9, wall_s=10.0)
    assert r.share() == pytest.approx(0.2)


def test_what_is_allowed_now_bounds_what_was_measured_before() -> None:
    allowed = 1.0
    r = Resources(lambda: allowed, lambda: float("inf"), lambda: 0)
    r.observe(busy_s=1.0, wall_s=1.0)
    allowed = 0.2
    assert r.share() == 0.2


def test_a_share_is_never_zero() -> None:
    r = resources()
    r.observe(busy_s=0.0, wall_s=5.0)
    assert r.share() == LEAST_SHARE


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"sys/fs/cgroup/cpu.max": "50000 100000"}, 0.5),
        ({"sys/fs/cgroup/cpu.max": "max 100000"}, float("inf")),
        (
            {
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "150000",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            1.5,
        ),
        (
            {
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            float("inf"),
        ),
        ({}, float("inf")),
    ],
    ids=["v2", "v2 unlimited", "v1", "v1 unlimited", "no control groups"],
)
def test_a_container_says_how_much_processor_it_grants(
    tmp_path: Path, files: dict[str, str], quota: float
) -> None:
    assert cgroup.processor_quota(write(tmp_path, files)) == quota


MEMINFO = {"proc/meminfo": "MemTotal: 4000 kB\nMemFree: 100 kB\nMemAvailable:    2000 kB"}


@pytest.mark.parametrize(
    ("files", "memory_bytes"),
    [
        (MEMINFO, 2000 * 1024),
        (
            MEMINFO
            | {"sys/fs/cgroup/memory.max": "1000000", "sys/fs/cgroup/memory.current": "400000"},
            600_000,
        ),
        (
            MEMINFO | {"sys/fs/cgroup/memory.max": "max", "sys/fs/cgroup/memory.current": "400000"},
            2000 * 1024,
        ),
        (
            {
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "5000",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": "6000",
            },
            1,  # 0 would be unknown
        ),
        (
            {
                "sys/fs/cgroup/memory.max": "1000000",
                "sys/fs/cgroup/memory.current": "990000",
                "sys/fs/cgroup/memory.stat": "anon 300000\nfile 690000\ninactive_file 500000",
            },
            510_000,
        ),
        (
            {
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "5000",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": "5000",
                "sys/fs/cgroup/memory/memory.stat": "inactive_file 1\ntotal_inactive_file 2000",
            },
            2000,
        ),
        (
            MEMINFO
            | {
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": "6000",
            },
            2000 * 1024,
        ),
        ({}, 0),
    ],
    ids=[
        "machine",
        "v2",
        "v2 unlimited",
        "v1 over its limit",
        "v2 full of files read before",
        "v1 full of files read before",
        "v1 unlimited",
        "unknown",
    ],
)
def test_free_memory_is_the_least_that_anything_says(
    tmp_path: Path, files: dict[str, str], memory_bytes: int
) -> None:
    assert cgroup.memory_bytes(write(tmp_path, files)) == memory_bytes


MODERN = {"proc/self/cgroup": "0::/system.slice/device.service"}
OLD = {"proc/self/cgroup": "9:name=systemd:/other\n4:memory:/a/b\n3:cpu,cpuacct:/a/b"}


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        (MODERN | {"system.slice/device.service/cpu.max": "25000 100000"}, 0.25),
        (
            MODERN
            | {
                "cpu.max": "max 100000",
                "system.slice/cpu.max": "50000 100000",
                "system.slice/device.service/cpu.max": "200000 100000",
            },
            0.5,
        ),
        (MODERN | {"cpu.max": "50000 100000"}, 0.5),
        (
            MODERN
            | {"cpu.max": "max 100000", "user.slice/cpu.max": "1000 100000"}
            | {"system.slice/other.service/cpu.max": "1000 100000"},
            float("inf"),
        ),
        (
            OLD
            | {"cpu/a/b/cpu.cfs_quota_us": "-1", "cpu/a/b/cpu.cfs_period_us": "100000"}
            | {"cpu/a/cpu.cfs_quota_us": "150000", "cpu/a/cpu.cfs_period_us": "100000"}
            | {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}
            | {"cpu/other/cpu.cfs_quota_us": "1", "cpu/other/cpu.cfs_period_us": "100000"},
            1.5,
        ),
        (
            {"proc/self/cgroup": "0::/../sibling", "cpu.max": "50000 100000"}
            | {"../sibling/cpu.max": "1000 100000"},
            0.5,
        ),
    ],
    ids=[
        "a unit's own",
        "the tightest on the way up",
        "a container that is told the path outside",
        "of others",
        "v1",
        "outside of what is seen",
    ],
)
def test_the_quotas_of_the_process_s_own_group_and_of_those_that_hold_it_count(
    tmp_path: Path, files: dict[str, str], quota: float
) -> None:
    assert cgroup.processor_quota(write(tmp_path, placed(files))) == quota


@pytest.mark.parametrize(
    ("files", "memory_bytes"),
    [
        (
            MODERN
            | {
                "system.slice/device.service/memory.max": "1000000",
                "system.slice/device.service/memory.current": "700000",
                "system.slice/device.service/memory.stat": "inactive_file 200000",
                "system.slice/memory.max": "9000000",
                "system.slice/memory.current": "8600000",
            },
            400_000,  # the slice's; 500,000 are left of the unit's own
        ),
        (
            MODERN
            | {
                "system.slice/device.service/memory.max": "1000000",
                "system.slice/device.service/memory.current": "700000",
                "system.slice/memory.max": "max",
                "system.slice/memory.current": "8600000",
            },
            300_000,
        ),
        (MODERN | {"memory.max": "6000", "memory.current": "5000"}, 1000),
        (
            OLD
            | {
                "memory/a/b/memory.limit_in_bytes": "9000",
                "memory/a/b/memory.usage_in_bytes": "5000",
                "memory/memory.limit_in_bytes": "9223372036854771712",
                "memory/memory.usage_in_bytes": "100000",
            },
            4000,
        ),
    ],
    ids=["slice and unit", "unit", "a container that is told the path outside", "v1"],
)
def test_memory_that_is_left_to_the_process_s_own_group_and_to_those_that_hold_it_counts(
    tmp_path: Path, files: dict[str, str], memory_bytes: int
) -> None:
    assert cgroup.memory_bytes(write(tmp_path, MEMINFO | placed(files))) == memory_bytes


def placed(files: dict[str, str]) -> dict[str, str]:
    """Limits where the system has them."""
    return {
        name if name.startswith("proc/") else f"sys/fs/cgroup/{name}": text
        for name, text in files.items()
    }
