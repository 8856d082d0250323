"""What every store of the aggregator's records promises."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hocket_aggregator.metadata import queries
from hocket_aggregator.metadata.store import Batch, Identity, Store
from support.databases import KINDS, database_of

from hocket.core.ids import DeviceId, Incarnation, UpdateId, Version
from hocket.core.records import (
    DevicePhase,
    DeviceStatus,
    Evaluation,
    Status,
    UpdateRecord,
    VersionRecord,
)
from hocket.core.submodel import ChannelRule, SubmodelSpec
from hocket.core.update import (
    Applied,
    Buffered,
    Dropped,
    DropReason,
    Outcome,
    RefreshReport,
    UpdateHeader,
)
from hocket.errors import StartupError

MINE = Identity("digits", "0123456789abcdef")


class Place:
    """A folder and a database in which stores are opened one after the other."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url

    @asynccontextmanager
    async def opened(self, identity: Identity = MINE) -> AsyncIterator[Store]:
        store = await Store.open(self.folder, identity, self.url)
        try:
            yield store
        finally:
            await store.close()


@pytest.fixture(params=KINDS)
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    async with database_of(request.param) as url:
        yield Place(tmp_path, url)


@pytest.fixture
async def store(place: Place) -> AsyncIterator[Store]:
    async with place.opened() as opened:
        yield opened


def version(number: int, *update_ids: str) -> VersionRecord:
    return VersionRecord(
        Version(number), Version(number - 1), f"{number:016x}", 1.7e9 + number, update_ids
    )


def update(name: str, outcome: Outcome, device: str = "a", wire_bytes: int = 10) -> UpdateRecord:
    header = UpdateHeader(
        update_id=UpdateId(name),
        device_id=DeviceId(device),
        incarnation=Incarnation(2**40),
        base_version=Version(1),
        num_examples=60,
        num_steps=12,
        learning_rate=0.05,
        train_loss=0.25,
        train_loss_rms=0.375,
        train_s=1.5,
        spec=SubmodelSpec((0.5, 1.0), ChannelRule.RANDOM, 2**62),
        refresh=RefreshReport(2, Version(1), -0.125),
        labels=(0, 2, 7),
    )
    return UpdateRecord(header, outcome, wire_bytes, 40, "topk", 1.7e9 + 0.5)


def applied(number: int, weight: float = 0.5, tau: int = 1) -> Applied:
    return Applied(Version(number), weight, tau)


DROPPED = Dropped(DropReason.TOO_STALE, "pull anew", 9)
STATUS = Status(
    task="digits",
    strategy="fedasync",
    version=Version(3),
    digest="3" * 16,
    finished_reason="",
    uptime_s=12.5,
    first_version_s=0.5,
    updates_accepted=2,
    updates_rejected=4,
    bytes_pushed=30,
    bytes_dense_equivalent=80,
    bytes_pulled=7,
    evaluated_version=Version(2),
    evaluation=Evaluation(0.5, 0.75),
    devices=(
        DeviceStatus(
            DeviceId("a"),
            DevicePhase.AWAY,
            Version(0),
            updates_accepted=1,
            updates_rejected=3,
            spec=SubmodelSpec((0.5,)),
            why="1/2: slow",
        ),
        DeviceStatus(DeviceId("quiet"), DevicePhase.AWAY, Version(0), updates_rejected=1),
    ),
)


async def filled(store: Store) -> None:
    """Versions 1 to 4; u2 made 2, u3 and u4 made 3, u6 is part of 4, u5 was dropped."""
    await store.save(
        Batch(
            [version(1), version(2, "u2"), version(3, "u3", "u4")],
            [
                update("u2", applied(2)),
                update("u3", Buffered(Version(3), 0.5, 0, fill=1, goal=2), "b", 20),
                update("u4", applied(3, 0.25, tau=2), "b", 30),
                update("u5", DROPPED, "b", 1000),
            ],
            {Version(2): Evaluation(0.5, 0.75)},
        )
    )
    await store.save(Batch([version(4, "u6")], [update("u6", applied(4, 0.125, tau=3))]))


async def update_ids(store: Store, number: int) -> list[str]:
    found, _ = await store.read(queries.lineage, Version(number), None, 100)
    return [record.header.update_id for record in found]


async def test_records_come_back_as_they_were_saved(store: Store) -> None:
    saved = [update("u2", applied(2)), update("u3", Buffered(Version(2), 0.5, 1, 1, 3))]
    await store.save(Batch([version(2, "u2")], saved))
    assert await store.read(queries.version_record, 2) == version(2, "u2")
    found, following = await store.read(queries.lineage, Version(2), None, 10)
    assert found == saved[::-1]
    assert following is None


async def test_a_new_store_knows_nothing(store: Store) -> None:
    assert await store.newest_version() == 0
    assert await store.newest_evaluation() is None
    assert await store.status() is None
    assert await store.tallies() == {}
    assert len(await store.ledger()) == 0
    assert await store.read(queries.version_record, 0) is None
    assert await store.forget_after(Version(0)) == (0, 0)


async def test_what_was_saved_is_there_for_the_next_process(place: Place) -> None:
    async with place.opened() as first:
        await filled(first)
        await first.save(Batch(), STATUS)
    async with place.opened() as second:
        assert await second.newest_version() == 4
        assert await update_ids(second, 4) == ["u6", "u4", "u3", "u2"]
        assert await second.status() == STATUS


