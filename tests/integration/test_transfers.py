# ruff: noqa: N802 - a servicer's methods are named by the contract
"""The client's two transfers against a small aggregator whose every fault is chosen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest
import xxhash
from support.serving import sent, serving

from hocket.core.device import Caller
from hocket.core.ids import DeviceId, Incarnation, UpdateId, Version
from hocket.core.payload import CHUNK_BYTES, CodecId, Packing, Payload, PayloadHeader, TensorHeader
from hocket.core.submodel import FULL, ChannelRule, SubmodelSpec
from hocket.core.terms import Finished, Trigger
from hocket.core.update import Applied, Dropped, DropReason, Outcome, RefreshReport, UpdateHeader
from hocket.errors import (
    CorruptPayload,
    PayloadTooLarge,
    StaleIncarnation,
    Unavailable,
    UnknownVersion,
)
from hocket.rpc import convert
from hocket.rpc.aggregator_client import AggregatorClient
from hocket.rpc.channel import open_channel
from hocket.rpc.chunks import Assembler, chunks
from hocket.rpc.server import aggregator_service
from hocket.v1 import aggregator_pb2 as pb
from hocket.v1 import aggregator_pb2_grpc

ME = Caller(DeviceId("d1"), Incarnation(3))
APPLIED = Applied(Version(8), 0.25, 2)
HALF = SubmodelSpec((0.5,), ChannelRule.RANDOM, 11)
HEADER = UpdateHeader(
    UpdateId("u1"),
    ME.device_id,
    ME.incarnation,
    Version(5),
    num_examples=40,
    num_steps=12,
    learning_rate=0.05,
    train_loss=0.7,
    train_loss_rms=0.9,
    train_s=1.5,
    spec=HALF,
    refresh=RefreshReport(2, Version(6), -0.1),
    labels=(2, 7),
)
BODY = bytes(range(256)) * (24 * CHUNK_BYTES // 256) + b"tail"  # 12 MiB: no gRPC message holds it


def payload_of(body: bytes) -> Payload:
    tensor = TensorHeader("w", (len(body) // 4,), CodecId.RAW, len(body))
    sum_ = xxhash.xxh3_64(body).intdigest()
    return Payload(PayloadHeader((tensor,), Packing.NONE, len(body), sum_), body)


class SmallAggregator(aggregator_pb2_grpc.AggregatorServiceServicer):
    """Keeps what came, even of a broken push, and answers with `outcome`."""

    def __init__(self) -> None:
        self.outcome: Outcome = APPLIED
        self.header: UpdateHeader | None = None
        self.partial: Assembler | None = None
        self.taken: Payload | None = None
        self.pulls: list[pb.PullModelRequest] = []
        self.payload = payload_of(BODY)
        self.break_at = 0  # end the next stream so once this many bytes have passed
        self.break_with: Exception | None = None
        self.flip_a_bit = False

    async def PushUpdate(
        self, requests: AsyncIterator[Any], _context: Any
    ) -> AsyncIterator[pb.PushUpdateResponse]:
        first = await anext(requests)
        self.header, payload = convert.push_header_from_pb(first.header)
        if self.taken is None:
            self.partial = self.partial or Assembler(payload, limit_bytes=len(BODY))
            yield pb.PushUpdateResponse(resume_offset=self.partial.received)
            async for request in requests:
                self.partial.add(sent(request))
                if self._breaks(self.partial.received):
                    return
            self.taken = self.partial.finish()
        yield pb.PushUpdateResponse(outcome=convert.outcome_to_pb(self.outcome))

    async def PullModel(
        self, request: pb.PullModelRequest, _context: Any
    ) -> AsyncIterator[pb.PullModelResponse]:
        self.pulls.append(request)
        if request.only_if_newer_than >= 7:
            yield pb.PullModelResponse(unchanged=pb.PullModelResponse.Unchanged(version=7))
            return
        spec = convert.spec_from_pb(request.spec)
        yield convert.pull_header_to_pb(Version(7), self.payload.header, spec)
        for chunk in chunks(self.payload.body):
            if self.flip_a_bit:
                chunk.data = bytes([chunk.data[0] ^ 1]) + chunk.data[1:]
            yield pb.PullModelResponse(chunk=chunk)
            if self._breaks(chunk.offset + len(chunk.data)):
                return

    async def Subscribe(
        self, request: pb.SubscribeRequest, _context: Any
    ) -> AsyncIterator[pb.SubscribeResponse]:
        assert convert.caller_from_pb(request.caller) == ME
        yield convert.event_to_pb(Trigger("t1", 7, 2, 30.0))
        if self.break_with:
            raise self.break_with
        yield convert.event_to_pb(Finished("enough versions"))

    def _breaks(self, passed: int) -> bool:
        if not self.break_at or passed < self.break_at:
            return False
        self.break_at = 0
        if self.break_with:
            raise self.break_with
        return True


def small_aggregator() -> SmallAggregator:
    return SmallAggregator()  # type: ignore[abstract] # nobody calls its other methods


@asynccontextmanager
async def talking(servicer: SmallAggregator) -> AsyncIterator[AggregatorClient]:
    async with (
        serving(aggregator_service(servicer)) as address,
        open_channel(address) as channel,
    ):
        yield AggregatorClient(channel, address)


class Meter:
    """A pacer that only notes what passed."""

    def __init__(self) -> None:
        self.passed: list[int] = []

    async def take(self, num_bytes: int) -> None:
        self.passed.append(num_bytes)


class Never:
    """A pacer that lets nothing pass."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def take(self, num_bytes: int) -> None:
        assert num_bytes
        self.asked.set()
        await asyncio.Event().wait()


