"""Bodies of updates, put together again from the pieces that a journal holds of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hocket.core.ids import DeviceId, UpdateId
from hocket.core.update import UpdateHeader
from hocket.rpc.chunks import Assembler
from hocket.rpc.push_message import Chunk
from hocket_aggregator.journal.entries import Discarded, Opened, Piece
from hocket_aggregator.journal.reader import Found


@dataclass(slots=True)
class OpenBody:
    """A body whose update has no answer yet."""

    header: UpdateHeader
    assembler: Assembler
    segment: int  # in which it begins


class Bodies:
    """All bodies whose updates have no answer yet, in the order in which they began."""

    def __init__(self, limit_bytes: int) -> None:
        self._open: dict[UpdateId, OpenBody] = {}
        self._latest: dict[DeviceId, UpdateId] = {}  # that each device has begun
        self._limit_bytes = limit_bytes

    def __iter__(self) -> Iterator[OpenBody]:
        return iter(self._open.values())

    def take(self, found: Found) -> None:
        """Take in what the next record says of a body, if it does.

        Raises CorruptPayload or PayloadTooLarge for a piece that does not fit.
        """
        match found.entry:
            case Opened(header, payload):
                body = OpenBody(header, Assembler(payload, self._limit_bytes), found.segment)
                self._begin(body)
            case Piece(update_id, offset, data, checksum) if update_id in self._open:
                self._open[update_id].assembler.add(Chunk(offset, memoryview(data), checksum))
            case Discarded(update_id):
                self._open.pop(update_id, None)

    def pop(self, update_id: UpdateId) -> OpenBody | None:
        """The body of an update that has got its answer, which is open no more; None: no body."""
        return self._open.pop(update_id, None)

    def _begin(self, body: OpenBody) -> None:
        """As staging does: a device's next body takes the place of one that has not come whole.

        The journal says so itself of every body but one that the disk had no room for.
        """
        header = body.header
        before = self._open.get(self._latest.get(header.device_id, header.update_id))
        if before is not None and not before.assembler.is_complete:
            del self._open[before.header.update_id]
        self._open.pop(header.update_id, None)  # so that bodies are in the order of their begin
        self._open[header.update_id] = body
        self._latest[header.device_id] = header.update_id
