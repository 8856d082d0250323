"""`hocket up`: the same three services, yours to keep; Ctrl-C stops all of them."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Console

from hocket.cli.dashboard import Dashboard, Lines, watch
from hocket.cli.fleet import demo_fleet, load_fleet
from hocket.cli.inspect import HomeOption
from hocket.cli.source import open_live
from hocket.cli.system import Plan, RunningSystem, running
from hocket.cli.where import home_folder
from hocket.core.records import Status
from hocket.errors import StartupError

T = TypeVar("T")
DEVICE_CHECK_S = 2.0

TaskOption = Annotated[
    Path | None, typer.Option("--task", help="Task file (default: digits, which needs no data).")
]
FleetOption = Annotated[
    Path | None, typer.Option("--fleet", help="Fleet file (default: six unequal devices).")
]


def up(
    task: TaskOption = None,
    fleet: FleetOption = None,
    home: HomeOption = None,
    registry_port: Annotated[int, typer.Option("--registry-port", min=1, max=65535)] = 50051,
    aggregator_port: Annotated[int, typer.Option("--aggregator-port", min=1, max=65535)] = 50052,
    *,
    until_done: Annotated[
        bool, typer.Option("--until-done", help="Stop by itself when the task has ended.")
    ] = False,
) -> None:
    """Start a registry, an aggregator and a fleet; Ctrl-C stops all of them."""
    plan = Plan(
        home=home_folder(home),
        task=task,
        fleet=load_fleet(fleet) if fleet else demo_fleet(),
        registry=f"127.0.0.1:{registry_port}",
        aggregator=f"127.0.0.1:{aggregator_port}",
    )
    check_task(task)
    console = Console()
    asyncio.run(_up(plan, console, until_done=until_done))
    console.print(f"stopped; the state is kept in {plan.home}", highlight=False)


def check_task(task: Path | None) -> None:
    """Say what is wrong with a task file before anything is started. Raises TaskError."""
    if task is not None:
        from hocket.task import load_task  # noqa: PLC0415 -- torch takes seconds

        load_task(task)


async def _up(plan: Plan, console: Console, *, until_done: bool) -> None:
    stopped = stop_signal()
    async with running(plan) as system:
        console.print(
            f"registry {plan.registry}, aggregator {plan.aggregator}, {len(plan.fleet)} devices; "
            f"state and logs in {plan.home}; Ctrl-C stops all of them",
            highlight=False,
        )

        def done(status: Status) -> bool:
            return until_done and bool(status.finished_reason)

        await until_stopped(show(system, console, done), system, console, stopped)


def stop_signal() -> asyncio.Event:
    """Set by Ctrl-C or SIGTERM."""
    stopped = asyncio.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signum, stopped.set)
    return stopped


async def show(system: RunningSystem, console: Console, done: Callable[[Status], bool]) -> Status:
    """Live progress until `done`."""
    async with open_live(system.system) as live:
        if console.is_terminal:
            with Dashboard(console) as dashboard:
                return await watch(live, dashboard, done)
        return await watch(live, Lines(console), done)


async def until_stopped(
    work: Awaitable[T], system: RunningSystem, console: Console, stopped: asyncio.Event
) -> T | None:
    """What `work` returns, or None if somebody stops it first.

    Raises StartupError with the last words of a service that ended by itself.
    """
    working = asyncio.ensure_future(work)
    stopping = asyncio.create_task(stopped.wait())
    failing = asyncio.create_task(system.failure())
    reporting = asyncio.create_task(_report_lost_devices(system, console))
    tasks = [working, stopping, failing, reporting]
    try:
        await asyncio.wait([working, stopping, failing], return_when=asyncio.FIRST_COMPLETED)
        if failing.done():
            raise StartupError(failing.result())
        return working.result() if working.done() else None
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _report_lost_devices(system: RunningSystem, console: Console) -> None:
    told: set[str] = set()
    while True:
        await asyncio.sleep(DEVICE_CHECK_S)
        for device in system.lost_devices():
            if device.service.name not in told:
                told.add(device.service.name)
                console.print(device.obituary(), style="red", highlight=False)
