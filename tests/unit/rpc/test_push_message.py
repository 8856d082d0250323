"""The one message that is not read by protobuf must mean the same to it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hocket.rpc.push_message import Chunk, read_push, write_push
from hocket.v1 import aggregator_pb2 as pb
from hocket.v1 import types_pb2

NUMBERS = st.integers(0, 2**64 - 1)
CHUNKS = st.builds(Chunk, NUMBERS, st.binary(max_size=300), st.none() | NUMBERS)


def by_protobuf(chunk: Chunk) -> pb.PushUpdateRequest:
    message = types_pb2.Chunk(offset=chunk.offset, data=bytes(chunk.data), checksum=chunk.checksum)
    return pb.PushUpdateRequest(chunk=message)


@given(CHUNKS)
def test_protobuf_reads_what_we_write(chunk: Chunk) -> None:
    assert pb.PushUpdateRequest.FromString(write_push(chunk)) == by_protobuf(chunk)


@given(CHUNKS)
def test_we_read_what_protobuf_writes(chunk: Chunk) -> None:
    read = read_push(by_protobuf(chunk).SerializeToString())
    if not isinstance(read, Chunk):  # without data we leave it to protobuf
        assert not chunk.data
        return
    assert (read.offset, bytes(read.data), read.checksum) == (
        chunk.offset,
        chunk.data,
        chunk.checksum,
    )


def test_data_is_a_view_of_the_message() -> None:
    message = write_push(Chunk(7, b"abcd", 1))
    read = read_push(message)
    assert isinstance(read, Chunk)
    assert isinstance(read.data, memoryview)
    assert read.data.obj is message


def test_a_header_is_read_by_protobuf() -> None:
    message = pb.PushUpdateRequest(header=pb.PushHeader(update_id="u"))
    assert read_push(write_push(message)) == message


def test_another_order_of_fields_is_read_by_protobuf() -> None:
    chunk = b"\x19" + bytes(8) + b"\x12\x02ab" + b"\x08\x05"
    read = read_push(b"\x12" + bytes([len(chunk)]) + chunk)
    assert isinstance(read, pb.PushUpdateRequest)
    assert (read.chunk.offset, read.chunk.data, read.chunk.checksum) == (5, b"ab", 0)


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16_383, 16_384, 512 * 1024])
def test_lengths_around_those_where_varints_grow(size: int) -> None:
    chunk = Chunk(size, bytes(size), None)
    assert pb.PushUpdateRequest.FromString(write_push(chunk)) == by_protobuf(chunk)
