"""Whatever is wrong with a push: a typed error that says what to do, and the same model."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
import torch
import xxhash
import zstandard
from support.aggregating import CNN, Running, aggregating, caller, fill, header
from support.scalar import device

from hocket.core.device import DeviceState
from hocket.core.ids import Version
from hocket.core.payload import CodecId, Packing, Payload, PayloadHeader, TensorHeader
from hocket.core.submodel import SubmodelSpec
from hocket.core.update import Dropped, DropReason, RefreshReport
from hocket.errors import (
    CorruptPayload,
    HocketError,
    InvalidRequest,
    InvalidUpdate,
    NotFinite,
    NotFound,
    PayloadTooLarge,
    ShapeMismatch,
    StaleIncarnation,
    TooStale,
    UnknownDevice,
    UnknownVersion,
)
from hocket.rpc import convert
from hocket.rpc.chunks import chunks
from hocket.rpc.errors import error_from
from hocket.task import Limits
from hocket.v1 import aggregator_pb2 as pb
from hocket.v1 import types_pb2


@asynccontextmanager
async def leaving_no_trace(running: Running, rejected: int = 1) -> AsyncIterator[None]:
    """The model and its version are as before, and the refusal was counted."""
    before = await running.status()
    yield
    after = await running.status()
    assert (after.version, after.digest) == (before.version, before.digest)
    assert after.updates_accepted == before.updates_accepted
    assert after.updates_rejected == before.updates_rejected + rejected
    assert running.aggregator.staging.num_bytes == 0


def raw(body: bytes, running: Running, **changed: Any) -> Payload:
    """A raw payload of these bytes, with a header that may lie."""
    tensors = tuple(
        TensorHeader(t.name, t.shape, CodecId.RAW, 4 * t.size) for t in running.manifest.tensors
    )
    header = PayloadHeader(tensors, Packing.NONE, len(body), xxhash.xxh3_64_intdigest(body))
    return Payload(replace(header, **changed), body)


def floats(running: Running, **at: float) -> bytes:
    values = fill(running.manifest, 0.1)
    for index, value in at.items():
        values[int(index.removeprefix("at"))] = value
    return values.numpy().tobytes()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
async def test_values_that_are_not_finite(running: Running, value: float) -> None:
    async with leaving_no_trace(running):
        with pytest.raises(NotFinite, match="learning rate"):
            await running.push(header("a"), raw(floats(running, at7=value), running))


async def test_infinities_that_cancel_out(running: Running) -> None:
    async with leaving_no_trace(running):
        body = floats(running, at7=float("inf"), at8=float("-inf"))
        with pytest.raises(NotFinite):
            await running.push(header("a"), raw(body, running))


async def test_finite_values_too_large_to_add_up(running: Running) -> None:
    async with leaving_no_trace(running):
        with pytest.raises(NotFinite, match="overflows"):
            await running.push(header("a"), raw(floats(running, at7=3e38), running))


async def test_a_wrong_shape(running: Running) -> None:
    payload = raw(floats(running), running)
    first, *rest = payload.header.tensors
    turned = replace(first, shape=tuple(reversed(first.shape)))
    wrong = replace(payload, header=replace(payload.header, tensors=(turned, *rest)))
    async with leaving_no_trace(running):
        with pytest.raises(ShapeMismatch, match="GetTask"):
            await running.push(header("a"), wrong)


async def test_a_missing_tensor(running: Running) -> None:
    payload = raw(floats(running), running)
    wrong = replace(payload, header=replace(payload.header, tensors=payload.header.tensors[1:]))
    async with leaving_no_trace(running):
        with pytest.raises(ShapeMismatch):
            await running.push(header("a"), wrong)


async def test_values_of_another_type(running: Running) -> None:
    """Float64 values take twice the bytes that the model's float32 can."""
    body = fill(running.manifest, 0.1).double().numpy().tobytes()
    tensors = tuple(
        TensorHeader(t.name, t.shape, CodecId.RAW, 8 * t.size) for t in running.manifest.tensors
    )
    async with leaving_no_trace(running):
        with pytest.raises(PayloadTooLarge, match="takes 3072 at most"):
            await running.push(header("a"), raw(body, running, tensors=tensors))


async def test_a_codec_that_does_not_exist(running: Running) -> None:
    payload = raw(floats(running), running)
    message = convert.push_header_to_pb(header("a"), payload.header)
    message.payload.tensors[0].codec = types_pb2.Codec.ValueType(77)
    async with leaving_no_trace(running, rejected=0):
        with pytest.raises(InvalidRequest, match="RAW"):
            await answer_to(running, pb.PushUpdateRequest(header=message))


async def test_bytes_that_are_no_encoding(running: Running) -> None:
    """They claim to be fp16, whose encodings are half as long as these are."""
    tensors = tuple(
        TensorHeader(t.name, t.shape, CodecId.FP16, 2 * t.size - 1)
        for t in running.manifest.tensors
    )
    body = bytes(sum(t.encoded_bytes for t in tensors))
    async with leaving_no_trace(running):
        with pytest.raises(CorruptPayload):
            await running.push(header("a"), raw(body, running, tensors=tensors))


