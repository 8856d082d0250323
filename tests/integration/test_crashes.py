"""Processes killed as by SIGKILL, at named places, and what the next ones make of what they left.

`make chaos` does it a hundred times and more, at every place and at random moments.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from hocket_aggregator.aggregator import JOURNAL
from hocket_aggregator.journal.entries import Piece
from hocket_aggregator.journal.reader import read_entries
from support.audit import Auditor
from support.book import Book, Parcel
from support.crash_fleet import SMALL, crash_fleet
from support.limits import LIMIT_S
from support.witness import witness

from hocket.core.update import Applied
from hocket.errors import Unavailable
from hocket.hosting.failpoint import Failpoint

# The lives of two fleets. With the count: the first snapshot of a life is taken before it serves,
# of two tensors or more; a second one only of something new. So none may come before there is
# something new on purpose: the life before leaves no update that is not on disk.
LIVES = [
    [
        (Failpoint.BEFORE_RECORDS, 2),
        (Failpoint.AFTER_JOURNAL_SYNC, 2),
        (Failpoint.MID_SNAPSHOT, 5),
    ],
    [
        (Failpoint.BEFORE_JOURNAL_WRITE, 2),
        (Failpoint.BEFORE_ACKNOWLEDGEMENT, 2),
        (Failpoint.BEFORE_MANIFEST, 2),
    ],
]
# Whether the update that got no answer was on disk by then. A snapshot has nothing to do with it.
ON_DISK: dict[Failpoint | None, bool] = {
    Failpoint.AFTER_JOURNAL_SYNC: True,
    Failpoint.BEFORE_ACKNOWLEDGEMENT: True,
    Failpoint.BEFORE_JOURNAL_WRITE: False,
}


async def test_a_killed_aggregator_keeps_its_word(tmp_path: Path) -> None:
    """What was on disk counts, answered or not; what was not is applied when it is pushed again.

    Most of a life is the work of one core, importing torch: so two fleets live side by side.
    """
    async with asyncio.TaskGroup() as group:
        for number, places in enumerate(LIVES):
            home = tmp_path / str(number)
            home.mkdir()
            group.create_task(_killed_at(places, home))


async def _killed_at(places: list[tuple[Failpoint, int]], home: Path) -> None:
    """Each life is asked what it knows of the one before, and then killed at a place of its own."""
    book = Book()
    async with (
        crash_fleet(home, hidden=SMALL, snapshot_every_s="0.2") as fleet,
        witness(fleet, book) as client,
    ):
        auditor = Auditor(fleet, client.aggregator, book)
        before: Failpoint | None = None
        in_doubt: Parcel | None = None
        for place, count in [*places, (None, 0)]:
            await fleet.aggregator.start(place, count)
            await fleet.aggregator.ready()
            if in_doubt is not None:
                known = in_doubt.header.update_id in await client.recorded()
                assert known == ON_DISK.get(before, known), before
                await client.deliver(in_doubt)
            if before is not None:
                found = await auditor.audit()
            if place is not None:
                in_doubt = await client.push_until(fleet.aggregator, large=False)
                await fleet.aggregator.died()
            before = place
        for update_id in book.promises:
            await client.repeat(update_id)
        told, newest = await auditor.replay_by_command(), found.versions[-1]
        assert (told["version"], told["digest"]) == (newest.version, newest.digest)


async def test_a_push_goes_on_at_the_byte_where_the_aggregator_was_killed(tmp_path: Path) -> None:
    book = Book()
    async with crash_fleet(tmp_path) as fleet, witness(fleet, book) as client:
        await fleet.aggregator.start(Failpoint.MID_STREAM, 2)
        await fleet.aggregator.ready()
        cut = await client.prepare(large=True)
        with pytest.raises(Unavailable):
            await client.attempt(cut, pace=Journalled(fleet.data_dir / JOURNAL))
        await fleet.aggregator.died()
        await fleet.aggregator.serve()
        assert isinstance(await client.deliver(cut), Applied)
        assert book.counts["resumed in mid-stream"] == 1
        await Auditor(fleet, client.aggregator, book).audit()


async def test_a_killed_device_finishes_its_push_and_a_registry_remembers_it(
    tmp_path: Path,
) -> None:
    book = Book()
    async with (
        crash_fleet(tmp_path, devices=1, hidden=SMALL) as fleet,
        witness(fleet, book) as client,
    ):
        (device,) = fleet.devices
        auditor = Auditor(fleet, client.aggregator, book)
        await fleet.aggregator.start()
        await device.start(Failpoint.OUTBOX_WRITTEN)
        await fleet.aggregator.ready()
        await device.died()
        assert not device.events("update_accepted")
        await device.serve()
        await until(lambda: bool(device.events("update_accepted")))
        (found,) = device.events("outbox_found")
        assert device.events("update_accepted")[0]["update"] == found["update"]

        caller = client.caller
        await fleet.registry.kill()
        await fleet.registry.start(Failpoint.BEFORE_REGISTRY_SAVE)
        await fleet.registry.died()
        await fleet.registry.serve()
        await auditor.goes_on(["device-0"])
        await client.push(large=False)
        await auditor.audit()
        assert client.caller == caller
        # Once for each life: the registry's end was none of the device's business.
        assert len(device.events("joined")) == device.lives == 2


class Journalled:
    """Holds all but the first chunk of a push back until that has reached the journal."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._first = True

    async def take(self, _: int, /) -> None:
        """Send on, once it has."""
        if not self._first:
            await until(self._has_a_piece)
        self._first = False

    def _has_a_piece(self) -> bool:
        return any(isinstance(found.entry, Piece) for found in read_entries(self._folder, 1))


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what other processes do."""
    async with asyncio.timeout(LIMIT_S):
        while not condition():  # noqa: ASYNC110 -- processes set no events of ours
            await asyncio.sleep(0.05)
