"""What a case came to, as it is told: one flat record of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from hocket.cli.bench.cases import Case
from hocket.cli.bench.disk import Rate
from hocket.cli.bench.worker import JSON


@dataclass(frozen=True, slots=True)
class Recovered:
    """A start after kill -9 that came back with the very same model."""

    recovery_s: float  # from exec to the first answer
    start_s: float  # both services on empty folders: what of it is not recovery
    journalled_updates: int


NOTHING = Rate(0, 0.0)


@dataclass(frozen=True, slots=True)
class Limits:
    """What the machine carries without Hocket. Of the disk nothing where a case is not durable."""

    raw: Rate = NOTHING
    disk: Rate = NOTHING  # each update synced by itself
    disk_group: Rate = NOTHING  # as many at a time as there are streams
    disk_direct: Rate = NOTHING  # past the system's cache, where that can be done

    def __add__(self, other: Limits) -> Limits:
        """Both measurements, one after the other."""
        return Limits(
            self.raw + other.raw,
            self.disk + other.disk,
            self.disk_group + other.disk_group,
            self.disk_direct + other.disk_direct,
        )


@dataclass(frozen=True, slots=True)
class Measured:
    """Pushes, and the machine's limits measured in the same run. Rates are of bodies' bytes."""

    case: str
    model_bytes: int
    streams: int
    durable: bool
    codec: str
    strategy: str
    updates: int
    update_bytes: int  # an update's body as it travels
    updates_per_s: float
    bytes_per_s: float
    raw_bytes_per_s: float
    ratio_to_raw: float
    disk_bytes_per_s: float | None  # each update synced by itself
    ratio_to_limit: float | None  # to the smaller of raw and disk
    p50_ms: float
    p99_ms: float
    server_cpu_ms_per_update: float
    client_cpu_ms_per_update: float
    rss_peak_bytes: int
    rss_slope_bytes_per_update: float
    disk_group_bytes_per_s: float | None = None
    disk_direct_bytes_per_s: float | None = None
    recovery_s: float | None = None
    start_s: float | None = None
    journalled_updates: int | None = None

    @classmethod
    def of(cls, case: Case, told: JSON, limits: Limits, recovered: Recovered | None) -> Self:
        """Put together what the pusher told and what was measured beside it."""
        bytes_per_s = told["updates"] * told["wire_bytes"] / told["seconds"]
        raw, disk = limits.raw.bytes_per_s, limits.disk.bytes_per_s
        return cls(
            case=case.name,
            model_bytes=told["model_bytes"],
            streams=case.streams,
            durable=case.durable,
            codec=case.coding,
            strategy=case.strategy,
            updates=told["updates"],
            update_bytes=told["wire_bytes"],
            updates_per_s=told["updates"] / told["seconds"],
            bytes_per_s=bytes_per_s,
            raw_bytes_per_s=raw,
            ratio_to_raw=bytes_per_s / raw,
            disk_bytes_per_s=disk if case.durable else None,
            ratio_to_limit=bytes_per_s / min(raw, disk) if case.durable else None,
            p50_ms=told["p50_ms"],
            p99_ms=told["p99_ms"],
            server_cpu_ms_per_update=told["server_cpu_ms_per_update"],
            client_cpu_ms_per_update=told["client_cpu_ms_per_update"],
            rss_peak_bytes=told["rss_peak_bytes"],
            rss_slope_bytes_per_update=told["rss_slope_bytes_per_update"],
            disk_group_bytes_per_s=limits.disk_group.bytes_per_s if case.durable else None,
            disk_direct_bytes_per_s=limits.disk_direct.bytes_per_s or None,
            recovery_s=recovered.recovery_s if recovered else None,
            start_s=recovered.start_s if recovered else None,
            journalled_updates=recovered.journalled_updates if recovered else None,
        )


@dataclass(frozen=True, slots=True)
class Registered:
    """Memory of both services while devices join, least squares over the second half of them."""

    devices: int
    registry_rss_bytes: int
    registry_rss_slope_bytes_per_device: float
    aggregator_rss_bytes: int
    aggregator_rss_slope_bytes_per_device: float


@dataclass(frozen=True, slots=True)
class Failed:
    """A case that did not end as it must."""

    case: str
    error: str
