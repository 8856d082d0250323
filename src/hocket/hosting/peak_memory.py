"""The most memory that a piece of work takes, as the system tells it. Linux only."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_bytes_of(work: Callable[[], object]) -> int | None:
    """Resident memory at the peak of `work`, above what there was before; None where untold.

    Other threads of the process count as well. Work that finds enough memory that was freed, and
    not given back, takes none.
    """
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # what nobody uses counts when it is taken again
    try:
        before = _resident_bytes("VmRSS")
        RESET.write_text("5", encoding="ascii")  # the highest resident memory counts from now on
    except (OSError, ValueError):
        return None
    work()
    return max(0, _resident_bytes("VmHWM") - before)


def _resident_bytes(name: str) -> int:
    """One of the process's sizes. Raises OSError, or ValueError where it is not told."""
    lines = STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    (found,) = (line for line in lines if line.startswith(f"{name}:"))
    return int(found.split()[1]) * 1024
