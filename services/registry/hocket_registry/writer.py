"""Brings changes to the store in groups, so that a busy fleet costs a handful of disk syncs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from hocket.core.device import Device
from hocket.core.ids import DeviceId
from hocket.errors import Unavailable

Save = Callable[[Sequence[Device], int], Awaitable[None]]


class GroupWriter:
    """Saves whatever changed while the last save ran; of a device only its latest state.

    `save(devices, revision)` is the store's. `run` must be running for anything to be saved.
    """

    def __init__(self, save: Save, revision: int) -> None:
        self._save = save
        self._pending: dict[DeviceId, Device] = {}
        self._revision = revision  # latest one put
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._work = asyncio.Event()
        self._saved = revision
        self._ended = False

    def put(self, device: Device) -> None:
        """Have the device saved soon."""
        self._pending[device.device_id] = device
        self._revision = device.revision
        self._work.set()

    async def saved(self, revision: int) -> None:
        """Return once everything up to `revision` is on disk.

        Raises Unavailable when the writer ended before.
        """
        if revision <= self._saved:
            return
        if self._ended:
            raise _cannot_save()
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((revision, done))
        await done

    async def run(self) -> None:
        """Save until cancelled, then save what is left."""
        try:
            while True:
                await self._work.wait()
                # Shielded, so that cancelling cannot leave a transaction half done.
                group = asyncio.ensure_future(self._save_group())
                try:
                    await asyncio.shield(group)
                except asyncio.CancelledError:
                    await group
                    raise
        finally:
            await self._end()

    async def _end(self) -> None:
        try:
            if self._pending:
                await self._save_group()
        finally:
            self._ended = True
            for _, done in self._waiting:
                if not done.done():
                    done.set_exception(_cannot_save())

    async def _save_group(self) -> None:
        devices, revision = list(self._pending.values()), self._revision
        self._pending = {}
        self._work.clear()
        await self._save(devices, revision)
        self._saved = revision
        waiting, self._waiting = self._waiting, []
        for wanted, done in waiting:
            if wanted > revision:
                self._waiting.append((wanted, done))
            elif not done.done():  # a caller that gave up has cancelled it
                done.set_result(None)


def _cannot_save() -> Unavailable:
    return Unavailable("the registry is shutting down; call again in a moment")
