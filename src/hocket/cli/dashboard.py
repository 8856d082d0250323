"""Live progress of a running system, for a person to watch."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
FRAME = 6  # of the panel around it
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
        width = self._screen.console.width
        body = Group(self._headline(status, width), Text(), _fleet(status, devices, width))
        title = f"[bold]hocket[/] · {status.task} · {status.strategy}"
        return Panel(body, title=title, title_align="left", border_style="blue")

    def _headline(self, status: Status, width: int) -> Text:
        accuracy = f"{status.evaluation.test_accuracy:.2%}" if status.evaluation else "-"
        dense = status.bytes_dense_equivalent
        saved = (dense - status.bytes_pushed) / dense if dense else 0.0
        rejected = f" ({status.updates_rejected} rejected)" if status.updates_rejected else ""
        line = Text.assemble(
            "version ",
            (str(status.version), "bold"),
            "   accuracy ",
            (accuracy, "bold green"),
            f"   {status.updates_accepted} updates",
            (rejected, "red"),
            f"   saved {saved:.0%} of {in_bytes(dense)}   {status.uptime_s:.0f} s   ",
        )
        room = width - line.cell_len - FRAME
        return line.append(curve(self._accuracies, room), "green") if room > 1 else line


class Lines:
    """A line now and then, where no screen can be drawn: in files and in CI."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._next = 0.0
        self._version = -1
        self._finished = False

    def show(self, status: Status, devices: Sequence[Device]) -> None:
        """Print a line if it is time for one."""
        if self._finished:
            return
        self._finished = bool(status.finished_reason)
        now = time.monotonic()
        first = self._version < 2 <= status.version
        if now < self._next and not first and not self._finished:
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
        if self._finished:
            ended = f"the task has ended: {status.finished_reason}"
            self._console.print(ended, highlight=False, soft_wrap=True)


def curve(values: Sequence[float], points: int) -> str:
    """Values in [0, 1] as a row of at most so many bars, evenly taken from all of them."""
    if len(values) > points:
        last = len(values) - 1
        values = [values[round(at * last / (points - 1))] for at in range(points)]
    return "".join(BARS[min(len(BARS) - 1, int(value * len(BARS)))] for value in values)


@dataclass(frozen=True, slots=True)
class _Column:
    """One column of the fleet's table; what matters least is left out of a narrow screen first."""

    title: str
    cell: Callable[[DeviceStatus, Device | None], RenderableType]
    needs_columns: int = 0  # width of the screen from which on it is shown


def _fleet(status: Status, devices: Sequence[Device], width: int) -> Table:
    known = {device.device_id: device for device in devices}
    shown = [column for column in COLUMNS if width >= column.needs_columns]
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in shown:
        text = column.title in ("device", "now", "saved")
        table.add_column(column.title, justify="left" if text else "right", no_wrap=True)
    for member in status.devices:
        device = known.get(member.device_id)
        table.add_row(*(column.cell(member, device) for column in shown))
    return table


def _phase(member: DeviceStatus, _: Device | None) -> RenderableType:
    name, style = PHASES[member.phase]
    return Text(f"{name} {member.in_phase_s:.0f} s", style=style)


def _share(_: DeviceStatus, device: Device | None) -> RenderableType:
    return f"{device.capability.processor_share:.0%}" if device else "-"


def _up(_: DeviceStatus, device: Device | None) -> RenderableType:
    return in_rate(device.link_to().up_bytes_per_s) if device else "-"


def _down(_: DeviceStatus, device: Device | None) -> RenderableType:
    return in_rate(device.link_to().down_bytes_per_s) if device else "-"


def _saved(member: DeviceStatus, _: Device | None) -> RenderableType:
    saved = 1.0 - member.wire_bytes / member.dense_bytes if member.dense_bytes else 0.0
    return Text("█" * round(10 * saved), style="green") + Text(f" {saved:.0%}", style="dim")


def _once_accepted(show: Callable[[DeviceStatus], str]) -> Callable[..., RenderableType]:
    """A cell that means nothing before the device's first update."""
    return lambda member, _: show(member) if member.updates_accepted else "-"


COLUMNS = (
    _Column("device", lambda member, _: member.device_id),
    _Column("now", _phase),
    _Column("share", _share, 90),
    _Column("up", _up, 100),
    _Column("down", _down, 116),
    _Column("base", lambda member, _: str(member.base_version or "-"), 124),
    _Column("stale", _once_accepted(lambda member: str(member.last_tau))),
    _Column("weight", _once_accepted(lambda member: f"{member.last_weight:.3f}")),
    _Column("loss", _once_accepted(lambda member: f"{member.last_train_loss:.3f}"), 132),
    _Column("updates", lambda member, _: str(member.updates_accepted)),
    _Column("sent", lambda member, _: in_bytes(member.wire_bytes), 84),
    _Column("saved", _saved),
)
