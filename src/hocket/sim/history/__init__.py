"""Recorded histories: everything from which each version of a model can be made again.

A folder of `entries.jsonl`, one line for each thing that the rules took in, and `bodies.bin`, the
updates' bytes as they came. A simulation records one as it runs; an aggregator's is written from
its journal. Both read the same.
"""

from hocket.sim.history.entries import (
    Beginning,
    Closed,
    Ended,
    Entry,
    Held,
    Joined,
    Settled,
)
from hocket.sim.history.reader import Found, History, read_history
from hocket.sim.history.recorder import Recorder, beginning_of
from hocket.sim.history.writer import HistoryWriter, new_folder

__all__ = [
    "Beginning",
    "Closed",
    "Ended",
    "Entry",
    "Found",
    "Held",
    "History",
    "HistoryWriter",
    "Joined",
    "Recorder",
    "Settled",
    "beginning_of",
    "new_folder",
    "read_history",
]
