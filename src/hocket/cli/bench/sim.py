"""`hocket bench sim`: what the simulator costs beside the training that it simulates."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from hocket.cli.bench.environment import environment
from hocket.cli.bench.worker import JSON, run_worker
from hocket.cli.output import Format, FormatOption, in_bytes, print_json, print_table
from hocket.errors import DataError

WORKER = "hocket.cli.bench.sim_worker"
EXAMPLES_EACH = 100  # of a device that trains on CIFAR-10
FEW = 1000  # devices that the large fleet is compared with
RUNS = 3  # of what is measured by its best run
MOST_OVERHEAD, LEAST_UPDATES, MOST_BYTES, MOST_GROWTH = 0.1, 2000.0, 3e9, 1.5  # asked for


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is simulated."""

    devices: int
    training: int
    updates: int
    seconds: float
    trainings: int
    together: int


def sim(
    data: Annotated[
        list[Path] | None,
        typer.Option("--data", help="Folder of CIFAR-10's two parquet files (else HOCKET_DATA)."),
    ] = None,
    devices: Annotated[
        int, typer.Option("--devices", min=2, help="Registered devices of the large fleet.")
    ] = 100_000,
    training: Annotated[
        int, typer.Option("--training", min=1, help="Devices that train at a time in it.")
    ] = 1000,
    updates: Annotated[
        int, typer.Option("--updates", min=500, help="Of the large fleet, and of a small one.")
    ] = 8000,
    seconds: Annotated[
        float, typer.Option("--seconds", min=0.1, help="Of each run that trains nothing.")
    ] = 2.0,
    trainings: Annotated[int, typer.Option("--trainings", min=1, help="Of the CIFAR-10 run.")] = 60,
    together: Annotated[
        int, typer.Option("--together", min=4, help="Devices trained at once, to see the gain.")
    ] = 32,
    output: FormatOption = Format.TABLE,
) -> None:
    """Measure the simulator: its overhead, updates a second, a large fleet's memory and time."""
    from hocket_aggregator.settings import data_roots  # noqa: PLC0415 -- not every command needs it

    sizes = Sizes(devices, training, updates, seconds, trainings, together)
    found = asyncio.run(_measure(sizes, data or data_roots()))
    if output is Format.JSON:
        print_json(found)
    else:
        _print(found)


async def _measure(sizes: Sizes, folders: Sequence[Path]) -> JSON:
    cifar = await _overhead(sizes, folders)
    noops = await _ask("noop", seconds=sizes.seconds, runs=RUNS)
    fleets = [
        await _ask(
            "registered", devices=count, training_at_once=sizes.training, updates=sizes.updates
        )
        for count in sorted({min(FEW, sizes.devices), sizes.devices})
    ]
    gains = await _ask("batched", devices=sizes.together, runs=RUNS)
    return {
        "overhead_fraction": cifar.get("overhead_fraction"),
        "noop_updates_per_s": noops["fedasync"],
        "registered_devices": sizes.devices,
        "rss_peak_bytes": fleets[-1]["rss_peak_bytes"],
        "seconds_per_event": {str(told["devices"]): told["seconds_per_event"] for told in fleets},
        "batched": {model: told["gain"] for model, told in gains.items()},
        "batched_auto": {model: told["auto"] for model, told in gains.items()},
        "batched_together": sizes.together,
        "cifar": cifar,
        "noop_updates_per_s_by_strategy": noops,
        "fleets": fleets,
        "environment": asdict(environment()),
    }


async def _overhead(sizes: Sizes, folders: Sequence[Path]) -> JSON:
    """Of the CIFAR-10 run; without the data nothing but why."""
    from hocket.cli.bench.sim_scenes import find_cifar  # noqa: PLC0415 -- torch takes seconds

    absolute = [folder.absolute() for folder in folders]
    try:
        find_cifar(absolute)
    except DataError as missing:
        typer.echo(f"overhead_fraction is not measured: {missing.message}", err=True)
        return {"error": missing.message}
    return await _ask(
        "overhead",
        folders=[str(folder) for folder in absolute],
        trainings=sizes.trainings,
        examples_each=EXAMPLES_EACH,
    )


async def _ask(measure: str, **job: float | str | list[str]) -> JSON:
    """Measure in a process of its own. Raises HocketError with its last words."""
    typer.echo(f"{measure}: {', '.join(f'{k} {v}' for k, v in job.items())}", err=True)
    with tempfile.TemporaryDirectory(prefix="hocket-bench-") as scratch:
        return await run_worker(WORKER, {"measure": measure, **job}, Path(scratch) / "log")


def _print(found: JSON) -> None:
    told = found["environment"]
    title = (
        f"simulator on {told['cpus']} processors, Python {told['python']}, torch {told['torch']}, "
        f"commit {told['commit'] or 'unknown'}"
    )
    print_table(title, ("", "measured", "target", "result"), rows(found))
    print_table(
        f"devices trained {found['batched_together']} at once",
        ("", "times faster", "auto"),
        [
            [model, f"{gain:.1f}", "yes" if found["batched_auto"][model] else "no"]
            for model, gain in found["batched"].items()
        ],
    )


def rows(found: JSON) -> list[list[str]]:
    """The figures that something is asked of, as the table shows them."""
    overhead, updates = found["overhead_fraction"], found["noop_updates_per_s"]
    memory, costs = found["rss_peak_bytes"], found["seconds_per_event"]
    small, large = min(costs.items(), key=_devices)[1], max(costs.items(), key=_devices)[1]
    return [
        [
            "overhead of a CIFAR-10 run",
            "not measured" if overhead is None else f"{overhead:.1%}",
            f"at most {MOST_OVERHEAD:.0%}",
            "-" if overhead is None else _met(overhead <= MOST_OVERHEAD),
        ],
        [
            "updates that train nothing, 1 MB",
            f"{updates:.0f}/s",
            f"at least {LEAST_UPDATES:.0f}/s",
            _met(updates >= LEAST_UPDATES),
        ],
        [
            f"memory of {found['registered_devices']} devices",
            in_bytes(memory),
            f"under {in_bytes(MOST_BYTES)}",
            _met(memory < MOST_BYTES),
        ],
        [
            "an event: " + ", ".join(f"{count} devices" for count in costs),
            ", ".join(f"{1e6 * cost:.0f} us" for cost in costs.values()),
            f"at most {MOST_GROWTH:g} times as much",
            _met(large <= MOST_GROWTH * small),
        ],
    ]


def _devices(cost: tuple[str, float]) -> int:
    return int(cost[0])


def _met(reached: bool) -> str:
    return "met" if reached else "missed"
