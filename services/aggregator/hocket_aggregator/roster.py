"""The aggregator's mirror of the registry: which devices there are and what each can do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Protocol

import structlog

from hocket.core.backoff import backoff
from hocket.core.clock import Clock
from hocket.core.device import Caller, Device, DeviceFilter
from hocket.core.events import DeviceSeen
from hocket.core.ids import DeviceId
from hocket.errors import HocketError

log = structlog.get_logger()

ASK_AGAIN_S = 1.0
MAX_ASKED = 1024

Tell = Callable[[DeviceSeen], Awaitable[object]]


class Registry(Protocol):
    """What the roster asks of a registry; `hocket.rpc.registry_client.RegistryClient` is one."""

    def watch(
        self, after_revision: int = 0
    ) -> AsyncGenerator[tuple[tuple[Device, ...], int], None]:
        """Changes after a revision."""
        ...

    def list_devices(self, which: DeviceFilter) -> AsyncIterator[Device]:
        """Devices that match."""
        ...


class Roster:
    """Tells the coordinator of every change, and asks for a device that a call names too early.

    While the registry is away the mirror stays as it is. `chance` is uniform in [0, 1).
    """

    def __init__(
        self, registry: Registry, tell: Tell, clock: Clock, chance: Callable[[], float]
    ) -> None:
        self._registry = registry
        self._tell = tell
        self._clock = clock
        self._chance = chance
        self._revision = 0
        self._known: dict[DeviceId, int] = {}  # the newest revision passed on
        self._asked: dict[Caller, float] = {}
        self._asking: dict[Caller, asyncio.Future[None]] = {}

    async def run(self) -> None:
        """Watch until cancelled; after a break go on from the last revision."""
        attempt, away = 0, True
        while True:
            try:
                async with aclosing(self._registry.watch(self._revision)) as changes:
                    async for devices, revision in changes:
                        if away:
                            log.info("registry_watched", revision=revision)
                        attempt, away = 0, False
                        await self._take(devices, revision)
            except HocketError as error:
                if not attempt:  # once for each break
                    log.warning("registry_away", reason=error.reason, message=error.message)
                away = True
            await self._clock.sleep_until(self._clock.now() + backoff(attempt, self._chance))
            attempt += 1

    async def look_up(self, caller: Caller) -> None:
        """Ask the registry about a device that speaks before the mirror has heard of it.

        An incarnation is asked for at most once a second; who asks meanwhile shares the answer.
        """
        asking = self._asking.get(caller)
        if asking is None:
            if self._clock.now() < self._asked.get(caller, -ASK_AGAIN_S) + ASK_AGAIN_S:
                return
            self._note_asked(caller)
            asking = asyncio.ensure_future(self._ask(caller))
            self._asking[caller] = asking
        await asyncio.shield(asking)

    async def _ask(self, caller: Caller) -> None:
        try:
            which = DeviceFilter(device_ids=frozenset((caller.device_id,)))
            async for device in self._registry.list_devices(which):
                await self._see(device)
        except HocketError as error:
            log.warning("registry_away", reason=error.reason, message=error.message)
        finally:
            del self._asking[caller]

    async def _take(self, devices: tuple[Device, ...], revision: int) -> None:
        if revision < self._revision:
            # The registry has lost its memory: what it says now is all there is.
            log.warning("registry_reset", revision=revision, known=self._revision)
            self._known.clear()
        for device in devices:
            await self._see(device)
        self._revision = revision

    async def _see(self, device: Device) -> None:
        """Pass a device on unless something newer of it was passed on before."""
        known = self._known.get(device.device_id)
        if known is not None and device.revision < known:
            return
        self._known[device.device_id] = device.revision
        await self._tell(DeviceSeen(device))

    def _note_asked(self, caller: Caller) -> None:
        while len(self._asked) >= MAX_ASKED:
            del self._asked[next(iter(self._asked))]
        self._asked.pop(caller, None)
        self._asked[caller] = self._clock.now()