async def test_saving_again_changes_nothing(store: Store) -> None:
    await filled(store)
    await store.save(
        Batch(
            [replace(version(2), digest="f" * 16), version(5)],
            [update("u2", DROPPED, "thief"), update("u7", applied(5))],
        )
    )
    known = await store.read(queries.version_record, 2)
    assert known == replace(version(2, "u2"), evaluation=Evaluation(0.5, 0.75))
    assert await update_ids(store, 9) == ["u7", "u6", "u4", "u3", "u2"]
    ledger = await store.ledger()
    assert ledger.outcome(UpdateId("u2"), DeviceId("a")) == applied(2)
    assert len(ledger) == 6


async def test_a_later_evaluation_takes_the_earlier_ones_place(store: Store) -> None:
    await filled(store)
    assert await store.newest_evaluation() == (2, Evaluation(0.5, 0.75))
    await store.save(Batch(evaluations={Version(2): Evaluation(0.25, 0.875)}))
    assert await store.newest_evaluation() == (2, Evaluation(0.25, 0.875))
    await store.save(Batch(evaluations={Version(4): Evaluation(0.5, 0.5)}))
    assert await store.newest_evaluation() == (4, Evaluation(0.5, 0.5))


async def test_versions_are_read_in_pages_both_ways(store: Store) -> None:
    await filled(store)

    async def numbers(query: object, start: int | None, limit: int) -> list[int]:
        assert callable(query)
        return [record.version for record in await store.read(query, start, limit)]

    assert await numbers(queries.versions_below, None, 2) == [4, 3]
    assert await numbers(queries.versions_below, 3, 9) == [2, 1]
    assert await numbers(queries.versions_after, 0, 3) == [1, 2, 3]
    assert await numbers(queries.versions_after, 3, 3) == [4]
    newest = await store.read(queries.version_record, 0)
    assert newest == version(4, "u6")


async def test_a_lineage_is_read_in_pages(store: Store) -> None:
    await filled(store)
    page, following = await store.read(queries.lineage, Version(3), None, 2)
    assert [record.header.update_id for record in page] == ["u4", "u3"]
    page, following = await store.read(queries.lineage, Version(3), following, 2)
    assert [record.header.update_id for record in page] == ["u2"]
    assert following is None


async def test_the_ledger_holds_the_newest_outcomes(store: Store) -> None:
    await filled(store)
    whole = await store.ledger()
    assert whole.outcome(UpdateId("u5"), DeviceId("b")) == DROPPED
    newest = await store.read(queries.ledger, 0, 2)
    assert len(newest) == 2
    assert newest.outcome(UpdateId("u6"), DeviceId("a")) == applied(4, 0.125, tau=3)
    assert newest.outcome(UpdateId("u4"), DeviceId("b")) is None


async def test_tallies_add_up_each_devices_updates(store: Store) -> None:
    """a: u2 (10 bytes), u6 (10); b: u3 (20), u4 (30), and u5 dropped. Each is 40 bytes dense."""
    await filled(store)
    await store.save(Batch(), STATUS)  # three of a's updates were refused, and one of quiet's

    away = DevicePhase.AWAY
    assert await store.tallies() == {
        "a": DeviceStatus(DeviceId("a"), away, Version(0), 2, 3, 20, 80, 0.25, 0.125, 3),
        "b": DeviceStatus(DeviceId("b"), away, Version(0), 2, 1, 50, 80, 0.25, 0.25, 2),
        "quiet": DeviceStatus(DeviceId("quiet"), away, Version(0), updates_rejected=1),
    }


async def test_what_came_after_a_version_can_be_forgotten(store: Store) -> None:
    await filled(store)
    assert await store.forget_after(Version(2)) == (2, 3)
    assert await store.newest_version() == 2
    ledger = await store.ledger()
    assert ledger.outcome(UpdateId("u4"), DeviceId("b")) is None
    assert ledger.outcome(UpdateId("u5"), DeviceId("b")) == DROPPED  # is part of no version
    await store.save(Batch([version(3, "u9")], [update("u4", applied(3))]))
    assert await update_ids(store, 3) == ["u4", "u2"]


async def test_the_latest_status_is_kept_with_every_device_away(store: Store) -> None:
    training = replace(STATUS.devices[0], phase=DevicePhase.TRAINING, base_version=Version(3))
    await store.save(Batch(), replace(STATUS, version=Version(2), devices=()))
    await store.save(Batch(), replace(STATUS, devices=(training, STATUS.devices[1])))
    assert await store.status() == STATUS
    await store.save(Batch([version(1)]))  # without one: it stays
    assert await store.status() == STATUS


@pytest.mark.parametrize("other", [replace(MINE, task="x"), replace(MINE, manifest_digest="f")])
async def test_another_task_or_model_is_refused(place: Place, other: Identity) -> None:
    async with place.opened():
        pass
    with pytest.raises(StartupError, match="holds versions of task 'digits'"):
        async with place.opened(other):
            pass
    async with place.opened():
        pass


async def test_two_processes_do_not_share_a_database(place: Place, tmp_path: Path) -> None:
    async with place.opened():
        beside = Place(tmp_path / "other" if place.url else place.folder, place.url)
        with pytest.raises(StartupError, match="another aggregator uses"):
            async with beside.opened():
                pass
