"""`hocket bench slicing`: what dropping filters saves of a training step, in time and memory."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from hocket.cli.bench.environment import environment
from hocket.cli.bench.worker import JSON, run_worker
from hocket.cli.output import Format, FormatOption, in_bytes, in_time, print_json, print_table

WORKER = "hocket.cli.bench.slicing_worker"
NETS: Mapping[str, tuple[int, ...]] = {
    "densenet40": (3, 32, 32),
    "resnet18": (3, 32, 32),
}
"""Factories in hocket.learn.models with more than 50 million multiply-accumulates an example."""

DROP = 0.5  # something is asked of this share only,
LEAST_MACS = 50e6  # of nets with so much work an example:
LEAST_SAVED = 0.4  # of a step's time, and of its peak memory

VERDICTS = {
    None: ("-", "-"),
    True: (f"both {LEAST_SAVED:.0%}", "met"),
    False: (f"both {LEAST_SAVED:.0%}", "missed"),
}


def slicing(
    drop: Annotated[
        float, typer.Option("--drop", min=0.0, max=0.95, help="Share of each layer's filters.")
    ] = DROP,
    batch: Annotated[int, typer.Option("--batch", min=2, help="Examples of a step.")] = 32,
    steps: Annotated[
        int, typer.Option("--steps", min=1, help="Timed with and without, in turn.")
    ] = 7,
    output: FormatOption = Format.TABLE,
) -> None:
    """Measure what dropping filters saves of a step, in time and in peak memory.

    Exits with 1 if half of the filters save less than is asked for.
    """
    found = asyncio.run(_measure(drop, batch, steps))
    if output is Format.JSON:
        print_json(found)
    else:
        _print(found)
    if any(told["met"] is False for told in found["models"].values()):
        raise typer.Exit(1)


async def _measure(drop: float, batch: int, steps: int) -> JSON:
    models = {name: await _of(name, drop, batch, steps) for name in NETS}
    return {
        "drop": drop,
        "batch_size": batch,
        "models": models,
        "environment": asdict(environment()),
    }


async def _of(model: str, drop: float, batch: int, steps: int) -> JSON:
    """Time in one process, where both take turns; memory in one for each, which only grows."""
    job: JSON = {"model": model, "input_shape": NETS[model], "batch": batch, "steps": steps}
    times = await _ask(measure="time", drop=drop, **job)
    whole, part = [
        (await _ask(measure="memory", drop=some, **job))["peak_bytes"] for some in (0.0, drop)
    ]
    step_s, part_s = times["step_s"], times["part_s"]
    saved_time, saved_memory = 1.0 - part_s / step_s, 1.0 - part / whole
    return {
        "macs": times["macs"],
        "macs_share": times["macs_share"],
        "step_s": step_s,
        "part_s": part_s,
        "saved_time": saved_time,
        "peak_bytes": whole,
        "part_bytes": part,
        "saved_memory": saved_memory,
        "met": met(drop, times["macs"], saved_time, saved_memory),
    }


def met(drop: float, macs: int, saved_time: float, saved_memory: float) -> bool | None:
    """Whether as much is saved as is asked for; None where nothing is."""
    if drop != DROP or macs < LEAST_MACS:
        return None
    return min(saved_time, saved_memory) >= LEAST_SAVED


async def _ask(**job: Any) -> JSON:
    """Measure in a process of its own. Raises HocketError with its last words."""
    typer.echo(f"{job['model']}: {job['measure']}, drop {job['drop']}", err=True)
    with tempfile.TemporaryDirectory(prefix="hocket-bench-") as scratch:
        return await run_worker(WORKER, job, Path(scratch) / "log")


def _print(found: JSON) -> None:
    told = found["environment"]
    title = (
        f"a step on {found['batch_size']} examples without {found['drop']:.0%} of the filters, "
        f"torch {told['torch']}, commit {told['commit'] or 'unknown'}"
    )
    columns = (
        "model",
        "million MACs",
        "left",
        "step",
        "without",
        "saved",
        "memory",
        "saved",
        "target",
        "result",
    )
    print_table(title, columns, [row(name, told) for name, told in found["models"].items()])


def row(name: str, told: JSON) -> list[str]:
    """One model's figures, as the table shows them."""
    return [
        name,
        f"{told['macs'] / 1e6:.0f}",
        f"{told['macs_share']:.1%}",
        in_time(told["step_s"]),
        in_time(told["part_s"]),
        f"{told['saved_time']:.1%}",
        in_bytes(told["peak_bytes"]),
        f"{told['saved_memory']:.1%}",
        *VERDICTS[told["met"]],
    ]
