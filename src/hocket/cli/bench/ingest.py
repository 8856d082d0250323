"""`hocket bench ingest`: pushes into real services, beside what wire and disk could carry."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from hocket.cli.bench.cases import CASES, DEVICES, NAMES, Case, Rule, Wishes, chosen
from hocket.cli.bench.environment import environment
from hocket.cli.bench.results import Failed, Measured, Registered
from hocket.cli.bench.table import in_short, print_results
from hocket.cli.output import Format, FormatOption, print_json
from hocket.errors import HocketError, StartupError

DEFAULT_FOLDER = Path("runs/bench")

Result = Measured | Registered | Failed


def ingest(
    only: Annotated[
        list[str] | None,
        typer.Option("--only", help=f"Only this case; may be repeated. {', '.join(NAMES)}."),
    ] = None,
    updates: Annotated[
        int | None, typer.Option("--updates", min=1, help="Pushes of each case.")
    ] = None,
    seconds: Annotated[
        float, typer.Option("--seconds", min=0.1, help="Begin no push of a case after so long.")
    ] = 30.0,
    strategy: Annotated[
        Rule | None, typer.Option("--strategy", help="Of every case (default: fedasmu).")
    ] = None,
    streams: Annotated[
        int | None, typer.Option("--streams", min=1, max=64, help="Devices pushing at a time.")
    ] = None,
    model_bytes: Annotated[
        int | None, typer.Option("--model-bytes", min=4096, help="Size of every case's model.")
    ] = None,
    devices: Annotated[
        int, typer.Option("--devices", min=2, help="Devices that join in the case 'devices'.")
    ] = 1000,
    data_dir: Annotated[
        Path, typer.Option("--data-dir", help="Where services write: the disk that is measured.")
    ] = DEFAULT_FOLDER,
    output: FormatOption = Format.TABLE,
) -> None:
    """Measure how fast updates are taken in; exits with 1 if a case does not end as it must."""
    wishes = Wishes(tuple(only or ()), updates, streams, strategy, model_bytes)
    cases = chosen(wishes)
    asked = devices if not wishes.only or DEVICES in wishes.only else 0
    results = asyncio.run(_run(cases, asked, seconds, data_dir))
    told = environment()
    if output is Format.JSON:
        print_json([_record(result) | {"environment": asdict(told)} for result in results])
    else:
        print_results(results, cases, told)
    if any(isinstance(result, Failed) for result in results):
        raise typer.Exit(1)


async def _run(cases: Sequence[Case], devices: int, seconds: float, data_dir: Path) -> list[Result]:
    from hocket.cli.bench.devices import register  # noqa: PLC0415 -- not every command needs it
    from hocket.cli.bench.measuring import measure  # noqa: PLC0415 -- likewise

    results: list[Result] = []
    home = _make(data_dir)
    for case in cases:
        typer.echo(f"{case.name}: {case.updates} updates by {case.streams} streams", err=True)
        try:
            measured = await measure(case, home / case.name, seconds)
        except HocketError as error:
            results.append(_failed(case.name, error))
            continue
        results.append(measured)
        typer.echo(f"{case.name}: {in_short(measured)}", err=True)
        shutil.rmtree(home / case.name)
    if devices:
        typer.echo(f"{DEVICES}: {devices} join", err=True)
        small = replace(CASES[0], model_values=1024)
        try:
            results.append(await register(small, devices, home / DEVICES))
        except HocketError as error:
            results.append(_failed(DEVICES, error))
    if not any(isinstance(result, Failed) for result in results):
        shutil.rmtree(home)
    else:
        typer.echo(f"logs and state of what failed are in {home}", err=True)
    return results


def _make(data_dir: Path) -> Path:
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix="bench-", dir=data_dir)).resolve()
    except OSError as cause:
        raise StartupError(
            f"folder {data_dir} cannot be used: {cause.strerror}; choose another --data-dir"
        ) from cause


def _failed(case: str, error: HocketError) -> Failed:
    typer.echo(f"{case}: {error.message}", err=True)
    return Failed(case, error.message)


def _record(result: Result) -> dict[str, object]:
    record = asdict(result)
    return {"case": DEVICES} | record if isinstance(result, Registered) else record
