"""The membership at work: told the time, saved, and seen by watchers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Final, TypeAlias

import structlog

from hocket.core.clock import Clock
from hocket.core.device import Caller, Device
from hocket.core.membership import Membership
from hocket.core.membership_events import (
    Changed,
    Departed,
    Effect,
    Event,
    Expired,
    Granted,
    Renewed,
    Superseded,
    Tick,
)
from hocket.errors import Overloaded, Unavailable
from hocket_registry.batches import batches
from hocket_registry.writer import GroupWriter

BATCH = 500  # devices in one message to a watcher
WATCH_RETRY_S = 5.0

Step: TypeAlias = tuple[Sequence[Device], int]
"""Devices that changed, and the revision to resume from once they are known."""

log: Final[structlog.stdlib.BoundLogger] = structlog.get_logger()


class Roster:
    """Owns one Membership. `handle` never awaits, so nothing interleaves with the rules."""

    def __init__(
        self, membership: Membership, writer: GroupWriter, clock: Clock, *, max_watchers: int = 64
    ) -> None:
        self.membership = membership
        self._writer = writer
        self._clock = clock
        self._max_watchers = max_watchers
        self._watchers = 0
        self._stopped = False
        self._changed = asyncio.Event()
        self._lease_granted = asyncio.Event()

    def now(self) -> float:
        """The clock's time, for reading the membership."""
        return self._clock.now()

    def unix(self) -> float:
        """The wall clock's time."""
        return self._clock.unix()

    def handle(self, event: Event) -> list[Effect]:
        """Apply an event now: log its effects, put changes up for saving, wake watchers."""
        effects = self.membership.handle(event, self._clock.now())
        for effect in effects:
            self._perform(effect)
        return effects

    async def handle_saved(self, event: Event) -> list[Effect]:
        """As `handle`, and return only once its changes are on disk."""
        effects = self.handle(event)
        for effect in effects:
            if isinstance(effect, Changed):
                await self._writer.saved(effect.device.revision)
        return effects

    async def watch(self, after_revision: int) -> AsyncGenerator[Step, None]:
        """What changed after a revision, as it happens; at 0 or unknown, first all devices.

        Yields batches with the revision to resume from. A watcher holds no queue, only the revision
        it has reached: whoever is slow gets fewer, larger steps and holds up nobody. Raises
        Overloaded when too many watch, Unavailable when the registry stops.
        """
        if self._watchers >= self._max_watchers:
            raise Overloaded(
                f"{self._watchers} watchers are connected already; poll ListDevices or try later",
                WATCH_RETRY_S,
            )
        self._watchers += 1
        try:
            async with aclosing(self._steps(after_revision)) as steps:
                async for step in steps:
                    yield step
        finally:
            self._watchers -= 1

    async def _steps(self, revision: int) -> AsyncGenerator[Step, None]:
        first = True
        while not self._stopped:
            changed = self._changed
            reached = self.membership.revision
            devices = self.membership.changes_since(revision, self._clock.now())
            for batch in batches(devices, BATCH):
                yield batch, reached if batch[-1] is devices[-1] else batch[-1].revision
            if first and not devices:
                yield (), reached  # tells the watcher that it is up to date
            first, revision = False, reached
            await changed.wait()
        raise Unavailable("the registry is shutting down; watch again from your last revision")

    async def expire_leases(self) -> None:
        """End leases at their time, until cancelled."""
        while True:
            deadline = self.membership.next_deadline()
            if deadline is None:
                self._lease_granted.clear()
                await self._lease_granted.wait()
            else:
                await self._clock.sleep_until(deadline)
                self.handle(Tick())

    def end_watches(self) -> None:
        """Send every watcher away, and take no new ones: the registry stops."""
        self._stopped = True
        self._wake_watchers()

    def _perform(self, effect: Effect) -> None:
        match effect:
            case Changed(device):
                self._writer.put(device)
                self._wake_watchers()
                log.debug("device_changed", device=device.device_id, revision=device.revision)
            case Granted(caller):
                self._lease_granted.set()
                _logged("device_joined", caller)
            case Superseded(caller):
                _logged("device_superseded", caller)
            case Departed(caller):
                _logged("device_left", caller)
            case Expired(caller):
                _logged("lease_expired", caller)
            case Renewed(caller):
                log.debug("lease_renewed", device=caller.device_id)

    def _wake_watchers(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _logged(event: str, caller: Caller) -> None:
    log.info(event, device=caller.device_id, incarnation=caller.incarnation)
