"""A payload's body in pieces: cut on one side, checked and put together on the other."""

from __future__ import annotations

from collections.abc import Iterator

import xxhash
from typing_extensions import Buffer

from hocket.core.payload import CHUNK_BYTES, Payload, PayloadHeader
from hocket.errors import CorruptPayload, PayloadTooLarge
from hocket.rpc.push_message import Chunk, from_pb
from hocket.v1 import types_pb2 as pb

MAX_CHUNK_BYTES = 1024 * 1024


def checksum(data: Buffer) -> int:
    """xxh3-64 of the bytes, as chunks and payload headers carry it."""
    return xxhash.xxh3_64_intdigest(data)


def chunks(body: Buffer, offset: int = 0, chunk_bytes: int = CHUNK_BYTES) -> Iterator[pb.Chunk]:
    """The body from `offset` on, in order, in pieces of at most `chunk_bytes`.

    Raises ValueError for an offset outside the body or a chunk size outside 1 to 1 MiB.
    """
    for piece in pieces(body, offset, chunk_bytes):
        yield pb.Chunk(offset=piece.offset, data=bytes(piece.data), checksum=piece.checksum)


def pieces(body: Buffer, offset: int = 0, chunk_bytes: int = CHUNK_BYTES) -> Iterator[Chunk]:
    """As `chunks`, each a view of the body."""
    view = memoryview(body).cast("B")
    if not 0 <= offset <= len(view):
        raise ValueError(f"offset {offset} is outside a body of {len(view)} bytes")
    if not 1 <= chunk_bytes <= MAX_CHUNK_BYTES:
        raise ValueError(f"chunk_bytes must be in 1 to {MAX_CHUNK_BYTES}, not {chunk_bytes}")
    for start in range(offset, len(view), chunk_bytes):
        data = view[start : start + chunk_bytes]
        yield Chunk(start, data, checksum(data))


class Assembler:
    """Takes chunks in order and verifies each; a refused chunk changes nothing.

    A checksum may be absent (a client needs no hash library); one that is there must be right.
    A header's claim beyond `limit_bytes` raises PayloadTooLarge; any other takes no memory before
    its bytes have come, unless `memory` is given to put them in.
    """

    def __init__(
        self, header: PayloadHeader, limit_bytes: int, memory: memoryview | None = None
    ) -> None:
        if header.wire_bytes > limit_bytes:
            raise PayloadTooLarge(
                f"the payload claims {header.wire_bytes} bytes, but at most {limit_bytes} fit "
                "here: encode for this model, with the codec that GetTask names"
            )
        self.header = header
        self.received = 0
        """Bytes taken so far: the offset of the next chunk, and where a broken push resumes."""
        self._memory = memory
        self._body = bytearray()  # grows as bytes come, where no memory was given

    @property
    def is_complete(self) -> bool:
        """Whether every byte of the body has come."""
        return self.received == self.header.wire_bytes

    @property
    def so_far(self) -> memoryview:
        """The bytes taken so far, which nothing changes any more."""
        if self._memory is None:
            return memoryview(bytes(self._body))  # which may grow while somebody holds this
        return self._memory[: self.received]

    def add(self, chunk: Chunk | pb.Chunk) -> memoryview:
        """Take the next chunk; its bytes, as they lie in the `memory` if that was given.

        Raises CorruptPayload or PayloadTooLarge.
        """
        piece = from_pb(chunk) if isinstance(chunk, pb.Chunk) else chunk
        data = memoryview(piece.data)
        self._check_place(piece.offset, data.nbytes)
        if piece.checksum is not None and checksum(data) != piece.checksum:
            raise CorruptPayload(
                f"the chunk at offset {piece.offset} does not match its checksum: send it again"
            )
        self.received += data.nbytes
        if self._memory is None:
            self._body += data
            return data
        stored = self._memory[piece.offset : self.received]
        stored[:] = data
        return stored

    def finish(self) -> Payload:
        """The whole payload; raises CorruptPayload unless all of it came and it is as sent."""
        payload = self.whole()
        if self.header.checksum not in {None, checksum(payload.body)}:
            raise CorruptPayload(
                "the body does not match the checksum in its header: encode and send it again"
            )
        return payload

    def whole(self) -> Payload:
        """As `finish`, for a decoder that looks at the header's checksum itself."""
        if not self.is_complete:
            raise CorruptPayload(
                f"the body ended at byte {self.received} of {self.header.wire_bytes}: send the rest"
            )
        if self._memory is None:
            return Payload(self.header, self._body)
        return Payload(self.header, self._memory[: self.received])

    def _check_place(self, offset: int, num_bytes: int) -> None:
        if not 1 <= num_bytes <= MAX_CHUNK_BYTES:
            raise CorruptPayload(
                f"a chunk of {num_bytes} bytes came at offset {offset}: "
                f"send 1 to {MAX_CHUNK_BYTES} bytes at a time"
            )
        if offset != self.received:
            raise CorruptPayload(
                f"a chunk for offset {offset} came where {self.received} was next: "
                "send chunks in order, without gaps"
            )
        if offset + num_bytes > self.header.wire_bytes:
            raise PayloadTooLarge(
                f"the chunk at offset {offset} runs past the {self.header.wire_bytes} bytes "
                "that the header promised: encode and push again"
            )
