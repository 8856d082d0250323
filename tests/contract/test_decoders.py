"""Every decoder, whatever comes: a valid value or a typed error, and never more memory than it may.

Each is given `fuzzing.INPUTS` inputs. The journal, the manifest of snapshots and the outbox are
tested beside their own code.
"""

from __future__ import annotations

import random
import struct
import tracemalloc
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest
import torch
import zstandard
from google.protobuf.message import DecodeError, Message
from grpc.aio import AioRpcError, Metadata
from hypothesis import given
from support import words
from support.codecs import encoded, manifest_of, raw_payload, resealed, seeded
from support.fuzzing import FIXED, INPUTS, accepts, disturbed, samples, scripts, tampered, typed
from support.wire_words import WORDS

from hocket.core.payload import CodecId, Packing, PayloadHeader, TensorHeader
from hocket.errors import (
    CorruptPayload,
    HocketError,
    NotFinite,
    Overloaded,
    PayloadTooLarge,
)
from hocket.learn.codecs import CODECS, Codec, Fp16, Int8, Raw, TopK
from hocket.learn.codecs.payload import check_header, decode_payload, encode_payload
from hocket.rpc import convert
from hocket.rpc.chunks import Assembler, checksum, chunks
from hocket.rpc.errors import DETAILS_KEY, error_from, rich_status
from hocket.rpc.push_message import Chunk, read_push
from hocket.v1 import aggregator_pb2, types_pb2

KIB, MIB = 1024, 1024 * 1024
MANIFEST = manifest_of((32, 40), (40,), (1100,))
CODEC_SAMPLES: list[Codec] = [Raw(), Fp16(), Int8(), TopK(ratio=0.1)]
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


def test_chunks() -> None:
    body = bytes(range(256)) * 2
    header = PayloadHeader((), Packing.NONE, len(body), checksum(body))
    sound = list(chunks(body, chunk_bytes=100))
    wires = [chunk.SerializeToString() for chunk in sound]

    @FIXED
    @given(scripts)
    def assemble(script: bytes) -> None:
        chance = random.Random(script)
        assembler = Assembler(header, limit_bytes=1000)
        for at in range(len(sound) + 1):
            chunk: Any = sound[min(at, len(sound) - 1)]
            if chance.random() < 0.3:
                chunk = disturbed(chunk, script)
            elif chance.random() < 0.2:
                chunk = types_pb2.Chunk()
                typed(lambda: chunk.ParseFromString(tampered(wires[0], script)), DecodeError)  # noqa: B023 -- called at once
            before = assembler.received
            if not accepts(lambda: assembler.add(chunk)):  # noqa: B023 -- called at once
                assert assembler.received == before
            assert assembler.received <= header.wire_bytes
        payload = typed(assembler.finish)
        if payload is not None:
            assert bytes(payload.body) == body

    assemble()


def test_pushes_are_read_as_protobuf_reads_them() -> None:
    header = convert.push_header_to_pb(
        samples(words.update_headers, 2)[1], samples(words.payload_headers, 2)[1]
    )
    whole, bare = next(chunks(bytes(300))), types_pb2.Chunk(offset=2**40, data=b"x" * 200)
    sound = [
        aggregator_pb2.PushUpdateRequest(chunk=whole),
        aggregator_pb2.PushUpdateRequest(chunk=bare),
        aggregator_pb2.PushUpdateRequest(header=header),
    ]
    wires = [message.SerializeToString() for message in sound]
    chunks_read = 0

    @FIXED
    @given(scripts)
    def decode(script: bytes) -> None:
        nonlocal chunks_read
        which = script[-1] % len(sound)
        wire = tampered(wires[which], script)
        if script[0] % 2:
            wire = disturbed(sound[which], script).SerializeToString()
        told = aggregator_pb2.PushUpdateRequest()
        if not accepts(lambda: told.ParseFromString(wire), DecodeError):
            with pytest.raises(DecodeError):
                read_push(wire)
            return
        read = read_push(wire)
        if not isinstance(read, Chunk):
            assert read.SerializeToString(deterministic=True) == told.SerializeToString(
                deterministic=True
            )
            return
        said = told.chunk.checksum if told.chunk.HasField("checksum") else None
        assert (read.offset, bytes(read.data), read.checksum) == (
            told.chunk.offset,
            told.chunk.data,
            said,
        )
        chunks_read += 1

    decode()
    assert chunks_read > INPUTS // 10


def message_samples() -> dict[
    str, tuple[list[Message], Callable[..., Message], Callable[..., Any]]
]:
    found = {
        name: ([to_pb(word) for word in samples(strategy)], to_pb, from_pb)
        for name, (strategy, to_pb, from_pb) in WORDS.items()
    }
    headers, payloads = samples(words.update_headers), samples(words.payload_headers)
    specs = samples(words.specs)
    pushes: list[Message] = list(map(convert.push_header_to_pb, headers, payloads))
    found["push"] = (
        pushes,
        lambda word: convert.push_header_to_pb(*word),
        convert.push_header_from_pb,
    )
    pulls: list[Message] = [
        convert.pull_header_to_pb(header.base_version, payload, spec).header
        for header, payload, spec in zip(headers, payloads, specs, strict=False)
    ]
    found["pull"] = (
        pulls,
        lambda word: convert.pull_header_to_pb(*word).header,
        convert.pull_header_from_pb,
    )
    return found


def test_messages() -> None:
    """What is let through is a word that can be said again."""
    everything = message_samples()
    let_through = dict.fromkeys(everything, 0)

    @FIXED
    @given(scripts)
    def decode(script: bytes) -> None:
        for name, (sound, to_pb, from_pb) in everything.items():
            sample = sound[script[-1] % len(sound)]
            if script[0] % 2:
                message: Message = disturbed(sample, script)
            else:
                message = type(sample)()
                wire = tampered(sample.SerializeToString(), script)
                if not accepts(lambda: message.ParseFromString(wire), DecodeError):  # noqa: B023 -- called at once
                    continue  # gRPC itself refuses it
            word = typed(lambda: from_pb(message))  # noqa: B023 -- called at once
            if word is not None:
                assert from_pb(to_pb(word)) == word
                let_through[name] += 1

    decode()
    assert min(let_through.values()) > INPUTS // 100


def test_errors_of_a_peer() -> None:
    status = rich_status(Overloaded("full", 3.0, limit="9"))
    sound, codes = status.SerializeToString(), list(grpc.StatusCode)

    @FIXED
    @given(scripts)
    def decode(script: bytes) -> None:
        forged: Message = disturbed(status, script)
        wire = tampered(sound, script) if script[0] % 2 else forged.SerializeToString()
        said = Metadata((DETAILS_KEY, wire))
        error = error_from(AioRpcError(codes[script[-1] % len(codes)], Metadata(), said, "why"))
        assert isinstance(error, HocketError)
        if isinstance(error, Overloaded):
            assert 0 <= error.retry_after_s < float("inf")

    decode()


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
