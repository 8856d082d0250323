from __future__ import annotations

import tracemalloc
from dataclasses import replace

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from hocket.core.payload import CHUNK_BYTES, CodecId, Packing, PayloadHeader, TensorHeader
from hocket.errors import CorruptPayload, PayloadTooLarge
from hocket.rpc import convert
from hocket.rpc.chunks import MAX_CHUNK_BYTES, Assembler, checksum, chunks
from hocket.v1 import types_pb2 as pb

MIB = 1024 * 1024


def header(body: bytes, *, wire_bytes: int | None = None) -> PayloadHeader:
    tensor = TensorHeader("w", (len(body) // 4,), CodecId.RAW, len(body))
    claimed = len(body) if wire_bytes is None else wire_bytes
    return PayloadHeader((tensor,), Packing.NONE, claimed, xxhash.xxh3_64(body).intdigest())


def chunk(data: bytes, offset: int = 0) -> pb.Chunk:
    return pb.Chunk(offset=offset, data=data, checksum=xxhash.xxh3_64(data).intdigest())


def test_checksum_of_nothing_is_the_published_one() -> None:
    """XXH3-64 of the empty input with seed 0, from the xxHash specification."""
    assert checksum(b"") == 0x2D06800538D394C2


@given(
    body=st.binary(max_size=300),
    chunk_bytes=st.integers(1, 64),
    start=st.floats(0, 1, exclude_max=True),
)
def test_a_body_comes_back_whole_and_resumes_at_any_chunk(
    body: bytes, chunk_bytes: int, start: float
) -> None:
    assembler = Assembler(header(body), limit_bytes=300)
    every = list(chunks(body, chunk_bytes=chunk_bytes))
    before = every[: int(start * len(every))]
    for each in before:
        assembler.add(each)
    for each in chunks(body, assembler.received, chunk_bytes):
        assembler.add(each)
    assert assembler.is_complete
    assert bytes(assembler.finish().body) == body


def test_a_body_larger_than_a_grpc_message_passes() -> None:
    body = bytes(range(256)) * (9 * MIB // 256) + b"odd"
    pieces = list(chunks(body))
    assert max(piece.ByteSize() for piece in pieces) < 4 * MIB
    assert [len(piece.data) for piece in pieces[:-1]] == [CHUNK_BYTES] * 18
    assembler = Assembler(header(body), limit_bytes=len(body))
    for piece in pieces:
        assembler.add(piece)
    assert bytes(assembler.finish().body) == body


@pytest.mark.parametrize("offset", [0, 2, 5, 8], ids=["again", "overlap", "gap", "far"])
def test_a_chunk_out_of_place_is_refused_and_changes_nothing(offset: int) -> None:
    body = b"abcdefgh"
    assembler = Assembler(header(body), limit_bytes=8)
    assembler.add(chunk(b"abc"))
    with pytest.raises(CorruptPayload, match=f"offset {offset} came where 3 was next"):
        assembler.add(chunk(b"d", offset))
    assert assembler.received == 3
    assembler.add(chunk(b"defgh", 3))
    assert bytes(assembler.finish().body) == body


def test_a_chunk_with_a_flipped_bit_is_refused_and_can_be_sent_again() -> None:
    body = b"abcdefgh"
    assembler = Assembler(header(body), limit_bytes=8)
    flipped = chunk(body)
    flipped.data = b"abcdefgi"
    with pytest.raises(CorruptPayload, match="checksum"):
        assembler.add(flipped)
    assembler.add(chunk(body))
    assert bytes(assembler.finish().body) == body


def test_sound_chunks_of_another_body_are_refused_at_the_end() -> None:
    assembler = Assembler(header(b"abcdefgh"), limit_bytes=8)
    assembler.add(chunk(b"abcdefgX"))
    with pytest.raises(CorruptPayload, match="header"):
        assembler.finish()


def test_absent_checksums_are_not_checked_but_lengths_and_places_are() -> None:
    body = b"abcdefgh"
    unsummed = replace(header(body), checksum=None)
    assembler = Assembler(unsummed, limit_bytes=8)
    with pytest.raises(CorruptPayload, match="offset 1 came where 0 was next"):
        assembler.add(pb.Chunk(offset=1, data=body))
    assembler.add(pb.Chunk(data=body[:5]))
    with pytest.raises(CorruptPayload, match="byte 5 of 8"):
        assembler.finish()
    assembler.add(pb.Chunk(offset=5, data=body[5:]))
    assert bytes(assembler.finish().body) == body


def test_a_checksum_of_zero_is_one_to_be_checked() -> None:
    """Presence counts, not the value: xxh3-64 of this body is not 0."""
    zero = pb.Chunk(data=b"abcdefgh", checksum=0)
    assembler = Assembler(replace(header(b"abcdefgh"), checksum=0), limit_bytes=8)
    with pytest.raises(CorruptPayload, match="checksum"):
        assembler.add(zero)
    assembler.add(pb.Chunk(data=b"abcdefgh"))
    with pytest.raises(CorruptPayload, match="header"):
        assembler.finish()


@pytest.mark.parametrize("checksum", [None, 0, 2**64 - 1])
def test_a_header_tells_an_absent_checksum_from_zero(checksum: int | None) -> None:
    sent = replace(header(b"abcdefgh"), checksum=checksum)
    wire = convert.payload_header_to_pb(sent).SerializeToString()
    assert convert.payload_header_from_pb(pb.PayloadHeader.FromString(wire)) == sent


def test_a_sender_without_xxh3_leaves_the_checksums_out() -> None:
    body = b"abcdefgh"
    assembler = Assembler(replace(header(body), checksum=None), limit_bytes=8)
    assembler.add(pb.Chunk(data=body))
    assert bytes(assembler.finish().body) == body


def test_a_checksum_of_zero_is_a_checksum() -> None:
    assembler = Assembler(replace(header(b"abcdefgh"), checksum=0), limit_bytes=8)
    with pytest.raises(CorruptPayload, match="checksum"):
        assembler.add(pb.Chunk(data=b"abcdefgh", checksum=0))
    assembler.add(chunk(b"abcdefgh"))
    with pytest.raises(CorruptPayload, match="header"):
        assembler.finish()


def test_a_body_cut_short_is_refused() -> None:
    assembler = Assembler(header(b"abcdefgh"), limit_bytes=8)
    assembler.add(chunk(b"abcde"))
    with pytest.raises(CorruptPayload, match="byte 5 of 8"):
        assembler.finish()


def test_bytes_past_the_promised_end_are_refused() -> None:
    assembler = Assembler(header(b"abcdefgh", wire_bytes=4), limit_bytes=8)
    with pytest.raises(PayloadTooLarge, match="4 bytes"):
        assembler.add(chunk(b"abcdefgh"))
    assert assembler.received == 0


def test_chunks_have_a_largest_and_a_least_size() -> None:
    body = bytes(2 * MIB)
    assembler = Assembler(header(body), limit_bytes=len(body))
    with pytest.raises(CorruptPayload, match="0 bytes"):
        assembler.add(chunk(b""))
    with pytest.raises(CorruptPayload, match=str(MAX_CHUNK_BYTES)):
        assembler.add(chunk(body[: MAX_CHUNK_BYTES + 1]))
    assembler.add(chunk(body[:MAX_CHUNK_BYTES]))
    assert assembler.received == MAX_CHUNK_BYTES


def test_a_claim_takes_no_memory_before_its_bytes_come() -> None:
    claim = header(b"", wire_bytes=64 * MIB)
    part = bytes(MAX_CHUNK_BYTES)
    tracemalloc.start()
    try:
        with pytest.raises(PayloadTooLarge, match=f"{64 * MIB}"):
            Assembler(claim, limit_bytes=64 * MIB - 1)
        assembler = Assembler(claim, limit_bytes=64 * MIB)
        claimed_peak = tracemalloc.get_traced_memory()[1]
        assembler.add(chunk(part))
        partly_peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert assembler.received == len(part)
    assert claimed_peak < MIB
    assert len(part) <= partly_peak < 8 * len(part)


@pytest.mark.parametrize(("offset", "size"), [(9, 4), (-1, 4), (0, 0), (0, MAX_CHUNK_BYTES + 1)])
def test_cutting_refuses_what_no_receiver_takes(offset: int, size: int) -> None:
    with pytest.raises(ValueError, match=r"offset|chunk_bytes"):
        list(chunks(b"abcdefgh", offset, size))
