"""What the system allows this process: the files of control groups (both versions) and /proc."""

from __future__ import annotations

from pathlib import Path

ROOT = Path("/")
LEAST_BYTES = 1  # where all is used: 0 would say that nobody knows
UNLIMITED_BYTES = 1 << 60  # version 1 writes "no limit" as a number near 2**63


def processor_quota(root: Path = ROOT) -> float:
    """Processors that this process may use, such as 0.5; infinity without a limit."""
    modern = _words(root / "sys/fs/cgroup/cpu.max")
    if len(modern) == 2:
        return _ratio(modern[0], modern[1])
    folder = root / "sys/fs/cgroup/cpu"
    quota, period = _words(folder / "cpu.cfs_quota_us"), _words(folder / "cpu.cfs_period_us")
    return _ratio(quota[0], period[0]) if quota and period else float("inf")


def memory_bytes(root: Path = ROOT) -> int:
    """Memory that this process could still take; 0 if nothing says."""
    free = [
        found
        for found in (
            _available(root / "proc/meminfo"),
            _left(root / "sys/fs/cgroup", "memory.max", "memory.current"),
            _left(root / "sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
        )
        if found is not None
    ]
    return min(free, default=0)


def _ratio(quota: str, period: str) -> float:
    limited = quota.isdecimal() and period.isdecimal() and int(quota) > 0 and int(period) > 0
    return int(quota) / int(period) if limited else float("inf")  # "max", or -1


def _left(folder: Path, limit_name: str, usage_name: str) -> int | None:
    limit, usage = _words(folder / limit_name), _words(folder / usage_name)
    if not (limit and usage and limit[0].isdecimal() and usage[0].isdecimal()):
        return None
    if int(limit[0]) >= UNLIMITED_BYTES:
        return None
    used = int(usage[0]) - _reclaimable(folder)
    return max(LEAST_BYTES, int(limit[0]) - used)


def _reclaimable(folder: Path) -> int:
    """Of the memory that counts as used, what files left behind and the system takes back first."""
    words = _words(folder / "memory.stat")
    told = dict(zip(words[::2], words[1::2], strict=False))
    found = told.get("total_inactive_file", told.get("inactive_file", "0"))  # version 1, or 2
    return int(found) if found.isdecimal() else 0


def _available(meminfo: Path) -> int | None:
    words = _words(meminfo)
    if "MemAvailable:" not in words:
        return None
    return int(words[words.index("MemAvailable:") + 1]) * 1024


def _words(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="ascii").split()
    except OSError:  # another system, or another version of control groups
        return []
