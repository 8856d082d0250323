"""What the aggregator tells those who ask: versions, lineage and status, over real gRPC."""

from __future__ import annotations

from contextlib import aclosing

from support.aggregating import Running, header

from hocket.core.ids import Version
from hocket.core.update import Applied, RefreshReport
from hocket.v1 import aggregator_pb2 as pb


async def test_the_terms_of_the_task_reach_the_devices(running: Running) -> None:
    terms = await running.client.get_task()
    assert terms == running.setup.terms
    assert terms.manifest.size == 64 * 12 + 12 + 12 * 10 + 10


async def test_versions_are_watched_as_they_come_and_once_more_when_judged(
    running: Running,
) -> None:
    async with aclosing(running.client.watch_versions(after_version=1)) as watch:
        await running.push_from("a", 1)
        made = await anext(watch)
        assert (made.version, made.parent, made.update_ids) == (2, 1, ("a-from-1",))
        while made.evaluation is None:
            made = await anext(watch)
        assert made.version == 2
        assert 0.0 <= made.evaluation.test_accuracy <= 1.0
    status = await running.status()
    assert status.evaluated_version == 2
    assert status.evaluation == made.evaluation


async def test_a_late_watcher_gets_what_came_before(running: Running) -> None:
    await running.push_from("a", 1)
    await running.push_from("b", 2)
    seen = []
    async with aclosing(running.client.watch_versions()) as watch:
        async for record in watch:
            seen.append(record.version)
            if len(set(seen)) == 3:
                break
    assert sorted(set(seen)) == [1, 2, 3]


async def test_lineage_names_the_updates_behind_a_version(running: Running) -> None:
    refresh = RefreshReport(slot=1, version=Version(1), reward=0.25)
    await running.push_from("a", 1, refresh=refresh)
    await running.push_from("b", 2)
    await running.push_from("c", 3)
    updates = [update async for update in running.client.get_lineage(3)]
    assert [u.header.update_id for u in updates] == ["b-from-2", "a-from-1"]
    assert updates[1].header == header("a", refresh=refresh)
    assert updates[1].outcome == Applied(Version(2), 0.5, 0)
    assert updates[1].codec == "raw"
    assert updates[1].wire_bytes == updates[1].dense_bytes == running.manifest.dense_bytes


async def test_pages_of_versions_and_updates_join_without_gaps(running: Running) -> None:
    for base in range(1, 6):
        await running.push_from("a", base)
    versions, updates, token = [], [], ""
    while True:
        page = await running.stub.ListVersions(
            pb.ListVersionsRequest(page_size=2, page_token=token)
        )
        versions += [v.version for v in page.versions]
        token = page.next_page_token
        if not token:
            break
    while True:
        lineage = await running.stub.GetLineage(
            pb.GetLineageRequest(version=5, page_size=2, page_token=token)
        )
        updates += [u.base_version for u in lineage.updates]
        token = lineage.next_page_token
        if not token:
            break
    assert versions == [6, 5, 4, 3, 2, 1]
    assert updates == [4, 3, 2, 1]


async def test_status_counts_bytes_and_devices(running: Running) -> None:
    await running.push_from("a", 1)
    await running.push_from("b", 2)
    status = await running.status()
    assert (status.task, status.strategy, status.version) == ("tiny", "fedasmu", 3)
    assert status.bytes_dense_equivalent == 2 * running.manifest.dense_bytes
    assert status.bytes_pushed == 2 * running.manifest.dense_bytes  # they were pushed raw
    assert [d.device_id for d in status.devices] == ["a", "b", "c", "d"]
    assert [d.updates_accepted for d in status.devices] == [1, 1, 0, 0]
    assert status.devices[0].last_weight == 0.5
