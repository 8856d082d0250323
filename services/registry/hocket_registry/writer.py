"""Brings changes to the store in groups, so that a busy fleet costs a handful of disk syncs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from hocket.core.clock import Clock
from hocket.core.device import Device
from hocket.core.ids import DeviceId
from hocket.errors import HocketError, Overloaded, StorageFull, Unavailable
from hocket.hosting.failpoint import Failpoint, reach

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 10.0  # between attempts to save

Save = Callable[[Sequence[Device], int], Awaitable[None]]

log = structlog.get_logger()


class GroupWriter:
    """Saves whatever changed while the last save ran; of a device only its latest state.

    `save(devices, revision)` is the store's. `run` must be running for anything to be saved. While
    the store takes nothing, whoever waits is told, changes wait, and they are tried again: as many
    as there are devices, so that they need no other bound.
    """

    def __init__(self, save: Save, revision: int, clock: Clock) -> None:
        self._save = save
        self._clock = clock
        self._pending: dict[DeviceId, Device] = {}
        self._revision = revision  # latest one put
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._work = asyncio.Event()
        self._saved = revision
        self._trouble: HocketError | None = None  # why the last save failed; None while one runs
        self._failing = False
        self._pause_s = FIRST_PAUSE_S
        self._ended = False

    def put(self, device: Device) -> None:
        """Have the device saved soon."""
        self._pending[device.device_id] = device
        self._revision = device.revision
        self._work.set()

    async def saved(self, revision: int) -> None:
        """Return once everything up to `revision` is on disk.

        Raises StorageFull or Unavailable while the store takes nothing, and Unavailable when the
        writer ended before.
        """
        if revision <= self._saved:
            return
        if self._ended:
            raise _cannot_save()
        if self._trouble is not None:
            raise self._trouble.with_traceback(None)
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((revision, done))
        await done

    async def run(self) -> None:
        """Save until cancelled, then save what is left. Raises what is not StorageFull or so."""
        try:
            while True:
                await self._work.wait()
                # Shielded, so that cancelling cannot leave a transaction half done.
                group = asyncio.ensure_future(self._try_group())
                try:
                    await asyncio.shield(group)
                except asyncio.CancelledError:
                    await group
                    raise
                if self._trouble is not None:
                    await self._clock.sleep_until(self._clock.now() + self._pause_s)
                    self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        finally:
            await self._end()

    async def _end(self) -> None:
        try:
            if self._pending:
                await self._try_group()
        finally:
            if self._pending:
                log.warning("devices_left_unsaved", devices=len(self._pending))
            self._ended = True
            self._answer(_cannot_save())

    async def _try_group(self) -> None:
        devices, revision = self._pending, self._revision
        self._pending = {}
        self._work.clear()
        self._trouble = None  # whoever asks now waits for what comes of this
        try:
            reach(Failpoint.BEFORE_REGISTRY_SAVE)
            await self._save(list(devices.values()), revision)
            reach(Failpoint.AFTER_REGISTRY_SAVE)
        except (StorageFull, Unavailable) as error:
            self._pending = devices | self._pending  # what changed meanwhile is later
            self._work.set()
            self._failed(error)
        else:
            self._saved = revision
            if self._failing:
                log.info("devices_saved_again", devices=len(devices))
            self._failing, self._pause_s = False, FIRST_PAUSE_S
            self._answer()

    def _failed(self, error: HocketError) -> None:
        if not self._failing:
            log.warning("devices_not_saved", reason=error.reason, message=error.message)
        if isinstance(error, Overloaded):
            error.retry_after_s = self._pause_s
        self._failing, self._trouble = True, error
        self._answer(error)

    def _answer(self, error: HocketError | None = None) -> None:
        """Those whose revision is saved; all of them, if there is an error."""
        waiting, self._waiting = self._waiting, []
        for wanted, done in waiting:
            if done.done():  # a caller that gave up has cancelled it
                continue
            if wanted <= self._saved:
                done.set_result(None)
            elif error is not None:
                done.set_exception(error)
            else:
                self._waiting.append((wanted, done))


def _cannot_save() -> Unavailable:
    return Unavailable("the registry is shutting down; call again in a moment")
