"""What a peer sends, with anything in it: a word, a chunk, an error of ours, or a typed error.

Each decoder is given `fuzzing.INPUTS` inputs or more.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.protobuf.message import DecodeError, Message
from grpc.aio import AioRpcError, Metadata
from hypothesis import given
from support import words
from support.fuzzing import FIXED, INPUTS, accepts, disturbed, samples, scripts, tampered, typed
from support.wire_words import WORDS

from hocket.core.payload import Packing, PayloadHeader
from hocket.errors import HocketError, Overloaded
from hocket.rpc import convert
from hocket.rpc.chunks import Assembler, checksum, chunks
from hocket.rpc.errors import DETAILS_KEY, error_from, rich_status
from hocket.rpc.push_message import Chunk, read_push
from hocket.v1 import aggregator_pb2, types_pb2


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
