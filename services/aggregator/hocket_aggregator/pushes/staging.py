"""Bodies of updates on their way in, kept for a while when the stream that brought them breaks.

What comes goes to the journal as well, so that a push goes on where it was after a restart, too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from hocket.core.ids import DeviceId, Incarnation, UpdateId
from hocket.core.manifest import BYTES_PER_VALUE
from hocket.core.payload import Payload, PayloadHeader
from hocket.core.update import UpdateHeader
from hocket.errors import InvalidUpdate, Overloaded, StorageFull, Unavailable
from hocket.learn.digest import octets_of
from hocket.learn.pool import POOL
from hocket.rpc.chunks import MAX_CHUNK_BYTES, Assembler
from hocket.rpc.push_message import Chunk
from hocket_aggregator.journal import AnyJournal
from hocket_aggregator.journal.entries import Discarded, Opened, Piece

RETRY_AFTER_S = 2.0


@dataclass(slots=True)
class Body:
    """One update's body, as far as it has come."""

    header: UpdateHeader
    assembler: Assembler
    segment: int  # of the journal, in which it begins
    ticket: int = 0  # of its latest entry there
    reader: Staged | None = None  # None: its stream has broken
    touched_at: float = 0.0
    problem: StorageFull | None = None  # why the journal did not take all of it
    applying: int = 0
    """Streams that have it whole, on its way through the rules: the journal must keep it. A device
    may offer it once more meanwhile."""

    @property
    def num_bytes(self) -> int:
        """Bytes set aside for it."""
        return self.assembler.header.wire_bytes


class Staging:
    """At most `limit_bytes` of bodies; one that nothing was added to for `keep_s` may go.

    The bytes that a header claims count from the start, so the limit holds before memory is taken.
    A device has one body at a time: its next update takes the place of the one before, so that
    nobody can fill the room alone.
    """

    def __init__(
        self, limit_bytes: int, keep_s: float, now: Callable[[], float], journal: AnyJournal
    ) -> None:
        self.journal = journal
        self._limit_bytes = limit_bytes
        self._keep_s = keep_s
        self._now = now
        self._bodies: dict[UpdateId, Body] = {}

    def open(self, header: UpdateHeader, payload: PayloadHeader) -> Staged:
        """A place for the body, with what an earlier stream of the same update brought.

        Raises Overloaded when there is no room, PayloadTooLarge when there never will be,
        InvalidUpdate when another device uses this update_id, and Unavailable while another
        update of this name is being applied.
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
            if known is not None and known.applying:
                raise Unavailable(
                    f"an earlier push of {header.update_id!r} is being applied; push again"
                )
            self._drop_those_of(header.device_id)
            known = self._take(header, payload)
        known.header, known.touched_at = header, self._now()
        known.reader = Staged(self, known, header)
        return known.reader

    def restore(self, header: UpdateHeader, assembler: Assembler, segment: int) -> None:
        """Take back what had come of a body before a restart, one after the other as they began.

        The oldest go where there is no room for all. A body that the disk had no room for is among
        them, as far as it had come, since nothing in the journal says that it was refused: its
        device goes on from there, and if it never comes, the body goes as any other does.
        """
        body = Body(header, assembler, segment, touched_at=self._now())
        if body.num_bytes > self._limit_bytes:
            self._discard(header.update_id)
            return
        for oldest in list(self._bodies.values()):
            if self.num_bytes + body.num_bytes <= self._limit_bytes:
                break
            self._discard(oldest.header.update_id)
        self._bodies[header.update_id] = body

    @property
    def num_bytes(self) -> int:
        """Bytes set aside now."""
        return sum(body.num_bytes for body in self._bodies.values())

    @property
    def oldest_segment(self) -> int:
        """The first of the journal's segments that holds a body's bytes, or may yet."""
        return min((body.segment for body in self._bodies.values()), default=self.journal.segment)

    def carry(self) -> None:
        """Have the journal hold from here on what has come of the bodies: older segments may go.

        All in one go and in the order in which they began, since one of a device takes the place
        of what it had begun before. One that is being applied stays where it is: its answer,
        which is worth nothing without the body, may follow at any moment.
        """
        self._drop_abandoned()
        for body in [body for body in self._bodies.values() if not body.applying]:
            update_id, assembler = body.header.update_id, body.assembler
            body.segment = self.journal.segment
            body.ticket = self.journal.append(Opened(body.header, assembler.header))
            so_far = assembler.so_far
            for offset in range(0, len(so_far), MAX_CHUNK_BYTES):
                data = so_far[offset : offset + MAX_CHUNK_BYTES]
                body.ticket = self.journal.append(Piece(update_id, offset, data))

    def received(self, update_id: UpdateId) -> int:
        """Bytes of an update's body that have come; 0 if none is on its way."""
        body = self._bodies.get(update_id)
        return 0 if body is None else body.assembler.received

    def refuse(self, update_id: UpdateId, problem: StorageFull) -> None:
        """The journal has no room for the body; its device must push again, later."""
        body = self._bodies.pop(update_id, None)
        if body is not None:
            body.problem = problem

    def touch(self, body: Body, reader: Staged) -> None:
        """Something happens to a body. Raises StorageFull if the journal did not take it.

        Raises Unavailable if another stream has taken the body over.
        """
        if body.problem is not None:
            raise body.problem
        if self._bodies.get(body.header.update_id) is not body or body.reader is not reader:
            raise Unavailable(
                f"the push of {body.header.update_id!r} was given up here or taken over by "
                "another stream; push again"
            )
        body.touched_at = self._now()

    def leave(self, body: Body, reader: Staged) -> None:
        """The stream broke off; another may go on."""
        if body.reader is reader:
            body.reader = None

    def drop(self, body: Body, reader: Staged, *, settled: bool) -> None:
        """Forget the body, as the journal does with a settled one.

        One that is not settled stays when it is another stream's by now, or being applied: what
        the rules take in must be in the journal.
        """
        if self._bodies.get(body.header.update_id) is not body:
            return
        if settled:
            del self._bodies[body.header.update_id]
        elif body.reader is reader and not body.applying:
            self._discard(body.header.update_id)
        else:
            return
        body.reader = None  # a cycle would keep the memory for a while

    def _take(self, header: UpdateHeader, payload: PayloadHeader) -> Body:
        if payload.wire_bytes <= self._limit_bytes:  # else the assembler says that it never fits
            self._make_room(payload.wire_bytes)
        assembler = Assembler(payload, self._limit_bytes, room_for(payload))
        body = Body(header, assembler, self.journal.segment)
        body.ticket = self.journal.append(Opened(header, payload))
        self._bodies[header.update_id] = body
        return body

    def _make_room(self, num_bytes: int) -> None:
        """Discard broken bodies, the oldest first, as far as needed; none where all are too few.

        Raises Overloaded.
        """
        broken = [b for b in self._bodies.values() if b.reader is None and not b.applying]
        broken.sort(key=lambda body: body.touched_at)
        free, going = self._limit_bytes - self.num_bytes, list[Body]()
        while free < num_bytes and broken:
            going.append(broken.pop(0))
            free += going[-1].num_bytes
        if free < num_bytes:
            raise Overloaded(
                f"{self._limit_bytes - free} bytes of other updates are on their way in; push "
                f"again in {RETRY_AFTER_S:g} s",
                RETRY_AFTER_S,
            )
        for body in going:
            self._discard(body.header.update_id)

    def _drop_those_of(self, device_id: DeviceId) -> None:
        theirs = [b for b in self._bodies.values() if b.header.device_id == device_id]
        for body in [b for b in theirs if not b.applying]:
            self._discard(body.header.update_id)

    def _drop_abandoned(self) -> None:
        limit = self._now() - self._keep_s
        old = [body for body in self._bodies.values() if body.touched_at < limit]
        for body in [b for b in old if not b.applying]:
            self._discard(body.header.update_id)

    def _discard(self, update_id: UpdateId) -> None:
        self._bodies.pop(update_id, None)
        self.journal.append(Discarded(update_id))


