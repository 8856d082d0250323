"""The device's lease: joined, kept alive by heartbeats, taken anew when it has run out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import structlog

from hocket.core.backoff import backoff
from hocket.core.capability import Capability
from hocket.core.clock import Clock
from hocket.core.device import Caller
from hocket.core.link import Link
from hocket.errors import HocketError, Overloaded, StorageFailed, Unavailable, UnknownDevice
from hocket.rpc.registry_client import Joined, RegistryClient

LEAVE_S = 2.0  # a farewell is not worth a longer wait
LONGEST_WAIT_S = 3.0  # between two tries: a service that has come up is found soon

PASSING = (Unavailable, Overloaded, StorageFailed)
"""Errors of a service that cannot answer now: it may once it has room, or was started again."""

log = structlog.get_logger()


class LeaseHolder:
    """Speaks with the registry for one device.

    Args:
        registry: where to join.
        device_id: the name to ask for; empty: the registry picks one.
        labels: for people and filters.
        capability: what the device can do now.
        clock: for the time between heartbeats.
        chance: uniform in [0, 1), for jitter.
        next_change_s: seconds until the capability changes by plan; None: it does not.
    """

    def __init__(
        self,
        registry: RegistryClient,
        device_id: str,
        labels: Mapping[str, str],
        capability: Callable[[], Capability],
        clock: Clock,
        chance: Callable[[], float],
        next_change_s: Callable[[], float | None] = lambda: None,
    ) -> None:
        self._registry = registry
        self._device_id = device_id
        self._labels = labels
        self._capability = capability
        self._clock = clock
        self._chance = chance
        self._next_change_s = next_change_s
        self._joined: Joined | None = None
        self._heartbeat_s = 0.0
        self._renewing = asyncio.Lock()
        self._changed = asyncio.Event()

    @property
    def caller(self) -> Caller:
        """Who this device is now. Call `join` first."""
        if self._joined is None:
            raise RuntimeError("the device has not joined yet")
        return self._joined.caller

    async def join(self) -> None:
        """Take a lease, however long it takes until the registry answers."""
        attempt = 0
        while True:
            try:
                joined = await self._registry.join(
                    self._capability(), self._device_id, self._labels
                )
                break
            except PASSING as error:
                log.warning("join_failed", problem=error.message, attempt=attempt)
                await self._wait(retry_s(error, attempt, self._chance))
                attempt += 1
        self._joined = joined
        self._device_id = joined.device_id
        self._heartbeat_s = joined.heartbeat_s
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        log.info("joined", device=joined.device_id, incarnation=joined.incarnation)

    async def keep(self) -> None:
        """Send heartbeats for ever. Raises StaleIncarnation when a newer process has joined."""
        attempt = 0
        wait_s = self._heartbeat_s
        while True:
            change_s = self._next_change_s()
            await self._wait(wait_s if change_s is None else min(wait_s, change_s))
            caller = self.caller
            try:
                await self.renew(caller)
            except PASSING as error:
                log.warning("heartbeat_failed", problem=error.message, attempt=attempt)
                wait_s = min(self._heartbeat_s, retry_s(error, attempt, self._chance))
                attempt += 1
            else:
                attempt, wait_s = 0, self._heartbeat_s

    async def renew(self, caller: Caller) -> None:
        """Send a heartbeat for `caller`, unless it is replaced; join again if its lease is over.

        Raises StaleIncarnation and the errors of PASSING.
        """
        async with self._renewing:
            if caller != self.caller:
                return
            try:
                lease = await self._registry.heartbeat(caller, self._capability())
                self._heartbeat_s = lease.heartbeat_s
            except UnknownDevice as error:
                log.warning("lease_lost", problem=error.message)
                await self.join()

    async def replaced(self, caller: Caller) -> None:
        """Return once `caller` is no longer who this device is."""
        while caller == self.caller:
            await self._changed.wait()

    async def report_links(self, links: Sequence[Link]) -> None:
        """Tell what the links carry; the next report makes up for one that fails."""
        try:
            await self._registry.report_links(self.caller, links)
        except (*PASSING, UnknownDevice) as error:
            log.warning("links_not_reported", problem=error.message)

    async def leave(self) -> None:
        """Give the lease back, if the registry can be reached."""
        if self._joined is not None:
            with suppress(HocketError, TimeoutError):
                async with asyncio.timeout(LEAVE_S):
                    await self._registry.leave(self.caller)

    async def _wait(self, seconds: float) -> None:
        await self._clock.sleep_until(self._clock.now() + seconds)


def retry_s(error: HocketError, attempt: int, chance: Callable[[], float]) -> float:
    """Seconds before retry number `attempt`, with jitter; no sooner than the service asked for."""
    asked_s = error.retry_after_s if isinstance(error, Overloaded) else 0.0
    return asked_s + backoff(attempt, chance, longest_s=LONGEST_WAIT_S)
