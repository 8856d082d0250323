"""Bodies of updates on their way in, kept for a while when the stream that brought them breaks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from hocket.core.ids import DeviceId, Incarnation, UpdateId
from hocket.core.payload import Payload, PayloadHeader
from hocket.core.update import UpdateHeader
from hocket.errors import InvalidUpdate, Overloaded, Unavailable
from hocket.rpc.chunks import Assembler

if TYPE_CHECKING:
    from hocket.v1.types_pb2 import Chunk

RETRY_AFTER_S = 2.0


@dataclass(slots=True)
class _Body:
    header: UpdateHeader
    assembler: Assembler
    reader: Staged | None = None  # None: its stream has broken
    touched_at: float = 0.0

    @property
    def num_bytes(self) -> int:
        return self.assembler.header.wire_bytes


@dataclass(frozen=True, slots=True)
class Staging:
    """At most `limit_bytes` of bodies; one that nothing was added to for `keep_s` may go.

    The bytes that a header claims count from the start, so the limit holds before memory is taken.
    A device has one body at a time: its next update takes the place of the one before, so that
    nobody can fill the room alone.
    """

    limit_bytes: int
    keep_s: float
    now: Callable[[], float]
    _bodies: dict[UpdateId, _Body] = field(default_factory=dict)

    def open(self, header: UpdateHeader, payload: PayloadHeader) -> Staged:
        """A place for the body, with what an earlier stream of the same update brought.

        Raises Overloaded when there is no room, PayloadTooLarge when there never will be, and
        InvalidUpdate when another device uses this update_id.
        """
        self._drop_abandoned()
        known = self._bodies.get(header.update_id)
        if known is not None and known.header.device_id != header.device_id:
            raise InvalidUpdate(
                f"update_id {header.update_id!r} is used by another device; choose ids nobody "
                "else can",
                update_id=header.update_id,
            )
        if known is None or not _same(known, header, payload):
            self._bodies.pop(header.update_id, None)
            self._drop_those_of(header.device_id)
            known = self._take(header, payload)
        known.header, known.touched_at = header, self.now()
        known.reader = Staged(self, known)
        return known.reader

    @property
    def num_bytes(self) -> int:
        """Bytes set aside now."""
        return sum(body.num_bytes for body in self._bodies.values())

    def received(self, update_id: UpdateId) -> int:
        """Bytes of an update's body that have come; 0 if none is on its way."""
        body = self._bodies.get(update_id)
        return 0 if body is None else body.assembler.received

    def touch(self, body: _Body, reader: Staged) -> None:
        """Something was added; raises Unavailable if another stream has taken the body over."""
        if self._bodies.get(body.header.update_id) is not body or body.reader is not reader:
            raise Unavailable(
                f"the push of {body.header.update_id!r} was given up here or taken over by "
                "another stream; push again"
            )
        body.touched_at = self.now()

    def leave(self, body: _Body, reader: Staged) -> None:
        """The stream broke off; another may go on."""
        if body.reader is reader:
            body.reader = None

    def drop(self, body: _Body, reader: Staged) -> None:
        """Forget the body, if it is still this stream's."""
        if body.reader is reader and self._bodies.get(body.header.update_id) is body:
            del self._bodies[body.header.update_id]

    def _take(self, header: UpdateHeader, payload: PayloadHeader) -> _Body:
        broken = [body for body in self._bodies.values() if body.reader is None]
        broken.sort(key=lambda body: body.touched_at)
        free = self.limit_bytes - self.num_bytes
        while free < payload.wire_bytes and broken:
            oldest = broken.pop(0)
            del self._bodies[oldest.header.update_id]
            free += oldest.num_bytes
        if free < payload.wire_bytes <= self.limit_bytes:
            raise Overloaded(
                f"{self.limit_bytes - free} bytes of other updates are on their way in; push "
                f"again in {RETRY_AFTER_S:g} s",
                RETRY_AFTER_S,
            )
        body = _Body(header, Assembler(payload, self.limit_bytes))
        self._bodies[header.update_id] = body
        return body

    def _drop_those_of(self, device_id: DeviceId) -> None:
        theirs = [i for i, body in self._bodies.items() if body.header.device_id == device_id]
        for update_id in theirs:
            del self._bodies[update_id]

    def _drop_abandoned(self) -> None:
        limit = self.now() - self.keep_s
        for update_id in [i for i, body in self._bodies.items() if body.touched_at < limit]:
            del self._bodies[update_id]


@dataclass(frozen=True, slots=True, eq=False)
class Staged:
    """One stream's hold on a body."""

    staging: Staging
    body: _Body

    @property
    def header(self) -> UpdateHeader:
        """Whose body it is."""
        return self.body.header

    @property
    def received(self) -> int:
        """The offset from which to go on."""
        return self.body.assembler.received

    @property
    def is_complete(self) -> bool:
        """Whether every byte has come."""
        return self.body.assembler.is_complete

    def add(self, chunk: Chunk) -> None:
        """Take the next chunk; raises CorruptPayload, PayloadTooLarge or Unavailable."""
        self.staging.touch(self.body, self)
        self.body.assembler.add(chunk)

    def finish(self) -> Payload:
        """The whole payload; raises CorruptPayload or Unavailable."""
        self.staging.touch(self.body, self)
        return self.body.assembler.finish()

    def leave(self) -> None:
        """The stream broke off; another may go on from `received`."""
        self.staging.leave(self.body, self)

    def drop(self) -> None:
        """Nothing of it is needed any more."""
        self.staging.drop(self.body, self)


def _same(known: _Body, header: UpdateHeader, payload: PayloadHeader) -> bool:
    """Whether it is the same update; a restarted device sends it as a newer incarnation."""
    mine, theirs = (replace(h, incarnation=Incarnation(1)) for h in (known.header, header))
    return mine == theirs and known.assembler.header == payload
