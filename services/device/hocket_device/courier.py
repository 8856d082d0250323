"""Carries models in and updates out, tries again where that helps, and measures the link."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TypeVar

import structlog

from hocket.core.clock import Clock
from hocket.core.device import Caller
from hocket.core.link import Link
from hocket.core.payload import Payload
from hocket.core.sizing.size import WHOLE, Size
from hocket.core.submodel import FULL, SubmodelSpec
from hocket.core.terms import TaskTerms
from hocket.core.update import Outcome, UpdateHeader
from hocket.errors import CorruptPayload, HocketError, Unavailable, UnknownDevice
from hocket.hosting.failpoint import Failpoint, reach
from hocket.rpc.aggregator_client import UNPACED, AggregatorClient
from hocket.rpc.errors import is_unclear
from hocket.rpc.transfer import Pacer, PulledModel
from hocket_device.lease import PASSING, LeaseHolder, retry_s
from hocket_device.state import Tally

T = TypeVar("T")

UNCLEAR_TRIES = 10  # of one update; the first few would do for what mends itself

log = structlog.get_logger()


class _Marked:
    """A pacer that marks the place at which some of a body was sent and some was not."""

    def __init__(self, pace: Pacer) -> None:
        self._pace = pace
        self._sent = False

    async def take(self, num_bytes: int) -> None:
        """As `pace`."""
        await self._pace.take(num_bytes)
        if self._sent:
            reach(Failpoint.MID_PUSH)
        self._sent = True


@dataclass(slots=True)
class Courier:
    """Speaks with the aggregator for one device."""

    aggregator: AggregatorClient
    lease: LeaseHolder
    clock: Clock
    chance: Callable[[], float]  # uniform in [0, 1), for jitter
    up: Pacer = UNPACED
    down: Pacer = UNPACED
    link: Link = field(default_factory=Link)
    tally: Tally = field(default_factory=Tally)

    async def get_task(self) -> TaskTerms:
        """What is being trained, however long it takes until the aggregator answers."""
        return await self._until_answered("get_task", lambda _caller: self.aggregator.get_task())

    async def pull(self, limit_bytes: int, size: Size = WHOLE) -> PulledModel:
        """The newest model's part of this size, to train from it.

        Raises InvalidRequest, PayloadTooLarge.
        """

        async def attempt(caller: Caller) -> PulledModel:
            try:
                pulled = await self.aggregator.pull(
                    caller,
                    limit_bytes=limit_bytes,
                    spec=size.spec,
                    why=size.why,
                    for_training=True,
                    pace=self.down,
                )
            except CorruptPayload as error:
                raise Unavailable(error.message) from error
            if pulled is None:
                raise Unavailable("the aggregator holds the newest model back; pull again")
            return pulled

        return self._came_in(await self._until_answered("pull", attempt))

    async def pull_fresh(
        self, base: int, limit_bytes: int, spec: SubmodelSpec = FULL
    ) -> PulledModel | None:
        """The newest model if it is newer than `base`; None too if it cannot be had now."""
        try:
            pulled = await self.aggregator.pull(
                self.lease.caller,
                limit_bytes=limit_bytes,
                only_if_newer_than=base,
                spec=spec,
                pace=self.down,
            )
        except (*PASSING, UnknownDevice, CorruptPayload) as error:
            self.link = self.link.after_break()
            log.warning("fresh_pull_failed", problem=error.message)
            return None
        return None if pulled is None else self._came_in(pulled)

    async def push(self, header: UpdateHeader, payload: Payload) -> Outcome:
        """Offer an update until it is settled, under the same update_id each time.

        An error that `is_unclear` (a bug's, a proxy's) may come after the update was applied. So
        it is offered again, as after a break of the line, until its first answer is heard; but not
        for ever, since such an error may need a person.

        Raises HocketError when it is refused for good, or unclear for the UNCLEAR_TRIES-th time.
        """
        unclear = 0

        async def attempt(caller: Caller) -> Outcome:
            nonlocal unclear
            speaking = replace(header, incarnation=caller.incarnation)
            try:
                pushed = await self.aggregator.push(speaking, payload, pace=_Marked(self.up))
            except HocketError as error:
                unclear += is_unclear(error)
                if not is_unclear(error) or unclear == UNCLEAR_TRIES:
                    raise
                raise Unavailable(error.message) from error
            self.tally.bytes_up += pushed.num_bytes
            self.link = self.link.after_upload(pushed.num_bytes, pushed.seconds)
            return pushed.outcome

        return await self._until_answered("push", attempt)

    async def time_round_trip(self) -> None:
        """Measure how long a small message takes to and fro."""
        began = self.clock.now()
        try:
            await self.aggregator.get_task()
        except PASSING:
            return
        self.link = self.link.after_round_trip(self.clock.now() - began)

    async def _until_answered(self, what: str, call: Callable[[Caller], Awaitable[T]]) -> T:
        attempt = 0
        while True:
            caller = self.lease.caller
            try:
                return await call(caller)
            except (*PASSING, UnknownDevice) as error:
                log.warning("call_failed", call=what, problem=error.message, attempt=attempt)
                await self.recover(caller, error, attempt)
                attempt += 1

    async def recover(self, caller: Caller, error: HocketError, attempt: int) -> None:
        """Wait before retry number `attempt`, and see to the lease where that is in doubt.

        The aggregator learns of devices from the registry, a moment later than they join: what it
        does not know need not be gone. Raises StaleIncarnation.
        """
        if isinstance(error, UnknownDevice):
            with suppress(*PASSING):
                await self.lease.renew(caller)
        elif isinstance(error, Unavailable):
            self.link = self.link.after_break()
        await self.clock.sleep_until(self.clock.now() + retry_s(error, attempt, self.chance))

    def _came_in(self, pulled: PulledModel) -> PulledModel:
        self.tally.bytes_down += pulled.num_bytes
        self.link = self.link.after_download(pulled.num_bytes, pulled.seconds)
        return pulled
