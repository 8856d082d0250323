"""A service that a command started ends with it, even if the command is killed."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PARENT_VARIABLE = "HOCKET_PARENT_PID"
_PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Get a SIGTERM when the process named by HOCKET_PARENT_PID dies; without it, do nothing."""
    parent = os.environ.get(PARENT_VARIABLE)
    if parent is None or sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if str(os.getppid()) != parent:  # it died before we asked
        sys.exit(1)
