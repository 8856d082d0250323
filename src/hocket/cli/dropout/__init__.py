"""`hocket dropout`: what devices may leave out of a mini-batch. Torch is imported late."""

from __future__ import annotations

import typer

from hocket.cli.dropout.command import search

dropout = typer.Typer(no_args_is_help=True, help="Find what devices may leave out of a mini-batch.")
dropout.command()(search)


@dropout.callback()
def _dropout() -> None:
    """Find what devices may leave out of a mini-batch."""


__all__ = ["dropout"]
