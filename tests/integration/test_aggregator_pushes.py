"""Pushes over real gRPC: broken off, taken over, sent away, and in the end applied."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hocket_aggregator.aggregator import Limits
from hocket_aggregator.pushes.intake import Intake
from hocket_aggregator.pushes.staging import Staged
from support.aggregating import CNN, WIDE, Running, aggregating, caller, fill, header, pulled, until
from support.limits import LIMIT_S
from support.scalar import device

from hocket.core.ids import UpdateId, Version
from hocket.core.update import Applied, Outcome
from hocket.errors import CorruptPayload, Overloaded
from hocket.learn.strategies import FedASMU
from hocket.rpc import convert
from hocket.rpc.chunks import chunks
from hocket.v1 import aggregator_pb2 as pb


async def test_a_model_beyond_four_megabytes_passes_both_ways(tmp_path: Path) -> None:
    async with aggregating(tmp_path, model=WIDE) as running:
        assert running.manifest.dense_bytes > 4 * 1024 * 1024
        before = await pulled(running)
        generator = torch.Generator().manual_seed(5)
        delta = torch.rand(running.manifest.size, generator=generator)
        assert await running.push(header("a"), running.payload(delta)) == Applied(
            Version(2), 0.5, 0
        )
        assert torch.allclose(await pulled(running), before + 0.5 * delta, atol=1e-6)


async def test_a_broken_push_goes_on_where_it_broke_off(tmp_path: Path) -> None:
    async with aggregating(tmp_path, model=CNN) as running:
        payload = running.payload(fill(running.manifest, 0.5))
        opening = convert.push_header_to_pb(header("a"), payload.header)
        pieces = list(chunks(payload.body, chunk_bytes=50_000))

        call = running.stub.PushUpdate()
        await call.write(pb.PushUpdateRequest(header=opening))
        assert (await call.read()).resume_offset == 0
        await call.write(pb.PushUpdateRequest(chunk=pieces[0]))
        staging = running.aggregator.staging
        await until(lambda: staging.received(UpdateId("a-from-1")) == 50_000)
        call.cancel()

        call = running.stub.PushUpdate()
        await call.write(pb.PushUpdateRequest(header=opening))
        assert (await call.read()).resume_offset == 50_000
        for piece in pieces[1:]:
            await call.write(pb.PushUpdateRequest(chunk=piece))
        outcome = convert.outcome_from_pb((await call.read()).outcome)
        assert outcome == Applied(Version(2), 0.5, 0)
        assert staging.num_bytes == 0


async def test_a_stream_that_ends_early_is_told_so_and_may_go_on(running: Running) -> None:
    payload = running.payload(fill(running.manifest, 0.5))
    opening = convert.push_header_to_pb(header("a"), payload.header)
    call = running.stub.PushUpdate()
    await call.write(pb.PushUpdateRequest(header=opening))
    await call.read()
    await call.write(pb.PushUpdateRequest(chunk=next(chunks(payload.body, chunk_bytes=1000))))
    await call.done_writing()
    status = await call.code()
    assert status.name == "INVALID_ARGUMENT"
    assert "ended at byte 1000" in await call.details()
    pushed = await running.client.push(header("a"), payload)
    assert pushed.num_bytes == running.manifest.dense_bytes - 1000
    assert pushed.outcome == Applied(Version(2), 0.5, 0)


async def test_a_newer_stream_takes_a_push_over(running: Running) -> None:
    payload = running.payload(fill(running.manifest, 0.5))
    opening = convert.push_header_to_pb(header("a"), payload.header)
    older = running.stub.PushUpdate()
    await older.write(pb.PushUpdateRequest(header=opening))
    await older.read()
    assert (await running.push(header("a"), payload)) == Applied(Version(2), 0.5, 0)
    await older.write(pb.PushUpdateRequest(chunk=next(chunks(payload.body))))
    assert (await older.code()).name == "UNAVAILABLE"
    assert (await running.status()).version == 2


async def test_too_much_at_once_is_sent_away_with_a_time_to_come_back(tmp_path: Path) -> None:
    async with aggregating(tmp_path, model=CNN) as probe:
        most = probe.setup.terms.max_update_bytes
    async with aggregating(tmp_path, model=CNN, limits=Limits(staged_bytes=most)) as running:
        payload = running.payload(fill(running.manifest, 0.5))
        opening = convert.push_header_to_pb(header("a"), payload.header)
        call = running.stub.PushUpdate()
        await call.write(pb.PushUpdateRequest(header=opening))
        await call.read()
        with pytest.raises(Overloaded) as refused:
            await running.push(header("b"), payload)
        assert refused.value.retry_after_s > 0
        assert (await running.status()).updates_rejected == 0  # nothing is wrong with it
        for piece in chunks(payload.body):
            await call.write(pb.PushUpdateRequest(chunk=piece))
        await call.read()
        assert isinstance(await running.push_from("b", 2), Applied)


async def test_many_devices_push_at_once(running: Running) -> None:
    await running.see(*(device(f"n{i}") for i in range(12)))
    limit = running.manifest.dense_bytes
    for i in range(12):
        await running.client.pull(caller(f"n{i}"), limit_bytes=limit, for_training=True)
    outcomes = await asyncio.gather(*(running.push_from(f"n{i}", 1) for i in range(12)))
    versions = sorted(o.version for o in outcomes if isinstance(o, Applied))
    assert versions == list(range(2, 14))


async def test_a_corrupted_body_drops_what_was_staged(running: Running) -> None:
    payload = running.payload(fill(running.manifest, 0.5))
    wrong = replace(payload, header=replace(payload.header, checksum=1))
    with pytest.raises(CorruptPayload):
        await running.push(header("a"), wrong)
    assert running.aggregator.staging.num_bytes == 0
    assert isinstance(await running.push_from("a", 1), Applied)


@dataclass
class Held:
    """A server step that waits until the test lets it go on, and the calls that come to one."""

    go: threading.Event = field(default_factory=threading.Event)
    began: threading.Event = field(default_factory=threading.Event)
    calls: list[asyncio.Task[Any]] = field(default_factory=list)

    def put(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Into the way of every step."""
        step, finish = FedASMU.step, Intake.finish

        def held(*given: Any) -> Any:
            self.began.set()
            assert self.go.wait(LIMIT_S)
            return step(*given)

        async def noted(intake: Intake, staged: Staged) -> Outcome:
            call = asyncio.current_task()
            assert call is not None
            self.calls.append(call)
            return await finish(intake, staged)

        monkeypatch.setattr(FedASMU, "step", held)
        monkeypatch.setattr(Intake, "finish", noted)


async def test_a_push_whose_caller_goes_in_mid_step_is_applied_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, applied = Held(), Applied(Version(2), 0.5, 0)
    held.put(monkeypatch)
    async with aggregating(tmp_path, model=WIDE) as running:  # whose steps run in a thread
        payload, staging = running.payload(fill(running.manifest, 0.5)), running.aggregator.staging
        before = await pulled(running)
        leaving = asyncio.create_task(running.client.push(header("a"), payload))
        await until(held.began.is_set)
        leaving.cancel()
        (call,) = held.calls
        await until(lambda: call.cancelling() > 0)  # the aggregator knows that nobody listens
        assert staging.num_bytes == payload.header.wire_bytes
        held.go.set()
        assert (await running.status()).version == 2
        assert staging.num_bytes == 0
        again = await running.client.push(header("a"), payload)
        assert (again.outcome, again.num_bytes) == (applied, 0)
        assert torch.allclose(await pulled(running), before + 0.25, atol=1e-6)
        assert (await running.status()).version == 2
