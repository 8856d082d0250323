"""What a process takes of the machine, as Linux tells: memory, processor time."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from hocket.errors import NotFound

KIB = 1024
PROC = Path("/proc")


def rss_bytes(pid: int) -> int:
    """Resident memory now. Raises NotFound."""
    return _status(pid, "VmRSS")


def rss_peak_bytes(pid: int) -> int:
    """The most resident memory that the process has had. Raises NotFound."""
    return _status(pid, "VmHWM")


def cpu_s(pid: int) -> float:
    """Processor time that the process has used so far, in all its threads. Raises NotFound."""
    fields = _read(pid, "stat").rpartition(")")[2].split()  # a name may hold blanks
    user_ticks, system_ticks = int(fields[11]), int(fields[12])
    return (user_ticks + system_ticks) / os.sysconf("SC_CLK_TCK")


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Least squares through (x, y); 0 where all x are the same."""
    count = len(points)
    mean_x = sum(x for x, _ in points) / count if count else 0.0
    mean_y = sum(y for _, y in points) / count if count else 0.0
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    if spread == 0.0:
        return 0.0
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread


def settled_slope(points: Sequence[tuple[float, float]]) -> float:
    """The slope over the second half: the first is caches and pools that fill."""
    return slope(points[len(points) // 2 :])


def _status(pid: int, field: str) -> int:
    for line in _read(pid, "status").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * KIB
    raise NotFound(f"process {pid} tells no {field}: has it ended?")


def _read(pid: int, file: str) -> str:
    try:
        return (PROC / str(pid) / file).read_text()
    except OSError as cause:
        raise NotFound(
            f"{PROC}/{pid}/{file} cannot be read ({cause.strerror}): the process has ended, or "
            "this system is no Linux, which the bench needs"
        ) from cause
