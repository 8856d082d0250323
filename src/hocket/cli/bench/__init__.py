"""`hocket bench`: how fast real services take updates in, beside what this machine could do."""

from __future__ import annotations

import typer

from hocket.cli.bench.ingest import ingest

bench = typer.Typer(no_args_is_help=True, help="Measure real services on this machine.")
bench.command()(ingest)


@bench.callback()
def _bench() -> None:
    """Measure real services on this machine."""


__all__ = ["bench"]
