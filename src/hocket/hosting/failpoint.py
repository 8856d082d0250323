"""Named places at which a crash test has the process killed, as by SIGKILL; elsewhere, nothing.

HOCKET_FAILPOINT=NAME:N kills this process when it reaches the place for the N-th time;
HOCKET_FAILPOINT=NAME:N:FILE counts only while FILE is there.
"""

from __future__ import annotations

import os
import signal
from enum import StrEnum
from pathlib import Path

from hocket.hosting.settings import WrongSettings

VARIABLE = "HOCKET_FAILPOINT"


class Failpoint(StrEnum):
    """Every such place."""

    BEFORE_JOURNAL_WRITE = "before-journal-write"
    AFTER_JOURNAL_WRITE = "after-journal-write"
    BEFORE_JOURNAL_SYNC = "before-journal-sync"
    AFTER_JOURNAL_SYNC = "after-journal-sync"
    MID_STREAM = "mid-stream"  # the aggregator has taken some chunks of a body
    BEFORE_ACKNOWLEDGEMENT = "before-acknowledgement"
    AFTER_ACKNOWLEDGEMENT = "after-acknowledgement"
    MID_SNAPSHOT = "mid-snapshot"  # between two of its tensors
    BEFORE_MANIFEST = "before-manifest"  # every tensor has its name, the manifest has not
    BEFORE_RECORDS = "before-records"  # journalled, not yet in the database
    BEFORE_REGISTRY_SAVE = "before-registry-save"
    AFTER_REGISTRY_SAVE = "after-registry-save"
    OUTBOX_WRITTEN = "outbox-written"  # the device's update is kept, nothing was sent
    MID_PUSH = "mid-push"  # the device has sent some chunks
    OUTCOME_KNOWN = "outcome-known"  # the device has the answer, the outbox still the update


_armed: dict[Failpoint, int] = {}  # how often each may still be passed, this time included
_while_there: dict[Failpoint, Path] = {}


def arm(setting: str) -> None:
    """Take NAME:N or NAME:N:FILE in. Raises WrongSettings."""
    name, _, rest = setting.partition(":")
    count, _, file = rest.partition(":")
    try:
        place, times = Failpoint(name), int(count)
    except ValueError:
        known = ", ".join(Failpoint)
        raise WrongSettings(
            f"{VARIABLE} is {setting!r}; write NAME:N or NAME:N:FILE with one of {known}"
        ) from None
    _armed[place] = times
    if file:
        _while_there[place] = Path(file)


def reach(place: Failpoint) -> None:
    """The process has come to `place`."""
    if not _armed or place not in _armed:
        return
    if place in _while_there and not _while_there[place].exists():
        return
    _armed[place] -= 1
    if _armed[place] <= 0:
        os.kill(os.getpid(), signal.SIGKILL)
