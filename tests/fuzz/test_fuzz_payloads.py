"""Codecs and payloads against hostile bytes: finite values or a typed error.

Each decoder is given `fuzzing.INPUTS` inputs.
"""

from __future__ import annotations

import random

import torch
from hypothesis import given
from support.codecs import encoded, manifest_of, resealed, seeded
from support.fuzzing import FIXED, INPUTS, accepts, scripts, tampered, typed

from hocket.core.payload import CodecId, Packing, PayloadHeader, TensorHeader
from hocket.learn.codecs import CODECS, Codec, Fp16, Int8, Raw, TopK
from hocket.learn.codecs.payload import check_header, decode_payload, encode_payload

MANIFEST = manifest_of((32, 40), (40,), (1100,))
CODEC_SAMPLES: list[Codec] = [Raw(), Fp16(), Int8(), TopK(ratio=0.1)]
SIZE = 300  # values of one tensor


def values(size: int) -> torch.Tensor:
    return torch.randn(size, generator=seeded(7))


def test_codecs() -> None:
    sound = {codec.id: encoded(codec, values(SIZE)) for codec in CODEC_SAMPLES}
    out, let_through = torch.empty(SIZE), dict.fromkeys(sound, 0)

    @FIXED
    @given(scripts)
    def decode(script: bytes) -> None:
        for codec_id, sample in sound.items():
            data, codec = tampered(sample, script), CODECS[codec_id]
            if accepts(lambda: codec.decode_into(memoryview(data), out)):  # noqa: B023 -- called at once
                assert bool(torch.isfinite(out).all())
                assert len(data) <= codec.encoded_bytes_limit(SIZE)
                let_through[codec_id] += 1

    decode()
    assert min(let_through.values()) > INPUTS // 100


def test_payloads() -> None:
    dense = values(MANIFEST.size)
    sparse = torch.where(dense > 1, dense, torch.zeros(()))  # so that packing pays
    sound = [
        encode_payload(sparse if pack else dense, MANIFEST, codec, seeded(), pack=pack)
        for codec in CODEC_SAMPLES
        for pack in (False, True)
    ]
    assert [payload.header.packing for payload in sound] == [Packing.NONE, Packing.ZSTD] * 4
    bodies, out, let_through = (
        [bytes(payload.body) for payload in sound],
        torch.empty(MANIFEST.size),
        0,
    )

    @FIXED
    @given(scripts)
    def decode(script: bytes) -> None:
        nonlocal let_through
        for payload, body in zip(sound, bodies, strict=True):
            forged = resealed(payload, tampered(body, script))  # with the right length and checksum
            if typed(lambda: decode_payload(forged, MANIFEST, out)) is not None:  # noqa: B023 -- called at once
                assert bool(torch.isfinite(out).all())
                let_through += 1

    decode()
    assert let_through > INPUTS // 10


def test_payload_headers_against_the_manifest() -> None:
    sound = encode_payload(values(MANIFEST.size), MANIFEST, Int8(), seeded()).header
    sizes = [0, 1, 2**31, 2**62, -1, sound.wire_bytes]

    @FIXED
    @given(scripts)
    def check(script: bytes) -> None:
        chance = random.Random(script)
        tensors = [
            TensorHeader(
                chance.choice([tensor.name, "layer0", ""]),
                chance.choice([tensor.shape, tensor.shape, (), (0,), (2**30, 2**30)]),
                chance.choice([tensor.codec, *CodecId, 77]),
                chance.choice([tensor.encoded_bytes, *sizes]),
            )
            if chance.random() < 0.3
            else tensor
            for tensor in sound.tensors
        ]
        kept = tuple(tensors[: chance.choice([3, 3, 3, 2, 0])])
        packing = chance.choice([sound.packing, *Packing])
        header = PayloadHeader(kept, packing, chance.choice([sound.wire_bytes, *sizes]), None)

        if accepts(lambda: check_header(header, MANIFEST)):
            most = 5 * MANIFEST.size + 4 * len(kept)  # top-k at its longest
            assert header.unpacked_bytes <= most
            assert header.wire_bytes <= most + most // 256 + 64

    check()