async def test_a_push_arrives_whole_with_everything_its_header_says() -> None:
    aggregator, meter = small_aggregator(), Meter()
    async with talking(aggregator) as client:
        pushed = await client.push(HEADER, payload_of(BODY), pace=meter)
    assert (pushed.outcome, pushed.num_bytes) == (APPLIED, len(BODY))
    assert pushed.seconds > 0
    assert aggregator.header == HEADER
    assert aggregator.taken is not None
    assert bytes(aggregator.taken.body) == BODY
    assert meter.passed == [CHUNK_BYTES] * 24 + [4]


@pytest.mark.parametrize("how", [None, Unavailable("shutting down")], ids=["ended", "error"])
async def test_a_broken_push_goes_on_where_it_broke(how: Exception | None) -> None:
    aggregator, meter = small_aggregator(), Meter()
    aggregator.break_at, aggregator.break_with = 5 * CHUNK_BYTES, how
    async with talking(aggregator) as client:
        with pytest.raises(Unavailable):
            await client.push(HEADER, payload_of(BODY))
        pushed = await client.push(HEADER, payload_of(BODY), pace=meter)
    assert pushed.outcome == APPLIED
    assert pushed.num_bytes == len(BODY) - 5 * CHUNK_BYTES
    assert sum(meter.passed) == pushed.num_bytes
    assert aggregator.taken is not None
    assert bytes(aggregator.taken.body) == BODY


async def test_a_push_that_had_arrived_gets_its_first_outcome_and_sends_nothing() -> None:
    aggregator, meter = small_aggregator(), Meter()
    aggregator.outcome = Dropped(DropReason.TOO_STALE, "pull the model", 40)
    async with talking(aggregator) as client:
        first = await client.push(HEADER, payload_of(BODY))
        again = await client.push(HEADER, payload_of(BODY), pace=meter)
    assert first.outcome == again.outcome == aggregator.outcome
    assert (again.num_bytes, meter.passed) == (0, [])


async def test_a_push_without_a_body_is_a_push() -> None:
    aggregator = small_aggregator()
    async with talking(aggregator) as client:
        assert (await client.push(HEADER, payload_of(b""))).outcome == APPLIED


async def test_a_refused_header_is_a_typed_error() -> None:
    aggregator = small_aggregator()
    async with talking(aggregator) as client:
        with pytest.raises(PayloadTooLarge, match="at most"):
            await client.push(HEADER, payload_of(BODY + b"more"))
    assert aggregator.taken is None


async def test_a_body_that_is_not_what_its_header_says_is_refused() -> None:
    aggregator = small_aggregator()
    forged = Payload(payload_of(BODY).header, bytes(len(BODY)))
    async with talking(aggregator) as client:
        with pytest.raises(CorruptPayload, match="checksum in its header"):
            await client.push(HEADER, forged)
    assert aggregator.taken is None


