"""`hocket bench`: how fast updates are taken in, what simulating costs, what slicing saves."""

from __future__ import annotations

import typer

from hocket.cli.bench.ingest import ingest
from hocket.cli.bench.sim import sim
from hocket.cli.bench.slicing import slicing

bench = typer.Typer(
    no_args_is_help=True, help="Measure services, the simulator or training on this machine."
)
bench.command()(ingest)
bench.command()(sim)
bench.command()(slicing)


@bench.callback()
def _bench() -> None:
    """Measure services, the simulator or training on this machine."""


__all__ = ["bench"]
