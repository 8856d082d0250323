"""A client that joins, calls and leaves in closed loop, and checks what the registry remembers."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass

from hocket.core.capability import Capability
from hocket.core.device import Caller
from hocket.errors import Overloaded, StaleIncarnation, StorageFailed, Unavailable
from hocket.rpc.registry_client import RegistryClient

PASSING = (Overloaded, Unavailable, StorageFailed)
VISITORS = 8


@dataclass(slots=True)
class _Visitor:
    """What was acknowledged to one device."""

    caller: Caller | None = None  # None: it has never joined, or may have left
    joins: int = 0  # the last incarnation acknowledged
    in_doubt: bool = False  # a join since then had no answer


class JoinWitness:
    """Devices that never train. All chance comes from `seed`."""

    def __init__(self, registry: RegistryClient, counts: Counter[str], seed: int = 0) -> None:
        self._registry = registry
        self._counts = counts
        self._chance = random.Random(f"{seed} visitors")
        self._visitors = {f"visitor-{number}": _Visitor() for number in range(VISITORS)}

    async def run(self) -> None:
        """Until cancelled; AssertionError when something that was granted is forgotten."""
        while True:
            name = self._chance.choice(list(self._visitors))
            act = self._chance.choice((self._join, self._beat, self._beat, self._leave))
            with suppress(*PASSING):
                await act(name, self._visitors[name])
            await asyncio.sleep(0.1 * self._chance.random())

    async def _join(self, name: str, known: _Visitor) -> None:
        # Nobody is triggered who is not available.
        try:
            joined = await self._registry.join(Capability(available=False), name)
        except PASSING:
            known.in_doubt = True
            raise
        grown = joined.incarnation - known.joins
        assert grown == 1 or (known.in_doubt and grown > 1), (name, known, joined)
        self._visitors[name] = _Visitor(joined.caller, joined.incarnation)
        self._counts["joins"] += 1

    async def _beat(self, name: str, known: _Visitor) -> None:
        if known.caller is None:
            return
        try:
            await self._registry.heartbeat(known.caller)  # UnknownDevice: the lease was lost
        except StaleIncarnation:
            assert known.in_doubt, f"{name}'s incarnation was given out again: {known}"

    async def _leave(self, _: str, known: _Visitor) -> None:
        caller, known.caller = known.caller, None
        if caller is None:
            return
        with suppress(StaleIncarnation):
            await self._registry.leave(caller)
