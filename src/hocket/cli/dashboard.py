"""Live progress of a running system, for a person to watch."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live as Screen
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from hocket.cli.output import in_bytes, in_rate
from hocket.cli.source import Live
from hocket.core.device import Device
from hocket.core.records import DevicePhase, DeviceStatus, Status
from hocket.errors import Unavailable

REFRESH_S = 0.5
LINE_EVERY_S = 5.0
BARS = "▁▂▃▄▅▆▇█"
CURVE_POINTS = 48
PHASES = {
    DevicePhase.AWAY: ("away", "dim"),
    DevicePhase.IDLE: ("idle", "white"),
    DevicePhase.TRAINING: ("training", "bold green"),
    DevicePhase.PUSHING: ("pushing", "bold cyan"),
}


class View(Protocol):
    """Shows one state of the system after the other."""

    def show(self, status: Status, devices: Sequence[Device]) -> None:
        """Show this state."""
        ...


async def watch(live: Live, view: View, done: Callable[[Status], bool]) -> Status:
    """Show the system until `done` says so; returns the last status."""
    while True:
        try:
            status = await live.status()
            view.show(status, await live.devices())
            if done(status):
                return status
        except Unavailable:
            pass  # it is starting, or stopping: whoever started it knows which
        await asyncio.sleep(REFRESH_S)


class Dashboard:
    """A screen that is drawn anew, for terminals. Use it as a context manager."""

    def __init__(self, console: Console) -> None:
        self._screen = Screen(console=console, auto_refresh=False, transient=False)
        self._accuracies: list[float] = []
        self._seen_version = 0

    def __enter__(self) -> Self:
        self._screen.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._screen.stop()

    def show(self, status: Status, devices: Sequence[Device]) -> None:
        """Draw it."""
        if status.evaluation and status.evaluated_version != self._seen_version:
            self._seen_version = status.evaluated_version
            self._accuracies.append(status.evaluation.test_accuracy)
        self._screen.update(self._draw(status, devices), refresh=True)

    def _draw(self, status: Status, devices: Sequence[Device]) -> RenderableType:
        body = Group(self._headline(status), Text(), _fleet(status, devices))
        title = f"[bold]hocket[/] · {status.task} · {status.strategy}"
        return Panel(body, title=title, title_align="left", border_style="blue")

    def _headline(self, status: Status) -> Table:
        accuracy = f"{status.evaluation.test_accuracy:.2%}" if status.evaluation else "-"
        saved = status.bytes_dense_equivalent - status.bytes_pushed
        share = saved / status.bytes_dense_equivalent if status.bytes_dense_equivalent else 0.0
        table = Table.grid(padding=(0, 3))
        table.add_row(
            f"version [bold]{status.version}[/]",
            f"accuracy [bold green]{accuracy}[/] [green]{curve(self._accuracies)}[/]",
            f"updates [bold]{status.updates_accepted}[/]"
            + (f" [red]({status.updates_rejected} rejected)[/]" if status.updates_rejected else ""),
            f"saved [bold]{in_bytes(saved)}[/] of {in_bytes(status.bytes_dense_equivalent)} "
            f"({share:.0%})",
            f"{status.uptime_s:.0f} s",
        )
        return table


class Lines:
    """A line now and then, where no screen can be drawn: in files and in CI."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._next = 0.0
        self._version = -1

    def show(self, status: Status, devices: Sequence[Device]) -> None:
        """Print a line if it is time for one."""
        now = time.monotonic()
        first = self._version < 2 <= status.version
        if now < self._next and not first:
            return
        self._next, self._version = now + LINE_EVERY_S, status.version
        accuracy = f"{status.evaluation.test_accuracy:.4f}" if status.evaluation else "-"
        training = [m.device_id for m in status.devices if m.phase is DevicePhase.TRAINING]
        tau = max((member.last_tau for member in status.devices), default=0)
        saved = status.bytes_dense_equivalent - status.bytes_pushed
        self._console.print(
            f"{status.uptime_s:6.1f} s  version {status.version:4d}  accuracy {accuracy}  "
            f"staleness up to {tau}  saved {in_bytes(saved)}  "
            f"{len(devices)} devices, training: {', '.join(training) or 'none'}",
            highlight=False,
            soft_wrap=True,
        )


def curve(values: Sequence[float], points: int = CURVE_POINTS) -> str:
    """Values in [0, 1] as a row of at most so many bars, evenly taken from all of them."""
    if len(values) > points:
        last = len(values) - 1
        values = [values[round(at * last / (points - 1))] for at in range(points)]
    return "".join(BARS[min(len(BARS) - 1, int(value * len(BARS)))] for value in values)


def _fleet(status: Status, devices: Sequence[Device]) -> Table:
    known = {device.device_id: device for device in devices}
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("device")
    table.add_column("now")
    for column in ("share", "up", "down", "base", "stale", "weight", "loss", "updates", "sent"):
        table.add_column(column, justify="right")
    table.add_column("saved")
    for member in status.devices:
        table.add_row(*_fleet_row(member, known.get(member.device_id)))
    return table


def _fleet_row(member: DeviceStatus, device: Device | None) -> list[RenderableType]:
    name, style = PHASES[member.phase]
    share = f"{device.capability.processor_share:.0%}" if device else "-"
    link = device.link_to() if device else None
    saved = 1.0 - member.wire_bytes / member.dense_bytes if member.dense_bytes else 0.0
    return [
        member.device_id,
        Text(f"{name} {member.in_phase_s:.0f} s", style=style),
        share,
        in_rate(link.up_bytes_per_s) if link else "-",
        in_rate(link.down_bytes_per_s) if link else "-",
        str(member.base_version or "-"),
        str(member.last_tau) if member.updates_accepted else "-",
        f"{member.last_weight:.3f}" if member.updates_accepted else "-",
        f"{member.last_train_loss:.3f}" if member.updates_accepted else "-",
        str(member.updates_accepted),
        in_bytes(member.wire_bytes),
        Text("█" * round(10 * saved), style="green") + Text(f" {saved:.0%}", style="dim"),
    ]
