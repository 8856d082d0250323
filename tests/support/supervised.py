"""One service that is killed on purpose and started again, as a supervisor would."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from support.limits import LIMIT_S

from hocket.cli.processes import Process, Service
from hocket.errors import StartupError
from hocket.hosting.failpoint import VARIABLE, Failpoint

KILLED = -9


class Supervised:
    """A service's lives, one after the other, with the same settings and the same folder.

    An end that nobody asked for is told by `unexpected`, in the process's own last words.
    """

    def __init__(self, service: Service) -> None:
        self.service = service
        self.lives = 0
        self.unexpected: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._process: Process | None = None
        self._watch: asyncio.Task[None] | None = None
        self._killed_only = False  # an end of this life may only be a kill
        self._may_end = False  # in any way

    @property
    def name(self) -> str:
        """Of the service."""
        return self.service.name

    @property
    def alive(self) -> bool:
        """Whether a process runs."""
        return self._process is not None and self._process.returncode is None

    async def start(
        self, place: Failpoint | None = None, count: int = 1, while_there: Path | None = None
    ) -> Supervised:
        """Begin a life; one with a `place` ends when that is reached for the `count`-th time.

        With `while_there` it counts only while there is such a file.
        """
        assert not self.alive, f"{self.name} runs already"
        condition = "" if while_there is None else f":{while_there}"
        armed = {} if place is None else {VARIABLE: f"{place}:{count}{condition}"}
        environment = self.service.environment | armed
        self._killed_only, self._may_end = place is not None, False
        self._process = await Process.start(replace(self.service, environment=environment))
        self._watch = asyncio.create_task(self._notice(self._process))
        self.lives += 1
        return self

    async def ready(self) -> dict[str, Any]:
        """What it said once it served."""
        return await self._current.ready(LIMIT_S)

    async def served(self) -> bool:
        """Wait until it serves, or was killed on its way there."""
        try:
            await self.ready()
        except StartupError:
            await self.died()
            return False
        return True

    async def serve(self) -> Supervised:
        """Begin a life that nothing ends, and wait until it serves."""
        await self.start()
        await self.ready()
        return self

    async def kill(self) -> None:
        """Kill it as SIGKILL does, and see it gone."""
        self._killed_only = True
        if self.alive:
            self._current._process.kill()
        await self.died()

    async def died(self, within_s: float = LIMIT_S) -> None:
        """Wait until it was killed, here or at its failpoint."""
        async with asyncio.timeout(within_s):
            code = await self._current.wait()
        await self._noticed()
        assert code == KILLED, self._current.obituary()

    async def ended(self, within_s: float = LIMIT_S) -> tuple[int, str]:
        """Wait until it has ended by itself: its exit status and what it said last."""
        self._may_end = True
        async with asyncio.timeout(within_s):
            code = await self._current.wait()
        return code, self._current.obituary()

    async def stop(self) -> None:
        """SIGTERM, if it runs."""
        self._may_end = True
        if self._process is not None:
            await self._process.stop()
        await self._noticed()

    def events(self, name: str) -> list[dict[str, Any]]:
        """Its log lines of one kind, over all its lives."""
        if not self.service.log.exists():
            return []
        found = []
        for line in self.service.log.read_bytes().splitlines():
            if name.encode() not in line:
                continue
            try:
                fields = json.loads(line)
            except ValueError:  # cut short by a kill
                continue
            if fields.get("event") == name:
                found.append(fields)
        return found

    @property
    def pid(self) -> int:
        """Of the process that runs."""
        return self._current._process.pid

    @property
    def _current(self) -> Process:
        assert self._process is not None, f"{self.name} was never started"
        return self._process

    async def _noticed(self) -> None:
        if self._watch is not None:
            await self._watch

    async def _notice(self, process: Process) -> None:
        killed = await process.wait() == KILLED
        expected = self._may_end or (self._killed_only and killed)
        if not expected and not self.unexpected.done():
            self.unexpected.set_result(process.obituary())