async def test_a_base_version_that_does_not_exist(running: Running) -> None:
    async with leaving_no_trace(running):
        with pytest.raises(UnknownVersion, match="does not exist yet"):
            await running.push_from("a", 5)


async def test_a_base_version_that_is_forgotten(running: Running) -> None:
    await running.push_from("a", 1)
    async with leaving_no_trace(running):
        with pytest.raises(UnknownVersion, match="not retained"):
            await running.push_from("b", 1)


async def test_an_update_staler_than_the_limit(tmp_path: Path) -> None:
    async with aggregating(tmp_path, task_limits=Limits(staleness=1)) as running:
        await running.push_from("a", 1)
        await running.push_from("a", 2)
        async with leaving_no_trace(running):
            pushed = await running.client.push(header("b"), raw(floats(running), running))
            assert isinstance(pushed.outcome, Dropped)
            assert pushed.outcome.reason is DropReason.TOO_STALE
            assert "pull the newest model" in pushed.outcome.message
            assert pushed.num_bytes == 0
            with pytest.raises(TooStale, match="train anew"):
                pushed.accepted()


async def test_a_corrupted_chunk(running: Running) -> None:
    payload = raw(floats(running), running)
    message = convert.push_header_to_pb(header("a"), payload.header)
    chunk = next(chunks(payload.body))
    chunk.data = chunk.data[:-1] + b"\xff"
    async with leaving_no_trace(running):
        with pytest.raises(CorruptPayload, match="checksum"):
            await answer_to(
                running, pb.PushUpdateRequest(header=message), pb.PushUpdateRequest(chunk=chunk)
            )


async def test_chunks_out_of_order(running: Running) -> None:
    payload = raw(floats(running), running)
    message = convert.push_header_to_pb(header("a"), payload.header)
    _, second, *_ = chunks(payload.body, chunk_bytes=1000)
    async with leaving_no_trace(running):
        with pytest.raises(CorruptPayload, match="in order"):
            await answer_to(
                running, pb.PushUpdateRequest(header=message), pb.PushUpdateRequest(chunk=second)
            )


async def test_a_corrupted_whole(running: Running) -> None:
    async with leaving_no_trace(running):
        with pytest.raises(CorruptPayload):
            await running.push(header("a"), raw(floats(running), running, checksum=1))


async def test_a_body_longer_than_any_encoding(running: Running) -> None:
    async with leaving_no_trace(running):
        with pytest.raises(PayloadTooLarge):
            await running.push(header("a"), raw(floats(running) + b"0000", running))


async def test_a_claim_of_terabytes_takes_no_memory(running: Running) -> None:
    async with leaving_no_trace(running):
        with pytest.raises(PayloadTooLarge):
            await running.push(header("a"), raw(b"", running, wire_bytes=2**40))


async def test_a_zstd_body_that_claims_too_much(running: Running) -> None:
    tensors = tuple(
        TensorHeader(t.name, t.shape, CodecId.RAW, 400 * t.size) for t in running.manifest.tensors
    )
    body = zstandard.compress(bytes(400 * running.manifest.size))
    async with leaving_no_trace(running):
        with pytest.raises(PayloadTooLarge):
            await running.push(
                header("a"), raw(body, running, packing=Packing.ZSTD, tensors=tensors)
            )


async def test_a_zstd_body_that_unpacks_to_too_much(running: Running) -> None:
    body = zstandard.compress(bytes(50_000_000))
    async with leaving_no_trace(running):
        with pytest.raises(PayloadTooLarge, match="unpacks to"):
            await running.push(header("a"), raw(body, running, packing=Packing.ZSTD))


async def test_a_zstd_body_that_is_none(running: Running) -> None:
    async with leaving_no_trace(running):
        with pytest.raises(CorruptPayload, match="zstd"):
            await running.push(header("a"), raw(b"no frame", running, packing=Packing.ZSTD))


async def test_an_unknown_device(running: Running) -> None:
    async with leaving_no_trace(running, rejected=0):
        with pytest.raises(UnknownDevice, match="join the registry"):
            await running.push_from("stranger", 1)


async def test_an_expired_device(running: Running) -> None:
    await running.see(device("a", state=DeviceState.EXPIRED))
    async with leaving_no_trace(running, rejected=0):
        with pytest.raises(UnknownDevice, match="join the registry again"):
            await running.push_from("a", 1)


async def test_a_stale_incarnation(running: Running) -> None:
    await running.see(device("a", 2))
    async with leaving_no_trace(running):
        with pytest.raises(StaleIncarnation, match="stop this process"):
            await running.push_from("a", 1)


async def test_strangers_get_no_triggers_and_hold_no_bases(running: Running) -> None:
    with pytest.raises(UnknownDevice):
        await anext(running.client.subscribe(caller("stranger")))
    with pytest.raises(UnknownDevice):
        await running.client.pull(
            caller("stranger"), limit_bytes=running.manifest.dense_bytes, for_training=True
        )


