"""The `hocket` command: its sub-commands, and how it fails."""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from hocket.cli.bench import bench
from hocket.cli.compare import compare
from hocket.cli.demo import demo
from hocket.cli.doctor import doctor
from hocket.cli.dropout import dropout
from hocket.cli.export import export
from hocket.cli.inspect import devices, lineage, status, versions
from hocket.cli.replay import replay
from hocket.cli.simulate import simulate
from hocket.cli.up import up
from hocket.errors import HocketError
from hocket.obs.logging import configure_command

app = typer.Typer(
    help="Train one model on a fleet where no two devices are alike.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (
    demo,
    up,
    simulate,
    compare,
    status,
    devices,
    versions,
    lineage,
    replay,
    export,
    doctor,
):
    app.command()(command)
app.add_typer(bench, name="bench")
app.add_typer(dropout, name="dropout")


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(version("hocket"))
        raise typer.Exit


@app.callback()
def _options(
    *,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    """Train one model on a fleet where no two devices are alike."""


def main() -> None:
    """Run the command; what goes wrong on purpose is one message and exit code 1."""
    configure_command("hocket")
    try:
        app()
    except HocketError as error:
        sys.stderr.write(f"hocket: {error.message}\n")
        sys.exit(1)
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.startswith("hocket."):
            raise
        sys.stderr.write(
            f"hocket: this command needs {missing.name!r}, which is not installed; "
            "`hocket doctor` says how to get it\n"
        )
        sys.exit(1)
