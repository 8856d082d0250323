"""Whether all that was promised is so: the lineage, the versions, the digests, the replay."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from hocket_aggregator.recovery.replay import replay
from support.book import Book
from support.crash_fleet import CrashFleet

from hocket.core.ids import Version
from hocket.core.records import UpdateRecord, VersionRecord
from hocket.core.update import Dropped, Outcome
from hocket.errors import HocketError, NotFound, Overloaded, Unavailable
from hocket.learn.digest import digest_of
from hocket.rpc.aggregator_client import AggregatorClient

AUDIT_S = 120.0
AGAIN_S = 0.1
HOCKET = [sys.executable, "-c", "from hocket.cli import main; main()"]


@dataclass(frozen=True, slots=True)
class Audit:
    """What was there to see, and was as it must be."""

    versions: list[VersionRecord]  # rising
    updates: list[UpdateRecord]  # accepted ones


class Auditor:
    """Checks a fleet against a book. Every method raises AssertionError for what must not be."""

    def __init__(self, fleet: CrashFleet, client: AggregatorClient, book: Book) -> None:
        self._fleet = fleet
        self._client = client
        self._book = book

    async def audit(self) -> Audit:
        """Everything, once the aggregator has come as far as was promised."""
        async with asyncio.timeout(AUDIT_S):
            while True:
                try:
                    return await self._audit()
                except (Unavailable, Overloaded):  # it was killed meanwhile: begin anew
                    await asyncio.sleep(AGAIN_S)

    async def _audit(self) -> Audit:
        promises = dict(self._book.promises)
        devices = self._accepted_by_devices()
        promised = max([self._book.newest, *(line["version"] for line in devices)])
        newest = await self._recorded(promised)
        found = await self._seen(newest)
        records = {record.header.update_id: record for record in found.updates}
        # Counted before they are judged, so that the table tells of a failure, too.
        lost = [i for i, p in promises.items() if i not in records and _is_used(p.outcome)]
        self._book.counts["lost"] = len(lost)
        self._book.counts["applied twice"] = len(found.updates) - len(records)
        assert not lost, f"acknowledged, and lost: {lost}"
        check_versions(found)
        check_lineage(found)
        for update_id, promise in promises.items():
            if _is_used(promise.outcome):
                record = records[update_id]
                assert record.outcome == promise.outcome, (record.outcome, promise.outcome)
        for line in devices:
            assert line["update"] in records, f"a device was promised what is lost: {line}"
            accepted = records[line["update"]].outcome
            assert not isinstance(accepted, Dropped)
            assert (accepted.version, accepted.tau) == (line["version"], line["tau"]), line
        await self._check_digests(found)
        self._book.counts["audits"] += 1
        self._book.counts["device updates in lineage"] = len(devices)
        return found

    async def _recorded(self, promised: int) -> Version:
        """The newest version on record, once it is as new as was promised and as the model is."""
        while True:
            newest = (await self._client.get_status()).version
            async for record in self._client.list_versions():
                if record.version >= max(promised, newest):
                    return record.version
                break
            await asyncio.sleep(AGAIN_S)

    async def _seen(self, newest: Version) -> Audit:
        versions = [v async for v in self._client.list_versions() if v.version <= newest]
        updates = [u async for u in self._client.get_lineage(newest)]
        return Audit(versions[::-1], updates)

    async def _check_digests(self, found: Audit) -> None:
        """Of the bytes that are served, of the record, and of what replay rebuilds."""
        pulled = await self._client.pull(None, limit_bytes=self._fleet.manifest.dense_bytes)
        assert pulled is not None
        served = digest_of(torch.frombuffer(bytearray(pulled.payload.body), dtype=torch.float32))
        recorded = {version.version: version.digest for version in found.versions}
        if pulled.version not in recorded:
            await self._recorded(pulled.version)
            seen = await self._seen(pulled.version)
            recorded = {version.version: version.digest for version in seen.versions}
        assert served == recorded[pulled.version], pulled.version
        assert await self._replayed(pulled.version) == served, pulled.version
        self._book.counts["replays equal"] += 1
        older = Version(max(1, pulled.version - 5))
        try:
            assert await self._replayed(older) == recorded[older], older
            self._book.counts["older replays equal"] += 1
        except NotFound:  # no snapshot before it is left
            self._book.counts["older versions let go"] += 1

    async def _replayed(self, version: Version) -> str:
        return (await replay(self._fleet.setup, self._fleet.data_dir, version)).digest

    def _accepted_by_devices(self) -> list[dict[str, Any]]:
        """Distinct updates whose acknowledgement the devices have logged."""
        lines: dict[str, dict[str, Any]] = {}
        for device in self._fleet.devices:
            for line in device.events("update_accepted"):
                before = lines.setdefault(line["update"], line)
                assert before["version"] == line["version"], (before, line)
        return list(lines.values())

    async def _standing(self) -> tuple[int, Counter[str]]:
        """The newest version, and how many updates of each device were accepted."""
        while True:
            try:
                status = await self._client.get_status()
            except (Unavailable, Overloaded):
                await asyncio.sleep(AGAIN_S)
                continue
            return status.version, Counter(
                {str(d.device_id): d.updates_accepted for d in status.devices}
            )

    async def goes_on(self, names: list[str], versions: int = 3) -> None:
        """Wait until there are so many new versions, and something new of each device."""
        first, before = await self._standing()
        async with asyncio.timeout(AUDIT_S):
            while True:
                version, counts = await self._standing()
                missing = [name for name in names if counts[name] <= before[name]]
                if version >= first + versions and not missing:
                    return
                await asyncio.sleep(AGAIN_S)

    async def replay_by_command(self, version: int = 0) -> dict[str, Any]:
        """What `hocket replay` says of the folder. Raises HocketError where it failed."""
        arguments = ["replay", "--data-dir", str(self._fleet.data_dir), "--format", "json"]
        process = await asyncio.create_subprocess_exec(
            *HOCKET,
            *arguments,
            *("--version", str(version)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        if process.returncode:
            raise HocketError(err.decode())
        said: dict[str, Any] = json.loads(out)
        return said


def _is_used(outcome: Outcome) -> bool:
    return not isinstance(outcome, Dropped)


def check_versions(found: Audit) -> None:
    """Strictly one by one, each the child of the one before."""
    numbers = [version.version for version in found.versions]
    assert numbers == list(range(1, len(numbers) + 1)), numbers
    for version in found.versions[1:]:
        assert version.parent == version.version - 1, version


def check_lineage(found: Audit) -> None:
    """No update twice; the versions divide the accepted updates among themselves."""
    twice = [i for i, n in Counter(u.header.update_id for u in found.updates).items() if n > 1]
    assert not twice, f"applied twice: {twice}"
    by_version: dict[int, set[str]] = {}
    for update in found.updates:
        assert not isinstance(update.outcome, Dropped)
        by_version.setdefault(update.outcome.version, set()).add(update.header.update_id)
    for version in found.versions[1:]:
        listed = version.update_ids
        assert len(set(listed)) == len(listed), version
        assert set(listed) == by_version.pop(version.version, set()), version
    assert not by_version, f"of no version: {by_version}"
