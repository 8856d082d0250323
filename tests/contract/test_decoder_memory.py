"""No decoder takes more memory than it may, whatever a sender claims."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
import torch
import zstandard
from support.codecs import manifest_of, raw_payload, seeded

from hocket.core.payload import Packing, PayloadHeader
from hocket.errors import CorruptPayload, NotFinite, PayloadTooLarge
from hocket.learn.codecs import Int8, Raw, TopK
from hocket.learn.codecs.payload import decode_payload, encode_payload
from hocket.rpc.chunks import Assembler

KIB, MIB = 1024, 1024 * 1024
MANIFEST = manifest_of((32, 40), (40,), (1100,))
SIZE = 300  # values of one tensor


def values(size: int) -> torch.Tensor:
    return torch.randn(size, generator=seeded(7))


def peak_bytes(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_claim_takes_no_memory() -> None:
    claims = PayloadHeader((), Packing.NONE, 64 * MIB, None)
    assert peak_bytes(lambda: Assembler(claims, limit_bytes=64 * MIB)) < 16 * KIB
    with pytest.raises(PayloadTooLarge):
        Assembler(claims, limit_bytes=MIB)


def test_a_body_unpacks_to_no_more_than_its_header_says() -> None:
    bomb = zstandard.ZstdCompressor().compress(bytes(64 * MIB))
    payload = raw_payload(
        bomb,
        *encode_payload(values(MANIFEST.size), MANIFEST, Raw(), seeded()).header.tensors,
        packing=Packing.ZSTD,
    )

    def decode() -> None:
        with pytest.raises(PayloadTooLarge):
            decode_payload(payload, MANIFEST)

    assert peak_bytes(decode) < 256 * KIB


def test_a_frame_that_lies_about_its_size_takes_no_more_than_it_says() -> None:
    honest = zstandard.ZstdCompressor().compress(bytes(MANIFEST.dense_bytes))
    more = zstandard.ZstdCompressor().compress(bytes(64 * MIB))
    head = zstandard.frame_header_size(honest)
    liar = honest[:head] + more[zstandard.frame_header_size(more) :]
    tensors = encode_payload(values(MANIFEST.size), MANIFEST, Raw(), seeded()).header.tensors
    payload = raw_payload(liar, *tensors, packing=Packing.ZSTD)

    def decode() -> None:
        with pytest.raises((CorruptPayload, PayloadTooLarge)):
            decode_payload(payload, MANIFEST)

    assert peak_bytes(decode) < MIB


def test_a_count_beyond_the_tensor_takes_no_memory() -> None:
    data = memoryview(struct.pack("<I", 2**32 - 1) + bytes(64))
    out = torch.empty(SIZE)

    def decode() -> None:
        with pytest.raises(CorruptPayload):
            TopK().decode_into(data, out)

    assert peak_bytes(decode) < 64 * KIB
    scale = np.float32(np.inf).tobytes() + bytes(SIZE)
    with pytest.raises(NotFinite):
        Int8().decode_into(memoryview(scale), out)
