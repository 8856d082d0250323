"""Clients in processes of their own: a job goes in as JSON, what was measured comes out."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import uvloop

from hocket.errors import HocketError
from hocket.hosting.parent import PARENT_VARIABLE, end_with_parent

JSON = dict[str, Any]


async def run_worker(module: str, job: JSON, log: Path) -> JSON:
    """Run `python -m module` on a job to its end. Raises HocketError with its last words."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as errors:
        begins = errors.tell()
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            module,
            env=os.environ | {PARENT_VARIABLE: str(os.getpid()), "OMP_NUM_THREADS": "1"},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
        )
    try:
        told, _ = await process.communicate(json.dumps(job).encode())
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    if process.returncode == 0:
        result: JSON = json.loads(told)
        return result
    last = _last_words(log, begins)
    raise HocketError(f"{module} ended with exit code {process.returncode}: {last}")


def work(task: Callable[[JSON], Awaitable[JSON]]) -> int:
    """A worker's main: read the job, do it, tell. Its exit status."""
    end_with_parent()
    try:
        result = uvloop.run(_awaited(task, json.load(sys.stdin)))
    except HocketError as error:
        sys.stderr.write(f"{error.message}\n")
        return 1
    json.dump(result, sys.stdout)
    return 0


def _last_words(log: Path, begins: int) -> str:
    words = log.read_bytes()[begins:].decode(errors="replace").strip().splitlines()
    return words[-1] if words else "it said nothing"


async def _awaited(task: Callable[[JSON], Awaitable[JSON]], job: JSON) -> JSON:
    return await task(job)
