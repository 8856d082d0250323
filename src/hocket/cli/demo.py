"""`hocket demo`: six unequal devices train one model, and a report is left behind."""

from __future__ import annotations

import asyncio
import shlex
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from hocket.cli.fleet import demo_fleet, load_fleet
from hocket.cli.output import in_bytes, print_table
from hocket.cli.report import RunData, collect, summarise, write_report
from hocket.cli.source import open_live
from hocket.cli.system import Plan, RunningSystem, free_port, running
from hocket.cli.up import FleetOption, TaskOption, check_task, show, stop_signal, until_stopped
from hocket.core.records import Status
from hocket.errors import HocketError

LAST_EVALUATION_S = 20.0


def demo(
    task: TaskOption = None,
    fleet: FleetOption = None,
    runs: Annotated[Path, typer.Option("--runs", help="Folder for the run's files.")] = Path(
        "runs"
    ),
) -> None:
    """Run a task from start to end on a fleet of this machine, then write a report."""
    check_task(task)
    folder = runs / time.strftime("%Y%m%d-%H%M%S")
    plan = Plan(
        home=folder / "system",
        task=task,
        fleet=load_fleet(fleet) if fleet else demo_fleet(),
        registry=f"127.0.0.1:{free_port()}",
        aggregator=f"127.0.0.1:{free_port()}",
    )
    console = Console()
    run = asyncio.run(_run(plan, console))
    if run is None:
        console.print("stopped before the task had ended: no report")
        raise typer.Exit(130)
    from hocket.sim.run_folder import point_latest  # noqa: PLC0415 -- torch takes seconds

    write_report(run, folder)
    point_latest(runs, folder.name)
    _print_summary(summarise(run), runs / "latest")


async def _run(plan: Plan, console: Console) -> RunData | None:
    stopped = stop_signal()
    console.print(f"starting a registry, an aggregator and {len(plan.fleet)} devices")
    async with running(plan) as system:
        return await until_stopped(_watch_to_the_end(system, console), system, console, stopped)


async def _watch_to_the_end(system: RunningSystem, console: Console) -> RunData:
    status = await show(system, console, lambda status: bool(status.finished_reason))
    wall_s = time.time() - system.started_unix_s
    async with open_live(system.system) as live:
        deadline = time.monotonic() + LAST_EVALUATION_S
        while not _is_evaluated(status) and time.monotonic() < deadline:
            await asyncio.sleep(0.1)
            status = await live.status()
        command = shlex.join(["hocket", *sys.argv[1:]])
        seed = (await live.aggregator.get_task()).seed
        return await collect(
            live,
            started_unix_s=system.started_unix_s,
            wall_s=wall_s,
            command=command,
            seed=seed,
        )


def _is_evaluated(status: Status) -> bool:
    return status.evaluation is not None and status.evaluated_version == status.version


def _print_summary(summary: dict[str, Any], latest: Path) -> None:
    if summary["test_accuracy"] is None:
        raise HocketError("the task ended without an evaluation; see the aggregator's log")
    saved = 1 - summary["bytes_pushed"] / max(1, summary["bytes_dense_equivalent"])
    rows = [
        ["test accuracy", f"{summary['test_accuracy']:.4f}"],
        ["versions", str(summary["versions"])],
        ["updates accepted", str(summary["updates_accepted"])],
        ["updates rejected", str(summary["updates_rejected"])],
        ["first new version after", f"{summary['first_version_s']:.1f} s"],
        ["wall time", f"{summary['wall_s']:.1f} s"],
        ["pushed", f"{in_bytes(summary['bytes_pushed'])} ({saved:.0%} saved)"],
        ["ended because", summary["finished_reason"]],
    ]
    print_table(f"\n{summary['task']}", ["", "result"], rows)
    typer.echo(f"\nfigures:  {latest / 'report.html'}\nnumbers:  {latest / 'summary.json'}")
