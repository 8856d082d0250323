"""The one message that is not read by protobuf, with anything in it, means the same to it."""

from __future__ import annotations

from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from hocket.rpc.push_message import Chunk, read_push, write_push
from hocket.v1 import aggregator_pb2 as pb
from hocket.v1 import types_pb2

NUMBERS = st.integers(0, 2**64 - 1)
CHUNKS = st.builds(Chunk, NUMBERS, st.binary(max_size=300), st.none() | NUMBERS)


def by_protobuf(chunk: Chunk) -> pb.PushUpdateRequest:
    message = types_pb2.Chunk(offset=chunk.offset, data=bytes(chunk.data), checksum=chunk.checksum)
    return pb.PushUpdateRequest(chunk=message)


@settings(max_examples=3000, derandomize=True, database=None, deadline=None)
@given(
    st.binary(max_size=60)
    | st.builds(
        lambda m, at, b: m[: at % len(m)] + b + m[at % len(m) + 1 :],
        CHUNKS.map(write_push),
        st.integers(0, 400),
        st.binary(max_size=2),
    )
)
def test_whatever_comes_means_what_it_means_to_protobuf(message: bytes) -> None:
    try:
        expected = pb.PushUpdateRequest.FromString(message)
    except DecodeError:
        expected = None
    try:
        read = read_push(message)
    except DecodeError:
        assert expected is None
        return
    if isinstance(read, Chunk):
        read = by_protobuf(read)
    assert read == expected
