"""Evaluation on held-out examples, beside the work: the newest version first, one at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog
from torch import Tensor

from hocket.core.events import Evaluate, Evaluated
from hocket.core.ids import Version
from hocket.task.setup import Examine
from hocket_aggregator.turn import Turn

log = structlog.get_logger()


class Evaluator:
    """A version that is overtaken while it waits is skipped; the last one offered never is.

    `load` runs in a thread once `run` has begun, so that reading data delays no one, and so does
    each evaluation.
    """

    def __init__(
        self, load: Callable[[], Examine], report: Callable[[Evaluated], Awaitable[object]]
    ) -> None:
        self._load = load
        self._report = report
        self._waiting: tuple[Version, Tensor] | None = None
        self._offered = Version(0)
        self._work = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def on_turn(self, turn: Turn) -> None:
        """Take what the coordinator wants evaluated."""
        for effect in turn.effects:
            if isinstance(effect, Evaluate):
                self.offer(effect.version, effect.model)

    def offer(self, version: Version, model: Tensor) -> None:
        """Evaluate this one next; each version is evaluated once."""
        if version <= self._offered:
            return
        self._offered = version
        self._waiting = (version, model)
        self._work.set()
        self._idle.clear()

    async def settled(self) -> None:
        """Return once nothing waits any more."""
        await self._idle.wait()

    async def run(self) -> None:
        """Evaluate until cancelled. Raises DataError or ModelError when there is no way to."""
        examine = await asyncio.to_thread(self._load)
        log.info("test_data_loaded")
        while True:
            await self._work.wait()
            self._work.clear()
            if self._waiting is not None:
                (version, model), self._waiting = self._waiting, None
                evaluation = await asyncio.to_thread(examine, model)
                await self._report(Evaluated(version, evaluation))
            if self._waiting is None:
                self._idle.set()
