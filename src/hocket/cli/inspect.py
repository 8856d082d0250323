"""`hocket status | devices | versions | lineage`: what a system knows, running or stopped."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from hocket.cli.output import (
    Format,
    FormatOption,
    in_bytes,
    in_rate,
    plain,
    print_json,
    print_table,
)
from hocket.cli.source import Source, open_source
from hocket.cli.where import System, find
from hocket.core.device import Device, DeviceFilter, DeviceState
from hocket.core.ids import DeviceId
from hocket.core.records import DeviceStatus, Status, UpdateRecord, VersionRecord
from hocket.core.update import Dropped
from hocket.errors import HocketError

T = TypeVar("T")

HomeOption = Annotated[
    Path | None,
    typer.Option("--home", help="Folder of the system (default: HOCKET_HOME, else .hocket)."),
]
RegistryOption = Annotated[
    str | None, typer.Option("--registry", help="host:port of a running registry.")
]
AggregatorOption = Annotated[
    str | None, typer.Option("--aggregator", help="host:port of a running aggregator.")
]
LimitOption = Annotated[int, typer.Option("--limit", min=1, help="Rows at most.")]


def status(
    home: HomeOption = None,
    registry: RegistryOption = None,
    aggregator: AggregatorOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Where the task stands, and what each device is doing."""
    system = find(home, registry, aggregator)
    found = ask(system, lambda source: source.status())
    if output is Format.JSON:
        print_json(found)
        return
    _print_status(found, is_up=system.is_up)


def devices(
    home: HomeOption = None,
    registry: RegistryOption = None,
    aggregator: AggregatorOption = None,
    *,
    alive: Annotated[bool, typer.Option("--alive", help="Only devices with a lease.")] = False,
    available: Annotated[
        bool, typer.Option("--available", help="Only devices willing to train now.")
    ] = False,
    output: FormatOption = Format.TABLE,
) -> None:
    """What each device can do, what its link carries, and at which size it trains and why."""
    states = frozenset({DeviceState.ALIVE}) if alive else frozenset()
    which = DeviceFilter(states=states, available_only=available)
    found, parts = ask(find(home, registry, aggregator), lambda source: _devices(source, which))
    if output is Format.JSON:
        print_json([plain(device) | _part(parts, device) for device in found])
        return
    columns = ["device", "state", "share", "step at 32", "up", "down", "rtt", "examples", "memory"]
    rows = [_device_row(device) for device in found]
    print_table(f"{len(found)} devices", columns, rows)
    if parts:
        sizes = [[d.device_id, *_size_row(**_part(parts, d))] for d in found]
        print_table("", ["device", "width", "why this size"], sizes)


def versions(
    home: HomeOption = None,
    registry: RegistryOption = None,
    aggregator: AggregatorOption = None,
    limit: LimitOption = 20,
    output: FormatOption = Format.TABLE,
) -> None:
    """Global models, newest first."""
    found = ask(find(home, registry, aggregator), lambda source: source.versions(limit))
    if output is Format.JSON:
        print_json(found)
        return
    columns = ["version", "parent", "updates", "accuracy", "loss", "digest", "created"]
    print_table(f"{len(found)} newest versions", columns, [_version_row(v) for v in found])


def lineage(
    version: Annotated[int, typer.Argument(min=0, help="Version; 0: the newest.")] = 0,
    home: HomeOption = None,
    registry: RegistryOption = None,
    aggregator: AggregatorOption = None,
    limit: LimitOption = 20,
    output: FormatOption = Format.TABLE,
) -> None:
    """The updates behind a version: devices, weights and staleness."""
    found = ask(find(home, registry, aggregator), lambda source: source.lineage(version, limit))
    if output is Format.JSON:
        print_json(found)
        return
    columns = ["update", "device", "base", "outcome", "weight", "tau", "codec", "bytes", "loss"]
    print_table(f"{len(found)} updates, newest first", columns, [_update_row(u) for u in found])


def ask(system: System, question: Callable[[Source], Awaitable[T]]) -> T:
    """Open the system's source, ask once, close it."""

    async def answer() -> T:
        async with open_source(system) as source:
            return await question(source)

    return asyncio.run(answer())


