"""Starting, watching and stopping the services' processes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hocket.errors import StartupError
from hocket.hosting.parent import PARENT_VARIABLE

POLL_S = 0.05
GRACE_S = 15.0  # for a service to finish what it does after SIGTERM
LOG_LINES_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Service:
    """One process to run: `python -m module` with these settings."""

    name: str
    module: str
    environment: dict[str, str]
    log: Path
    ready_file: Path | None = None


class Process:
    """A running service."""

    def __init__(
        self, service: Service, process: asyncio.subprocess.Process, log_begins: int
    ) -> None:
        self.service = service
        self._process = process
        self._log_begins = log_begins  # where this life's lines begin

    @classmethod
    async def start(cls, service: Service) -> Process:
        """Run it in a session of its own, so that a Ctrl-C reaches it only through us."""
        service.log.parent.mkdir(parents=True, exist_ok=True)
        if service.ready_file is not None:
            service.ready_file.unlink(missing_ok=True)
        with service.log.open("ab") as log:
            begins = log.tell()
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                service.module,
                env=os.environ | service.environment | {PARENT_VARIABLE: str(os.getpid())},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return cls(service, process, begins)

    @property
    def returncode(self) -> int | None:
        """Its exit status, None while it runs."""
        return self._process.returncode

    async def ready(self, timeout_s: float) -> dict[str, Any]:
        """What it wrote once it was serving. Raises StartupError with its last words."""
        path = self.service.ready_file
        if path is None:
            raise ValueError(f"{self.service.name} writes no ready file")
        for _ in range(int(timeout_s / POLL_S)):
            if path.exists():
                told: dict[str, Any] = json.loads(path.read_text())
                return told
            if self.returncode is not None:
                raise StartupError(self.obituary())
            await asyncio.sleep(POLL_S)
        raise StartupError(
            f"{self.service.name} was not ready after {timeout_s:g} s; see {self.service.log}"
        )

    async def wait(self) -> int:
        """Its exit status, once it has ended."""
        return await self._process.wait()

    async def stop(self) -> None:
        """SIGTERM, then SIGKILL for one that does not listen."""
        if self.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._process.wait(), GRACE_S)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()

    def obituary(self) -> str:
        """Why it ended, in its own last words."""
        log = self.service.log.read_bytes()[self._log_begins :]
        lines = log.decode(errors="replace").strip().splitlines()
        if lines and lines[-1].startswith("hocket-"):  # what it said to people, not its events
            lines = lines[-1:]
        last = "\n  ".join(lines[-LOG_LINES_SHOWN:]) or "(it said nothing)"
        return f"{self.service.name} ended with exit code {self.returncode}:\n  {last}"


async def stop_all(processes: Iterable[Process]) -> None:
    """Stop them at the same time."""
    await asyncio.gather(*(process.stop() for process in processes))
