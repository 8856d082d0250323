"""methods/codecs.md C.2: the test vector, the expected lengths, the rejections."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hocket.errors import CorruptPayload
from hocket.learn.codecs.indices import decode_indices, encode_indices

VECTOR = [3, 7, 135, 136, 20000]
VECTOR_BYTES = bytes.fromhex("03 03 7f 00 97 9b 01")


def leb128(number: int) -> bytes:
    """The plain loop of the DWARF standard, 7.6."""
    octets = bytearray()
    while number >= 0x80:
        octets.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*octets, number])


def test_the_published_vector() -> None:
    assert encode_indices(np.array(VECTOR)) == VECTOR_BYTES
    assert decode_indices(memoryview(VECTOR_BYTES), 5, 20001).tolist() == VECTOR


@given(st.sets(st.integers(0, 2**32 - 1), max_size=30))
def test_indices_round_trip_and_agree_with_a_plain_loop(chosen: set[int]) -> None:
    indices = sorted(chosen)
    gaps = [here - before - 1 for before, here in zip([-1, *indices], indices, strict=False)]

    data = encode_indices(np.array(indices, dtype=np.int64))

    assert data == b"".join(leb128(gap) for gap in gaps)
    assert decode_indices(memoryview(data), len(indices), 2**32).tolist() == indices


@pytest.mark.parametrize(("density", "bytes_each"), [(0.1, 1.00), (0.01, 1.276), (0.001, 1.880)])
def test_bytes_for_each_index_at_random_positions(density: float, bytes_each: float) -> None:
    size = 4_000_000
    chosen = np.random.default_rng(5).random(size) < density

    data = encode_indices(np.flatnonzero(chosen))

    assert len(data) / chosen.sum() == pytest.approx(bytes_each, abs=0.02)


@pytest.mark.parametrize(
    ("data", "count", "size", "message"),
    [
        (VECTOR_BYTES, 5, 20000, "beyond the tensor's 20000 values"),
        (VECTOR_BYTES, 4, 20001, "4 whole varints"),  # more indices than said: trailing bytes
        (VECTOR_BYTES, 6, 20001, "6 whole varints"),
        (VECTOR_BYTES + b"\x80", 5, 20001, "5 whole varints"),  # a varint without an end
        (VECTOR_BYTES[:-1], 5, 20001, "5 whole varints"),
        (b"\x80\x80\x80\x80\x80\x01", 1, 2**40, "6 bytes, more than 5"),
        (b"\x83\x00", 1, 100, "fewest bytes"),
        (b"\x80\x00", 1, 100, "fewest bytes"),
        (b"\xff\xff\xff\xff\x7f" * 3, 3, 2**32 - 1, "beyond"),
        (b"\x00" * 5, 5, 4, "beyond"),  # more indices than places
    ],
)
def test_what_is_no_list_of_indices_is_refused(
    data: bytes, count: int, size: int, message: str
) -> None:
    with pytest.raises(CorruptPayload, match=message):
        decode_indices(memoryview(data), count, size)
