"""No journal: acknowledged at once, and lost with a crash if no snapshot came after it."""

from __future__ import annotations

import asyncio

from hocket_aggregator.journal.entries import Entry


class Unjournalled:
    """What a Journal offers, keeping nothing.

    `segment` is the one that a journal would begin with, so that one can be switched on later.
    """

    num_bytes = 0

    def __init__(self, segment: int = 1) -> None:
        self.segment = segment

    def append(self, entry: Entry) -> int:  # noqa: ARG002 -- the journal's
        """Forget it."""
        return 0

    async def written(self, ticket: int) -> None:
        """At once."""

    async def synced(self, ticket: int) -> None:
        """At once."""

    async def all_synced(self) -> None:
        """At once."""

    async def room(self) -> None:
        """There always is."""

    def rotate(self) -> int:
        """There are no segments."""
        return self.segment

    async def run(self) -> None:
        """Nothing can fail."""
        await asyncio.Event().wait()

    async def close(self) -> None:
        """Nothing is open."""