async def test_another_devices_update_id(running: Running) -> None:
    await running.push_from("a", 1)
    async with leaving_no_trace(running):
        with pytest.raises(InvalidUpdate, match="ids nobody else can"):
            await running.push_from("b", 2, update_id="a-from-1")


async def test_a_merge_at_an_impossible_moment(running: Running) -> None:
    """The task has 2 local epochs: a merge can only fall after the first."""
    refresh = RefreshReport(slot=2, version=Version(1), reward=1.0)
    async with leaving_no_trace(running):
        with pytest.raises(InvalidUpdate, match=r"refresh\.slot"):
            await running.push_from("a", 1, refresh=refresh)


async def test_a_submodel_that_does_not_fit(tmp_path: Path) -> None:
    async with aggregating(tmp_path, model=CNN) as running, leaving_no_trace(running):
        with pytest.raises(InvalidRequest, match=r"spec\.keep"):
            await running.push_from("a", 1, spec=SubmodelSpec((0.5,) * 7))


async def test_a_submodel_whose_payload_is_the_whole_model(tmp_path: Path) -> None:
    async with aggregating(tmp_path, model=CNN) as running, leaving_no_trace(running):
        with pytest.raises(ShapeMismatch):
            await running.push_from("a", 1, spec=SubmodelSpec((0.5,)))


async def test_a_push_without_a_header(running: Running) -> None:
    async with leaving_no_trace(running, rejected=0):
        with pytest.raises(InvalidRequest, match="begins with a header"):
            await answer_to(running, pb.PushUpdateRequest(chunk=next(chunks(b"body"))))


async def test_a_second_header(running: Running) -> None:
    payload = raw(floats(running), running)
    message = pb.PushUpdateRequest(header=convert.push_header_to_pb(header("a"), payload.header))
    async with leaving_no_trace(running):
        with pytest.raises(InvalidRequest, match="one header"):
            await answer_to(running, message, message)


@pytest.mark.parametrize("field", ["num_examples", "num_steps", "learning_rate", "base_version"])
async def test_a_header_with_a_zero_where_none_may_be(running: Running, field: Any) -> None:
    payload = raw(floats(running), running)
    message = convert.push_header_to_pb(header("a"), payload.header)
    message.ClearField(field)
    async with leaving_no_trace(running, rejected=0):
        with pytest.raises(InvalidRequest, match=field):
            await answer_to(running, pb.PushUpdateRequest(header=message))


async def test_versions_and_pages_that_do_not_exist(running: Running) -> None:
    with pytest.raises(NotFound, match="ListVersions"):
        async for _ in running.client.get_lineage(9):
            pass
    with pytest.raises(UnknownVersion):
        await running.client.pull(caller("a"), limit_bytes=running.manifest.dense_bytes, version=9)
    request = pb.ListVersionsRequest(page_token="x")  # noqa: S106 -- a page, no password
    with pytest.raises(InvalidRequest, match="page_token"):
        await typed(running.stub.ListVersions(request))


@pytest.mark.parametrize("number", [2**63, 2**64 - 1])
async def test_versions_beyond_what_a_database_holds(running: Running, number: int) -> None:
    with pytest.raises(InvalidRequest, match="version"):
        await typed(running.stub.GetLineage(pb.GetLineageRequest(version=number)))
    with pytest.raises(InvalidRequest, match="after_version"):
        await typed(
            running.stub.WatchVersions(pb.WatchVersionsRequest(after_version=number)).read()
        )
    with pytest.raises(UnknownVersion):
        await typed(running.stub.PullModel(pb.PullModelRequest(version=number)).read())


async def test_after_all_of_this_a_sound_push_is_still_applied(running: Running) -> None:
    with pytest.raises(HocketError):
        await running.push(header("a"), raw(floats(running), running, checksum=1))
    before = torch.frombuffer(bytearray(running.setup.first.numpy().tobytes()), dtype=torch.float32)
    await running.push_from("a", 1)
    assert not torch.equal(running.aggregator.core.newest.model, before)


async def answer_to(running: Running, *messages: pb.PushUpdateRequest) -> None:
    """Send these; raises what the aggregator answers with."""
    call = running.stub.PushUpdate()

    async def talk() -> None:
        for message in messages:
            await call.write(message)
        while await call.read():
            pass

    await typed(talk())


async def typed(work: Any) -> None:
    try:
        await work
    except grpc.aio.AioRpcError as error:
        raise error_from(error) from error


@pytest.mark.parametrize("why", ["\x1b[2Jslow", "slow\nfast", "w" * 201])
async def test_a_reason_that_would_upset_a_terminal(running: Running, why: str) -> None:
    with pytest.raises(InvalidRequest, match="why"):
        await running.client.pull(
            caller("a"), limit_bytes=running.manifest.dense_bytes, for_training=True, why=why
        )
