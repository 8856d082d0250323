"""`hocket simulate`: a fleet trains in virtual time, and a run's folder is left behind."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from hocket.cli.changes import parse_changes
from hocket.cli.output import Format, FormatOption, in_time, print_json, print_table

if TYPE_CHECKING:
    from hocket.cli.simulating import Run
    from hocket.sim.result import Result

STOPPED = 130  # exit status after Ctrl-C


class Trace(StrEnum):
    """What `--trace` takes."""

    NONE = "none"
    UPDATES = "updates"
    FULL = "full"


def simulate(
    fleet: Annotated[Path, typer.Argument(help="Fleet file.")],
    task: Annotated[
        Path | None, typer.Option("--task", help="Task file (default: the fleet's, else digits).")
    ] = None,
    strategy: Annotated[
        str | None, typer.Option("--strategy", help="Short for --set strategy.kind=...")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Another value for a key of the task."),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed", min=0, help="Of all chance (default: the fleet's, or the history's)."
        ),
    ] = None,
    runs: Annotated[Path, typer.Option("--runs", help="Folder for the run's files.")] = Path(
        "runs"
    ),
    trace: Annotated[
        Trace, typer.Option("--trace", help="How much is written down of what happens.")
    ] = Trace.FULL,
    record: Annotated[
        bool, typer.Option("--record", help=r"Keep the whole history, as \[run] record does.")
    ] = False,
    replay: Annotated[
        Path | None,
        typer.Option(
            "--replay",
            help="Live through the timing of the history in this folder, with real training.",
        ),
    ] = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Train on a fleet in virtual time; leave numbers, a trace and a report with figures."""
    changes = parse_changes(settings or [], strategy)
    # Torch takes seconds to import: other commands must not have to wait for it.
    from hocket.cli import simulating  # noqa: PLC0415 -- see above

    command = shlex.join(["hocket", *sys.argv[1:]])
    wishes = simulating.Wishes(
        fleet, task, changes, seed, runs, trace.value, command, record, replay
    )
    try:
        with _sigterm_as_ctrl_c():
            run = simulating.simulate(wishes, Console(stderr=True))
    except KeyboardInterrupt:
        typer.echo("stopped before the end: nothing is kept of this run", err=True)
        raise typer.Exit(STOPPED) from None
    if output is Format.JSON:
        print_json({"folder": str(run.folder)} | run.summary)
    else:
        _print(run)
    _say_idleness(run.result)
    _say_missed_targets(run.result)


@contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """Whoever ends the process politely gets a clean folder, too."""
    usual = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, usual)


def _print(run: Run) -> None:
    from hocket.cli.report.sim_page import targets, tiles  # noqa: PLC0415 -- torch, as above

    rows = [[name, value] for name, value in tiles(run.result, run.summary)]
    rows += [[f"test accuracy {name} reached", when] for name, when in targets(run.result)]
    rows += [["ended because", run.result.reason], ["digest", run.result.digest]]
    scenario = run.result.scenario
    title = f"{scenario.task.name}, {scenario.task.strategy.kind} on {scenario.fleet.name}"
    print_table(f"\n{title}, seed {scenario.seed}", ["", "result"], rows)
    latest = run.folder.parent / "latest"
    typer.echo(f"\nfigures:  {latest / 'report.html'}\nnumbers:  {latest / 'summary.json'}")
    typer.echo(f"kept in:  {run.folder}")


def _say_idleness(result: Result) -> None:
    """One line for a run that trained nothing: it looks like any other."""
    if result.counts.trainings:
        return
    if not any(device.here_s for device in result.devices):
        why = "no device was ever there; see [[availability]] or the trace in the fleet file"
    elif result.counts.failures:
        why = f"all {result.counts.failures} that began diverged; lower training.learning_rate"
    else:
        lasted = in_time(result.virtual_s)
        why = f"{lasted} of virtual time were too short, or devices there too briefly"
    typer.echo(f"hocket: no training ended: {why}", err=True)


def _say_missed_targets(result: Result) -> None:
    """One line for the targets that were never reached, with the best that was."""
    from hocket.sim.summary import targets_of  # noqa: PLC0415 -- torch, as above

    missed = [at for at in targets_of(result.scenario) if result.reached_s(at) is None]
    if not missed:
        return
    best = max(result.curve, key=lambda point: point.accuracy, default=None)
    known = (
        "the model was never evaluated"
        if best is None
        else f"the best was {best.accuracy:.4f}, after {in_time(best.at_s)}"
    )
    names = ", ".join(f"{target:g}" for target in missed)
    typer.echo(f"hocket: test accuracy {names} was never reached; {known}", err=True)
