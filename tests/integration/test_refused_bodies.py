"""Bodies that the disk had no room for, and what a restart makes of what there was of them."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hocket_aggregator.aggregator import Limits
from hocket_aggregator.journal import Journal
from hocket_aggregator.journal.entries import Discarded, Opened, Piece
from hocket_aggregator.journal.reader import read_entries
from hocket_aggregator.snapshots.keeper import Retention
from support.aggregating import WIDE, Running, aggregating, header, until
from support.lives import killed

from hocket.core.ids import UpdateId
from hocket.core.payload import Payload
from hocket.core.update import Applied, UpdateHeader
from hocket.rpc import convert
from hocket.rpc.chunks import chunks
from hocket.v1 import aggregator_pb2 as pb

BODY_BYTES = 4 * (64 * 1024 + 1024 + 1024 * 1100 + 1100 + 1100 * 10 + 10)
LIMITS = Limits(staged_bytes=2 * BODY_BYTES, retention=Retention(every_s=1e9))


def payload_of(running: Running, seed: int = 0) -> Payload:
    generator = torch.Generator().manual_seed(seed)
    return running.payload(torch.randn(running.manifest.size, generator=generator) * 0.01)


async def push_until_full(running: Running, made: UpdateHeader, payload: Payload) -> int:
    """Send a body whose disk is full from the middle on; the bytes that were written."""
    pieces = list(chunks(payload.body, chunk_bytes=256 * 1024))
    journal, written = running.aggregator.journal, 0
    assert isinstance(journal, Journal)
    segment = journal._writer._segment

    async def requests() -> AsyncIterator[pb.PushUpdateRequest]:
        yield pb.PushUpdateRequest(header=convert.push_header_to_pb(made, payload.header))
        for number, chunk in enumerate(pieces):
            if number == len(pieces) // 2:
                await until(lambda: running.aggregator.staging.received(made.update_id) > 0)
                await written_so_far(running, made.update_id)
                monkeypatch.setattr(segment, "make_room", no_room)
            yield pb.PushUpdateRequest(chunk=chunk)

    with (
        pytest.MonkeyPatch.context() as monkeypatch,
        pytest.raises(Exception, match="disk has no room"),
    ):
        async for _ in running.stub.PushUpdate(requests()):
            pass
    await journal.all_synced()
    for found in read_entries(journal._writer._folder, 1):
        if isinstance(found.entry, Piece) and found.entry.update_id == made.update_id:
            written += memoryview(found.entry.data).nbytes
    return written


async def written_so_far(running: Running, update_id: UpdateId) -> None:
    body = running.aggregator.staging._bodies[update_id]
    await running.aggregator.journal.written(body.ticket)


def no_room(*_: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


async def test_what_had_come_of_it_counts_once_and_its_device_goes_on_there(
    tmp_path: Path,
) -> None:
    async with aggregating(tmp_path / "live", model=WIDE, limits=LIMITS) as running:
        payload = payload_of(running)
        written = await push_until_full(running, header("a"), payload)
        assert 0 < written < BODY_BYTES
        assert running.aggregator.staging.num_bytes == 0
        copy = killed(tmp_path / "live", tmp_path / "copy")
        await running.push(header("a"), payload)
        whole = await running.digest()
    async with aggregating(copy, model=WIDE, limits=LIMITS) as again:
        staging = again.aggregator.staging
        assert staging.num_bytes == BODY_BYTES  # as a broken push does: once, and all of it
        assert staging.received(header("a").update_id) == written
        pushed = await again.client.push(header("a"), payload)
        assert isinstance(pushed.outcome, Applied)
        assert pushed.num_bytes == BODY_BYTES - written
        assert staging.num_bytes == 0
        assert await again.digest() == whole  # not a byte is wrong
    async with aggregating(copy, model=WIDE, limits=LIMITS) as last:
        assert last.aggregator.staging.num_bytes == 0
        assert await last.digest() == whole


async def test_a_devices_next_body_takes_its_place_also_after_a_restart(tmp_path: Path) -> None:
    first, second = header("a", update_id="first"), header("a", update_id="second")
    async with aggregating(tmp_path / "live", model=WIDE, limits=LIMITS) as running:
        await push_until_full(running, first, payload_of(running))
        await push_until_full(running, second, payload_of(running, 1))
        copy = killed(tmp_path / "live", tmp_path / "copy")
    opened = [f.entry for f in read_entries(copy / "journal", 1) if isinstance(f.entry, Opened)]
    discarded = [f for f in read_entries(copy / "journal", 1) if isinstance(f.entry, Discarded)]
    assert [entry.header.update_id for entry in opened] == ["first", "second"]
    assert discarded == []
    async with aggregating(copy, model=WIDE, limits=LIMITS) as again:
        staging = again.aggregator.staging
        assert staging.num_bytes == BODY_BYTES
        assert staging.received(UpdateId("first")) == 0
        assert staging.received(UpdateId("second")) > 0


async def test_the_limit_holds_and_the_newest_bodies_stay(tmp_path: Path) -> None:
    """What was refused had made room for others, so that there may be more than the limit."""
    async with aggregating(tmp_path / "live", model=WIDE, limits=LIMITS) as running:
        for number, name in enumerate("abc"):
            await push_until_full(running, header(name), payload_of(running, number))
        copy = killed(tmp_path / "live", tmp_path / "copy")
    for folder in (copy, killed(copy, tmp_path / "once more")):
        async with aggregating(folder, model=WIDE, limits=LIMITS) as again:
            staging = again.aggregator.staging
            assert staging.num_bytes == 2 * BODY_BYTES
            assert [staging.received(header(name).update_id) > 0 for name in "abc"] == [
                False,
                True,
                True,
            ]
            # They are nobody's by now, so that they make room for whoever comes.
            assert isinstance(await again.push(header("d"), payload_of(again, 9)), Applied)
            assert staging.num_bytes == BODY_BYTES
