"""A journal told from a task's beginning: what was taken in, and what each update held."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hocket.core.payload import Payload
from hocket.errors import CorruptState, HocketError, NotFound
from hocket_aggregator.aggregator import JOURNAL
from hocket_aggregator.journal.entries import Closed, Concluded, Held, Settled
from hocket_aggregator.journal.reader import Found, read_entries, segments
from hocket_aggregator.recovery.bodies import Bodies, OpenBody

FIRST_SEGMENT = 1


@dataclass(frozen=True, slots=True)
class Told:
    """An entry that decides what the model comes to; with a settled update what it held."""

    entry: Held | Settled | Closed | Concluded
    payload: Payload | None = None  # None: there is none, or it never came whole


def tell(data_dir: Path, limit_bytes: int) -> Iterator[Told]:
    """Everything that an aggregator's journal says from its task's beginning on, in order.

    The aggregator may be at work: then up to what is on disk. `limit_bytes` is the largest body.

    Raises NotFound where nothing was ever journalled or the beginning is gone, and CorruptState,
    which names file and offset, for damage.
    """
    folder = data_dir / JOURNAL
    known = segments(folder)
    if not known:
        raise NotFound(
            f"no journal is in {data_dir}; check the folder, or start an aggregator there first"
        )
    if known[0] != FIRST_SEGMENT:
        raise NotFound(
            f"the journal in {data_dir} begins at segment {known[0]}: what came before is gone "
            "(see AGGREGATOR_JOURNAL_KEPT_BYTES), and a history must begin with its task. "
            "`hocket replay` rebuilds the versions that snapshots and journal still reach"
        )
    bodies = Bodies(limit_bytes)
    for found in read_entries(folder, FIRST_SEGMENT):
        match found.entry:
            case Settled(header) as settled:
                yield Told(settled, _payload(bodies.pop(header.update_id)))
            case Held() | Closed() | Concluded() as entry:
                yield Told(entry)
            case _:
                _take(bodies, found, folder)


def _payload(body: OpenBody | None) -> Payload | None:
    return body.assembler.whole() if body is not None and body.assembler.is_complete else None


def _take(bodies: Bodies, found: Found, folder: Path) -> None:
    try:
        bodies.take(found)
    except HocketError as error:
        raise CorruptState(
            f"{folder}, segment {found.segment}, offset {found.offset}: {error.message}",
            segment=str(found.segment),
            offset=str(found.offset),
        ) from error
