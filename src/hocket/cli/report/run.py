"""A finished run, as the system remembers it."""

from __future__ import annotations

from dataclasses import dataclass

from hocket.cli.source import Source
from hocket.core.device import Device
from hocket.core.ids import FIRST_VERSION
from hocket.core.records import Status, UpdateRecord, VersionRecord

EVERYTHING = 1_000_000


@dataclass(frozen=True, slots=True)
class RunData:
    """Everything that a report shows. Versions and updates are oldest first."""

    status: Status
    devices: list[Device]
    versions: list[VersionRecord]
    updates: list[UpdateRecord]
    started_unix_s: float  # when the first service was started
    wall_s: float  # from then to the end of the task
    command: str
    seed: int

    @property
    def first_version_s(self) -> float:
        """Seconds from the start of the services to the first aggregated version; 0: none."""
        made = [r.created_unix_s for r in self.versions if r.version > FIRST_VERSION]
        return made[0] - self.started_unix_s if made else 0.0


async def collect(
    source: Source, *, started_unix_s: float, wall_s: float, command: str, seed: int
) -> RunData:
    """Ask a system for all that it remembers."""
    status = await source.status()
    versions = await source.versions(EVERYTHING)
    updates = await source.lineage(0, EVERYTHING)
    return RunData(
        status=status,
        devices=await source.devices(),
        versions=sorted(versions, key=lambda record: record.version),
        updates=sorted(updates, key=lambda record: record.received_unix_s),
        started_unix_s=started_unix_s,
        wall_s=wall_s,
        command=command,
        seed=seed,
    )
