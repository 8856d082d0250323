"""Processes killed as by SIGKILL, at named places, and what the next ones make of what they left.

`make chaos` does it a hundred times and more, at every place and at random moments.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from support.audit import Auditor
from support.book import Book
from support.crash_fleet import SMALL, crash_fleet
from support.witness import witness

from hocket.core.capability import Capability
from hocket.core.update import Applied
from hocket.hosting.failpoint import Failpoint
from hocket.rpc.channel import open_channel
from hocket.rpc.registry_client import RegistryClient

# What is reached by a push, and whether its answer must have been known to the next life: the
# record was written before the kill, and a killed process loses nothing that it has written.
BY_PUSHES = [
    (Failpoint.BEFORE_JOURNAL_WRITE, False),
    (Failpoint.AFTER_JOURNAL_SYNC, True),
    (Failpoint.BEFORE_ACKNOWLEDGEMENT, True),
]
# Twice: the first snapshot of a life is taken before it serves.
BY_TIME = [(Failpoint.MID_SNAPSHOT, 5), (Failpoint.BEFORE_MANIFEST, 2)]


async def test_a_killed_aggregator_keeps_its_word(tmp_path: Path) -> None:
    book = Book()
    async with (
        crash_fleet(tmp_path, hidden=SMALL) as fleet,
        witness(fleet, book) as client,
    ):
        auditor = Auditor(fleet, client.aggregator, book)
        in_doubt, known = None, False
        for place, recorded in [*BY_PUSHES, (Failpoint.BEFORE_RECORDS, True)]:
            await fleet.aggregator.start(place)
            await fleet.aggregator.ready()
            if in_doubt is not None:
                before = (await client.aggregator.get_status()).version
                assert (in_doubt.header.update_id in await auditor.lineage()) == known, place
                await client.deliver(in_doubt)
            in_doubt = await client.push_until(fleet.aggregator, large=False)
            await fleet.aggregator.died()
