"""A service as a process of its own, as an operator starts it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from support.limits import LIMIT_S


def python(*arguments: str) -> list[str]:
    """A command for this Python."""
    return [sys.executable, *arguments]


@asynccontextmanager
async def running(command: list[str], env: Mapping[str, str]) -> AsyncIterator[Process]:
    """The process, killed at the end if it still runs. Its output is captured."""
    process = await asyncio.create_subprocess_exec(
        *command, env={**os.environ, **env}, stdout=PIPE, stderr=PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def logged(process: Process, event: str) -> dict[str, object]:
    """The fields of the first log line of this event; AssertionError if the process ends before."""
    lines: list[str] = []
    if process.stderr is None:
        raise AssertionError("the process must be started with its stderr captured")
    async with asyncio.timeout(LIMIT_S):
        async for raw in process.stderr:
            lines.append(raw.decode())
            try:
                fields = json.loads(raw)
            except ValueError:
                continue
            if isinstance(fields, dict) and fields.get("event") == event:
                return fields
    raise AssertionError(f"no {event!r} before the end of:\n{''.join(lines)}")