@dataclass(frozen=True, slots=True, eq=False)
class Staged:
    """One stream's hold on a body."""

    staging: Staging
    body: Body
    header: UpdateHeader  # as this stream sent it; the incarnation of another may be a newer one

    @property
    def received(self) -> int:
        """The offset from which to go on."""
        return self.body.assembler.received

    @property
    def is_complete(self) -> bool:
        """Whether every byte has come."""
        return self.body.assembler.is_complete

    async def add(self, chunk: Chunk) -> None:
        """Take the next chunk, once the journal has room for it.

        Raises CorruptPayload, PayloadTooLarge, StorageFull or Unavailable.
        """
        journal = self.staging.journal
        await journal.room()
        self.staging.touch(self.body, self)
        data = self.body.assembler.add(chunk)
        piece = Piece(self.header.update_id, chunk.offset, data, chunk.checksum)
        self.body.ticket = journal.append(piece)

    async def finish(self) -> Payload:
        """The whole payload, once the journal has it (not synced yet): it is being applied now.

        Whoever decodes it looks at its checksum. Raises CorruptPayload, StorageFull or Unavailable.
        """
        self.staging.touch(self.body, self)
        payload = self.body.assembler.whole()
        ticket = None
        while ticket != self.body.ticket:  # it may be carried meanwhile
            ticket = self.body.ticket
            await self.staging.journal.written(ticket)
        self.staging.touch(self.body, self)
        self.body.applying += 1
        return payload

    def leave(self) -> None:
        """The stream broke off; another may go on from `received`."""
        self.staging.leave(self.body, self)

    def give_up(self) -> None:
        """This stream does not apply it any more; another may."""
        self.body.applying -= 1

    def settle(self) -> None:
        """The update has its answer: nothing of the body is needed any more."""
        self.staging.drop(self.body, self, settled=True)

    def discard(self) -> None:
        """The body is unsound: forget it."""
        self.staging.drop(self.body, self, settled=False)


def _same(known: Body, header: UpdateHeader, payload: PayloadHeader) -> bool:
    """Whether it is the same update; a restarted device sends it as a newer incarnation."""
    mine, theirs = (replace(h, incarnation=Incarnation(1)) for h in (known.header, header))
    return mine == theirs and known.assembler.header == payload


def room_for(payload: PayloadHeader) -> memoryview:
    """Memory for a body: it takes no pages before bytes are put there, and is used again after."""
    values = POOL.take(-(-payload.wire_bytes // BYTES_PER_VALUE))
    return octets_of(values)