def _print_status(found: Status, *, is_up: bool) -> None:
    state = f"finished: {found.finished_reason}" if found.finished_reason else "in progress"
    evaluation = found.evaluation
    accuracy = f"{evaluation.test_accuracy:.4f}" if evaluation else "-"
    saved = found.bytes_dense_equivalent - found.bytes_pushed
    typer.echo(f"task       {found.task} ({state}{'' if is_up else '; stopped'})")
    typer.echo(f"strategy   {found.strategy}")
    typer.echo(f"version    {found.version}  digest {found.digest}")
    typer.echo(f"accuracy   {accuracy} at version {found.evaluated_version}")
    typer.echo(
        f"updates    {found.updates_accepted} accepted, {found.updates_rejected} rejected, "
        f"{in_bytes(found.bytes_pushed)} pushed, {in_bytes(saved)} saved"
    )
    columns = ["device", "phase", "for", "base", "accepted", "rejected", "tau", "weight", "pushed"]
    rows = [
        [
            member.device_id,
            member.phase.name.lower(),
            f"{member.in_phase_s:.1f} s",
            str(member.base_version or "-"),
            str(member.updates_accepted),
            str(member.updates_rejected),
            str(member.last_tau),
            f"{member.last_weight:.3f}",
            in_bytes(member.wire_bytes),
        ]
        for member in found.devices
    ]
    print_table("", columns, rows)


async def _devices(
    source: Source, which: DeviceFilter
) -> tuple[list[Device], dict[DeviceId, DeviceStatus]]:
    """The registry's devices, and each one's part in the task, as far as an aggregator tells."""
    found = await source.devices(which)
    try:
        status = await source.status()
    except HocketError:  # the registry knows devices without it
        return found, {}
    return found, {member.device_id: member for member in status.devices}


def _part(parts: Mapping[DeviceId, DeviceStatus], device: Device) -> dict[str, Any]:
    """The width at which it trained last, and why; none before its first training."""
    status = parts.get(device.device_id)
    if status is None or status.spec is None:
        return {"width": None, "why": ""}
    return {"width": max(status.spec.keep, default=1.0), "why": status.why}


def _size_row(width: float | None, why: str) -> list[str]:
    return ["-" if width is None else f"{width:g}", why]


def _device_row(device: Device) -> list[str]:
    capability, link = device.capability, device.link_to()
    line = capability.cost_at(1.0)
    state = device.state.name.lower()
    if device.state is DeviceState.ALIVE and not capability.available:
        state = "unwilling"
    return [
        device.device_id,
        state,
        f"{capability.processor_share:.2f}",
        f"{line.step_s(32) * 1e3:.1f} ms" if line else "-",
        in_rate(link.up_bytes_per_s),
        in_rate(link.down_bytes_per_s),
        f"{link.rtt_s * 1e3:.1f} ms" if link.rtt_s else "-",
        str(capability.num_examples),
        in_bytes(capability.memory_bytes) if capability.memory_bytes else "-",
    ]


def _version_row(record: VersionRecord) -> list[str]:
    evaluation = record.evaluation
    return [
        str(record.version),
        str(record.parent or "-"),
        str(len(record.update_ids)),
        f"{evaluation.test_accuracy:.4f}" if evaluation else "-",
        f"{evaluation.test_loss:.4f}" if evaluation else "-",
        record.digest,
        time.strftime("%m-%d %H:%M:%S", time.localtime(record.created_unix_s)),
    ]


def _update_row(record: UpdateRecord) -> list[str]:
    header, outcome = record.header, record.outcome
    if isinstance(outcome, Dropped):
        told, weight = f"dropped: {outcome.reason.name.lower()}", "-"
    else:
        told, weight = f"version {outcome.version}", f"{outcome.weight:.4f}"
    return [
        header.update_id,
        header.device_id,
        str(header.base_version),
        told,
        weight,
        str(outcome.tau),
        record.codec,
        in_bytes(record.wire_bytes),
        f"{header.train_loss:.4f}",
    ]
