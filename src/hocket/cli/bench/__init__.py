"""`hocket bench`: how fast services take updates in, and what simulating them costs."""

from __future__ import annotations

import typer

from hocket.cli.bench.ingest import ingest
from hocket.cli.bench.sim import sim

bench = typer.Typer(
    no_args_is_help=True, help="Measure real services, or the simulator, on this machine."
)
bench.command()(ingest)
bench.command()(sim)


@bench.callback()
def _bench() -> None:
    """Measure real services, or the simulator, on this machine."""


__all__ = ["bench"]
