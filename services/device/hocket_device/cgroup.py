"""What the system allows this process: the files of control groups (both versions) and /proc.

A group is bound by its own limits and by those of every group that holds it, so all of them count,
from the process's own (a systemd unit, say) up to the topmost that can be seen.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")
LEAST_BYTES = 1  # where all is used: 0 would say that nobody knows
UNLIMITED_BYTES = 1 << 60  # version 1 writes "no limit" as a number near 2**63
MODERN = ""  # version 2 has one tree for all controllers, and names none


def processor_quota(root: Path = ROOT) -> float:
    """Processors that this process may use, such as 0.5; infinity without a limit."""
    granted = [float("inf")]
    for folder in _groups(root, MODERN):
        modern = _words(folder / "cpu.max")
        if len(modern) == 2:
            granted.append(_ratio(modern[0], modern[1]))
    for folder in _groups(root, "cpu"):
        quota, period = _words(folder / "cpu.cfs_quota_us"), _words(folder / "cpu.cfs_period_us")
        if quota and period:
            granted.append(_ratio(quota[0], period[0]))
    return min(granted)


def memory_bytes(root: Path = ROOT) -> int:
    """Memory that this process could still take; 0 if nothing says."""
    free = [
        _available(root / "proc/meminfo"),
        *(_left(folder, "memory.max", "memory.current") for folder in _groups(root, MODERN)),
        *(
            _left(folder, "memory.limit_in_bytes", "memory.usage_in_bytes")
            for folder in _groups(root, "memory")
        ),
    ]
    return min((found for found in free if found is not None), default=0)


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """The folders of this process's group and of all that hold it, the topmost last.

    A container that does not see its own path (the one outside is told it) has its group on top.
    """
    top = root / "sys/fs/cgroup" / controller
    steps = _own(root / "proc/self/cgroup", controller)
    for depth in range(len(steps), -1, -1):
        yield top.joinpath(*steps[:depth])


def _own(file: Path, controller: str) -> tuple[str, ...]:
    """The steps to the process's group: a line says `4:cpu,cpuacct:/a/b`, or `0::/a/b`."""
    try:
        lines = file.read_bytes().splitlines()
    except OSError:  # another system
        return ()
    for line in lines:
        _, _, told = os.fsdecode(line).partition(":")
        controllers, _, path = told.partition(":")
        if controller in controllers.split(","):
            steps = tuple(step for step in path.split("/") if step)
            return () if ".." in steps else steps  # outside of what can be seen
    return ()


def _ratio(quota: str, period: str) -> float:
    limited = quota.isdecimal() and period.isdecimal() and int(quota) > 0 and int(period) > 0
    return int(quota) / int(period) if limited else float("inf")  # "max", or -1


def _left(folder: Path, limit_name: str, usage_name: str) -> int | None:
    limit = _words(folder / limit_name)
    if not (limit and limit[0].isdecimal() and int(limit[0]) < UNLIMITED_BYTES):
        return None
    usage = _words(folder / usage_name)
    if not (usage and usage[0].isdecimal()):
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
