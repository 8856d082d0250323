from __future__ import annotations

import asyncio

import pytest
from hocket_device.throttle import DutyCycle, TokenBucket, rest_s
from support.clock import ManualClock, settle


async def finish_s(clock: ManualClock, bucket: TokenBucket, sizes: list[int]) -> float:
    """When the last of these transfers, one after the other, is through."""

    async def transfer() -> float:
        for size in sizes:
            await bucket.take(size)
        return clock.now()

    task = asyncio.create_task(transfer())
    await clock.advance(1000.0)
    return await task


@pytest.mark.parametrize("sizes", [[100_000], [1_000] * 100, [1], [65_536] * 7])
async def test_bytes_pass_at_exactly_the_rate(sizes: list[int]) -> None:
    clock = ManualClock()
    bucket = TokenBucket(25_000.0, clock)
    assert await finish_s(clock, bucket, sizes) == pytest.approx(sum(sizes) / 25_000.0)


async def test_an_idle_link_saves_nothing_up() -> None:
    clock = ManualClock()
    bucket = TokenBucket(1_000.0, clock)
    await clock.advance(500.0)
    assert await finish_s(clock, bucket, [200, 200]) == pytest.approx(500.4)


async def test_two_transfers_share_the_rate() -> None:
    clock = ManualClock()
    bucket = TokenBucket(1_000.0, clock)
    both = asyncio.gather(bucket.take(300), bucket.take(500))
    await clock.advance(0.79)
    assert not both.done()
    await clock.advance(0.01)
    await both


async def test_a_wait_that_ends_late_is_made_up_for() -> None:
    clock = ManualClock()
    bucket = TokenBucket(1_000.0, clock)
    first = asyncio.create_task(bucket.take(1_000))
    await clock.advance(1.0)
    await first
    await clock.advance(0.015)  # the loop was busy elsewhere
    second = asyncio.create_task(bucket.take(1_000))
    await settle()
    await clock.advance(0.985)
    assert second.done()


@pytest.mark.parametrize("rate", [0.0, -1.0])
async def test_a_bucket_needs_a_rate(rate: float) -> None:
    with pytest.raises(ValueError, match="bytes_per_s"):
        TokenBucket(rate, ManualClock())


class Machine:
    """Time that passes by work and by rest only."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.busy_s = 0.0

    def busy(self) -> float:
        return self.busy_s

    def work(self, seconds: float) -> None:
        self.now_s += seconds
        self.busy_s += seconds

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


@pytest.mark.parametrize("share", [1.0, 0.5, 0.25, 0.1])
def test_a_duty_cycle_uses_its_share_of_the_processor_and_no_more(share: float) -> None:
    machine = Machine()
    duty = DutyCycle(lambda: share, machine.sleep, machine.busy)
    for step in range(1, 20):
        with duty.work():
            machine.work(0.001 * step)
    assert machine.busy_s / machine.now_s == pytest.approx(share)


def test_the_rest_after_work_is_what_cpulimit_takes() -> None:
    assert rest_s(0.02, 0.25) == pytest.approx(0.06)  # 20 ms of work in each 80 ms


def test_the_share_may_change_at_any_time() -> None:
    machine = Machine()
    share = 1.0
    duty = DutyCycle(lambda: share, machine.sleep, machine.busy)
    with duty.work():
        machine.work(1.0)
    share = 0.5
    with duty.work():
        machine.work(1.0)
    assert machine.now_s == pytest.approx(3.0)