async def test_a_push_to_nobody_is_unavailable() -> None:
    async with serving() as address:
        pass
    async with open_channel(address) as channel:
        with pytest.raises(Unavailable, match=f"aggregator at {address}: is it running"):
            await AggregatorClient(channel, address).push(HEADER, payload_of(BODY))


async def test_a_cancelled_push_ends_at_once() -> None:
    never = Never()
    async with talking(small_aggregator()) as client:
        push = asyncio.ensure_future(client.push(HEADER, payload_of(BODY), pace=never))
        await never.asked.wait()
        push.cancel()
        with pytest.raises(asyncio.CancelledError):
            await push


async def test_a_pull_brings_the_model_and_says_what_it_took() -> None:
    aggregator, meter = small_aggregator(), Meter()
    async with talking(aggregator) as client:
        pulled = await client.pull(
            ME, limit_bytes=len(BODY), version=7, spec=HALF, for_training=True, pace=meter
        )
    assert pulled is not None
    assert (pulled.version, pulled.spec, pulled.num_bytes) == (7, HALF, len(BODY))
    assert bytes(pulled.payload.body) == BODY
    assert pulled.seconds > 0
    assert sum(meter.passed) == len(BODY)
    request = aggregator.pulls[0]
    assert convert.caller_from_pb(request.caller) == ME
    assert (request.version, request.for_training) == (7, True)


async def test_a_pull_of_nothing_newer_is_none() -> None:
    async with talking(small_aggregator()) as client:
        assert await client.pull(ME, limit_bytes=0, only_if_newer_than=7) is None
        full = await client.pull(ME, limit_bytes=len(BODY), only_if_newer_than=6)
    assert full is not None
    assert full.spec == FULL


async def test_a_model_larger_than_the_manifest_is_refused_before_it_comes() -> None:
    meter = Meter()
    async with talking(small_aggregator()) as client:
        with pytest.raises(PayloadTooLarge, match=f"claims {len(BODY)} bytes"):
            await client.pull(ME, limit_bytes=len(BODY) - 1, pace=meter)
    assert meter.passed == []


async def test_a_model_with_a_flipped_bit_is_refused() -> None:
    aggregator = small_aggregator()
    aggregator.flip_a_bit = True
    async with talking(aggregator) as client:
        with pytest.raises(CorruptPayload, match="checksum"):
            await client.pull(ME, limit_bytes=len(BODY))


async def test_a_model_cut_short_is_no_model() -> None:
    aggregator = small_aggregator()
    aggregator.break_at = 3 * CHUNK_BYTES
    async with talking(aggregator) as client:
        with pytest.raises(CorruptPayload, match=f"byte {3 * CHUNK_BYTES} of"):
            await client.pull(ME, limit_bytes=len(BODY))


async def test_a_pull_that_fails_midway_is_typed() -> None:
    aggregator = small_aggregator()
    aggregator.break_at, aggregator.break_with = CHUNK_BYTES, UnknownVersion("version 7 is gone")
    async with talking(aggregator) as client:
        with pytest.raises(UnknownVersion, match="version 7 is gone"):
            await client.pull(ME, limit_bytes=len(BODY))


async def test_a_transfer_keeps_to_its_deadline_even_while_its_pacer_waits() -> None:
    async with talking(small_aggregator()) as client:
        with pytest.raises(Unavailable, match=r"longer than 0\.01 s"):
            await client.pull(ME, limit_bytes=len(BODY), pace=Never(), deadline_s=0.01)
        with pytest.raises(Unavailable, match=r"longer than 0\.01 s"):
            await client.push(HEADER, payload_of(BODY), pace=Never(), deadline_s=0.01)


async def test_a_subscriber_hears_triggers_and_the_end() -> None:
    async with talking(small_aggregator()) as client:
        events = [event async for event in client.subscribe(ME)]
    assert events == [Trigger("t1", 7, 2, 30.0), Finished("enough versions")]


async def test_a_subscription_that_breaks_is_typed() -> None:
    aggregator = small_aggregator()
    aggregator.break_with = StaleIncarnation("incarnation 4 has joined")
    async with talking(aggregator) as client, aclosing(client.subscribe(ME)) as events:
        assert isinstance(await anext(events), Trigger)
        with pytest.raises(StaleIncarnation, match="incarnation 4"):
            await anext(events)
