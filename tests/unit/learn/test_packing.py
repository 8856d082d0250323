from __future__ import annotations

import tracemalloc

import pytest
import torch
import zstandard
from support.codecs import seeded

from hocket.core.payload import Packing
from hocket.errors import CorruptPayload, PayloadTooLarge
from hocket.learn.codecs.packing import octets, pack_where_it_pays, packed_bytes_limit, unpack


def noise(size: int, seed: int = 0) -> bytes:
    return (
        torch.randint(0, 256, (size,), dtype=torch.uint8, generator=seeded(seed)).numpy().tobytes()
    )


def frame(body: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=3).compress(body)


@pytest.mark.parametrize("size", [2000, 3_000_000])
def test_what_repeats_is_packed_and_comes_back(size: int) -> None:
    body = noise(100) * (size // 100)

    packing, packed = pack_where_it_pays(body)

    assert packing is Packing.ZSTD
    assert octets(packed).nbytes < 0.1 * size
    assert unpack(octets(packed), size) == body


@pytest.mark.parametrize("size", [0, 1, 2000, 3_000_000])
def test_noise_travels_as_it_is_without_a_copy(size: int) -> None:
    body = noise(size)

    assert pack_where_it_pays(body) == (Packing.NONE, body)
    assert pack_where_it_pays(body)[1] is body


@pytest.mark.parametrize(("zeros", "packing"), [(150, Packing.NONE), (400, Packing.ZSTD)])
def test_two_percent_must_be_saved(zeros: int, packing: Packing) -> None:
    # Zeros cost zstd next to nothing and noise all of its length: 1.5 % and 4 % are saved.
    body = noise(10_000 - zeros) + bytes(zeros)

    assert pack_where_it_pays(body)[0] is packing


def test_a_sample_finds_out_that_half_of_a_large_body_pays() -> None:
    assert pack_where_it_pays(noise(1_000_000) + bytes(1_000_000))[0] is Packing.ZSTD


def test_a_bomb_is_refused_before_it_takes_memory() -> None:
    bomb = frame(bytes(100_000_000))

    tracemalloc.start()
    try:
        with pytest.raises(PayloadTooLarge, match=r"unpacks to 100000000 bytes .* says 5000"):
            unpack(memoryview(bomb), 5000)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak_bytes < 100_000


def test_a_frame_that_lies_about_its_content_is_refused() -> None:
    honest = frame(noise(300))
    # RFC 8878, 3.1.1.1: magic, descriptor, then 2 bytes of content size less 256.
    assert honest[5:7] == (300 - 256).to_bytes(2, "little")

    for claim in (256, 299, 301, 65535):
        lie = honest[:5] + (claim - 256).to_bytes(2, "little") + honest[7:]
        with pytest.raises(CorruptPayload):
            unpack(memoryview(lie), claim)


def test_every_truncation_and_every_trailing_byte_is_refused() -> None:
    whole = frame(noise(100) * 5)

    assert unpack(memoryview(whole), 500) == noise(100) * 5
    for length in range(len(whole)):
        with pytest.raises(CorruptPayload):
            unpack(memoryview(whole[:length]), 500)
    for extra in (b"\x00", whole, b"\x50\x2a\x4d\x18\x00\x00\x00\x00"):  # last: a skippable frame
        with pytest.raises(CorruptPayload):
            unpack(memoryview(whole + extra), 500)


def test_a_frame_that_holds_less_or_does_not_say_is_refused() -> None:
    with pytest.raises(CorruptPayload, match="unpacks to 400 bytes where its header says 500"):
        unpack(memoryview(frame(bytes(400))), 500)
    silent = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(500))
    with pytest.raises(CorruptPayload, match="does not state its content size"):
        unpack(memoryview(silent), 500)


@pytest.mark.parametrize("size", [0, 1, 1000, 200_000, 1_000_000])
def test_the_limit_leaves_room_for_what_zstd_makes_of_noise(size: int) -> None:
    assert len(frame(noise(size))) <= packed_bytes_limit(size) <= 1.004 * size + 64
