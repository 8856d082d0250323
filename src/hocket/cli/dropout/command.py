"""The command line of `hocket dropout search`."""

from __future__ import annotations

import importlib.util
import shlex
import sys
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from hocket.cli.compare.command import STOPPED, EngineName
from hocket.cli.dropout.settings import SCALES, Settings
from hocket.cli.dropout.usage import lines_for
from hocket.cli.output import Format, FormatOption, print_table
from hocket.errors import StartupError, TaskError


class Scale(StrEnum):
    """What `--scale` takes."""

    QUICK = "quick"
    STANDARD = "standard"
    FULL = "full"


class MeasureName(StrEnum):
    """What `--score` takes."""

    LOSS = "loss"
    ACCURACY = "accuracy"


def _by_scale(name: str) -> str:
    """The defaults of a setting, for its help."""
    values = {getattr(scale, name) for scale in SCALES.values()}
    if len(values) == 1:
        return f"(default: {_shown(values.pop())})."
    each = ", ".join(f"{scale} {_shown(getattr(of, name))}" for scale, of in SCALES.items())
    return f"(default: {each})."


def _shown(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def search(
    task: Annotated[Path | None, typer.Option(help="Task file (default: the digits).")] = None,
    scale: Annotated[
        Scale,
        typer.Option(
            help="Defaults for all below: quick to look at it, standard for two cores, full as "
            "DISTREAL's methods page has them, for a larger machine."
        ),
    ] = Scale.STANDARD,
    population: Annotated[
        int | None, typer.Option(help=f"Vectors of a generation {_by_scale('population')}")
    ] = None,
    generations: Annotated[
        int | None, typer.Option(help=f"After the first population {_by_scale('generations')}")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help=f"Mini-batches of a trial {_by_scale('steps')}")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(help=f"Trials of a vector a snapshot {_by_scale('seeds')}")
    ] = None,
    final_seeds: Annotated[
        int | None,
        typer.Option(help=f"The same for the final front, twice {_by_scale('final_seeds')}"),
    ] = None,
    snapshots: Annotated[
        str | None,
        typer.Option(help=f"Shares of a training to start trials after {_by_scale('snapshots')}"),
    ] = None,
    training_steps: Annotated[
        int | None,
        typer.Option(help=f"Mini-batches of that training {_by_scale('training_steps')}"),
    ] = None,
    examples: Annotated[
        int | None,
        typer.Option(help=f"Of the task's training part, at most {_by_scale('examples')}"),
    ] = None,
    d_max: Annotated[
        float | None, typer.Option(help=f"Largest share dropped of a layer {_by_scale('d_max')}")
    ] = None,
    grid: Annotated[
        int | None, typer.Option(help=f"Uniform vectors to start and compare {_by_scale('grid')}")
    ] = None,
    crossover: Annotated[
        float | None, typer.Option(help=f"Probability of crossover {_by_scale('crossover')}")
    ] = None,
    crossover_eta: Annotated[
        float | None, typer.Option(help=f"SBX's eta {_by_scale('crossover_eta')}")
    ] = None,
    mutation_eta: Annotated[
        float | None, typer.Option(help=f"Polynomial mutation's eta {_by_scale('mutation_eta')}")
    ] = None,
    score: Annotated[
        MeasureName | None, typer.Option(help="What trials are to improve, held out.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help=f"Of all chance {_by_scale('seed')}")] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Add seconds of a step on this machine to the rows.")
    ] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Vectors at a time, one thread each.")] = 2,
    engine: Annotated[
        EngineName, typer.Option(help="This machine's processes, or a Ray cluster.")
    ] = EngineName.PROCESSES,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the results (default: runs/dropout/NAME).")
    ] = None,
    table: Annotated[
        Path | None, typer.Option(help="File for the table (default: table.toml in that folder).")
    ] = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Search dropout vectors that cost little and converge fast; write the table devices use."""
    settings = _settings(
        SCALES[scale.value],
        population=population,
        generations=generations,
        steps=steps,
        seeds=seeds,
        final_seeds=final_seeds,
        snapshots=None if snapshots is None else _shares(snapshots),
        training_steps=training_steps,
        examples=examples,
        d_max=d_max,
        grid=grid,
        crossover=crossover,
        crossover_eta=crossover_eta,
        mutation_eta=mutation_eta,
        score=None if score is None else score.value,
        seed=seed,
    )
    check_pymoo()
    # Torch takes seconds to import: other commands must not have to wait for it.
    from hocket.cli.dropout import page, searching  # noqa: PLC0415 -- see above

    command = shlex.join(["hocket", *sys.argv[1:]])
    wishes = searching.Wishes(
        task=task,
        settings=settings,
        lanes=jobs,
        on_ray=engine is EngineName.RAY,
        measure=measure,
        out=out,
        table=table,
        command=command,
    )
    as_json = output is Format.JSON
    try:
        done = searching.search(wishes, Console(stderr=True, quiet=as_json))
    except KeyboardInterrupt:
        typer.echo(f"stopped; the same command goes on where it was:\n  {command}", err=True)
        raise typer.Exit(STOPPED) from None
    if as_json:
        typer.echo(page.numbers_text(done.findings, done.task, command), nl=False)
        return
    print_table("\nthe table", page.FRONT_HEAD, page.front_cells(done.findings))
    print_table(
        "\nuniform vectors beside the row that costs no more, on held-out examples",
        page.BESIDE_HEAD,
        page.beside_cells(done.findings),
    )
    for line in (*done.findings.statements, *(f"{name}:  {path}" for name, path in done.files)):
        typer.echo(line)
    typer.echo("\n" + "\n".join(lines_for(task, dict(done.files)["table"])))


def check_pymoo() -> None:
    """Raise StartupError where pymoo is not installed."""
    if importlib.util.find_spec("pymoo") is None:
        raise StartupError(
            "hocket dropout search needs pymoo, which is not installed: pip install "
            "'hocket[search]'"
        )


def _settings(scale: Settings, **given: Any) -> Settings:
    """The scale's, with what was given in its place. Raises TaskError."""
    return replace(scale, **{name: value for name, value in given.items() if value is not None})


def _shares(text: str) -> tuple[float, ...]:
    """Raises TaskError."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise TaskError(
            f"--snapshots {text} must be shares with commas between: 0,0.1,0.5"
        ) from None
