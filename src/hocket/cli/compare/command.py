"""The command line of `hocket compare`."""

from __future__ import annotations

import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from hocket.cli.output import Format, FormatOption, print_table
from hocket.errors import TaskError

STOPPED = 130  # exit status after Ctrl-C
DEFAULT_STRATEGIES = "fedasmu,fedasync,fedbuff,fedavg"
DEFAULT_SEEDS = "3"
MOST_SEEDS = 1000


class EngineName(StrEnum):
    """What `--engine` takes."""

    PROCESSES = "processes"
    RAY = "ray"


class Device(StrEnum):
    """What `--device` takes."""

    CPU = "cpu"
    CUDA = "cuda"


def compare(
    file: Annotated[Path, typer.Argument(metavar="FLEET_OR_STUDY", help="A fleet or study file.")],
    strategies: Annotated[
        str | None,
        typer.Option(
            help="Kinds with commas between them, the first against the others; of a study's "
            f"methods those named. (A fleet's default: {DEFAULT_STRATEGIES}.)"
        ),
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(help="How many, or which ones: 11,12,13 (default: 3, or the study's)."),
    ] = None,
    task: Annotated[
        Path | None, typer.Option(help="Task file for a fleet (default: the fleet's, else digits).")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at a time, one thread each.")] = 2,
    engine: Annotated[
        EngineName, typer.Option(help="This machine's processes, or a Ray cluster.")
    ] = EngineName.PROCESSES,
    scale: Annotated[str | None, typer.Option(help="A study's scale (default: it says).")] = None,
    device: Annotated[
        Device | None, typer.Option(help=r"Where nets are trained (default: the fleet's \[run]).")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the results (default: runs/studies/NAME).")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Also write FILE.md, FILE.json and figures.")
    ] = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Run strategies and seeds side by side; what was run before is not run again."""
    # Torch takes seconds to import: other commands must not have to wait for it.
    from hocket.cli.compare import comparing  # noqa: PLC0415 -- see above

    command = shlex.join(["hocket", *sys.argv[1:]])
    wishes = comparing.Wishes(
        file=file,
        strategies=_names(strategies),
        seeds=_seeds(seeds),
        task=task,
        lanes=jobs,
        on_ray=engine is EngineName.RAY,
        scale=scale,
        device=None if device is None else device.value,
        out=out,
        report=report,
        command=command,
    )
    try:
        done = comparing.compare(wishes, Console(stderr=True))
    except KeyboardInterrupt:
        typer.echo(f"stopped; the same command goes on where it was:\n  {command}", err=True)
        raise typer.Exit(STOPPED) from None
    if output is Format.JSON:
        typer.echo(done.rows_text, nl=False)
    else:
        for title, head, rows in done.tables:
            print_table(f"\n{title}", head, rows)
        for line in (*done.statements, *(f"{name}:  {path}" for name, path in done.files)):
            typer.echo(line)
    for line in done.failures:
        typer.echo(f"failed: {line}", err=True)
    if done.failures:
        raise typer.Exit(1)


def _names(text: str | None) -> tuple[str, ...]:
    """Raises TaskError for a name that is empty or comes twice."""
    names = tuple(name.strip() for name in text.split(",")) if text is not None else ()
    if not all(names) or len(set(names)) < len(names):
        raise TaskError(f"--strategies {text} must name each strategy once, with commas between")
    return names


def _seeds(text: str | None) -> int | tuple[int, ...] | None:
    """How many, or which ones. Raises TaskError."""
    if text is None:
        return None
    try:
        if "," not in text:
            count = int(text)
            if count > MOST_SEEDS:
                raise TaskError(
                    f"--seeds {text} asks for that many seeds, and {MOST_SEEDS} are the most; a "
                    f"single seed is named with a comma after it: {text},"
                )
            if count >= 1:
                return count
        elif len(seeds := [int(part) for part in text.split(",") if part.strip()]) > 0:
            return tuple(seeds)
    except ValueError:
        pass
    raise TaskError(f"--seeds {text} is neither a number of seeds nor seeds with commas between")
