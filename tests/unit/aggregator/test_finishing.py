"""Work that is not left half done, and a cancellation that nothing takes the place of."""

from __future__ import annotations

import asyncio

import pytest
from hocket_aggregator.finishing import finished

from hocket.errors import StorageFull


async def begun(work: asyncio.Task[int], times: int) -> asyncio.Task[int]:
    """Who awaits the work, and was cancelled so often meanwhile."""

    async def outcome() -> int:
        return await work

    waiting = asyncio.create_task(finished(outcome()))
    for _ in range(times):
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        waiting.cancel()
    await asyncio.sleep(0)
    return waiting


async def when(go: asyncio.Event, error: Exception | None = None) -> int:
    await go.wait()
    if error is not None:
        raise error
    return 7


async def test_what_comes_of_it_is_handed_on() -> None:
    go = asyncio.Event()
    go.set()
    assert await finished(when(go)) == 7
    with pytest.raises(StorageFull):
        await finished(when(go, StorageFull("full")))


@pytest.mark.parametrize("error", [None, StorageFull("full")], ids=["done", "failed"])
@pytest.mark.parametrize("times", [1, 3])
async def test_cancelled_it_ends_once_the_work_has(error: Exception | None, times: int) -> None:
    go = asyncio.Event()
    work = asyncio.create_task(when(go, error))
    waiting = await begun(work, times)
    assert not waiting.done()
    go.set()
    with pytest.raises(asyncio.CancelledError) as told:
        await waiting
    assert work.done()
    assert not work.cancelled()
    assert told.value.__cause__ is error
