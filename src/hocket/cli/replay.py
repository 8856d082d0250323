"""`hocket replay`: a version, or a whole history, made again bit for bit from what is on disk."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from hocket_aggregator.recovery.origin import Origin
from hocket_aggregator.settings import data_roots

from hocket.cli.inspect import HomeOption
from hocket.cli.output import Format, FormatOption, print_json
from hocket.cli.where import find
from hocket.errors import CorruptState, InvalidRequest

if TYPE_CHECKING:
    from hocket.task import Task

DataOption = Annotated[
    Path | None,
    typer.Option("--data-dir", help="An aggregator's data folder (default: that of --home)."),
]
TaskOption = Annotated[
    Path | None, typer.Option("--task", help="The task file (default: the folder's own).")
]
OutputOption = Annotated[
    Path | None, typer.Option("--output", "-o", help="Write the model as a safetensors file.")
]


HistoryOption = Annotated[
    Path | None,
    typer.Option(
        "--history",
        help="Live through the history in this folder, from `simulate --record` or `export`.",
    ),
]


def replay(
    version: Annotated[int, typer.Option("--version", min=0, help="0: the newest.")] = 0,
    home: HomeOption = None,
    data_dir: DataOption = None,
    task: TaskOption = None,
    output_file: OutputOption = None,
    history: HistoryOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Rebuild a version from snapshot and journal, and compare its digest with the record, if any.

    With --history: live through a recorded history, and compare every version's digest.
    """
    if history is not None:
        if version or home or data_dir or output_file:
            raise InvalidRequest("--history is lived through whole: it goes with --task only")
        _relive(history, task, output)
        return
    # Torch takes seconds to import: other commands must not have to wait for it.
    from hocket_aggregator.recovery.reader import read_digest  # noqa: PLC0415 -- see above
    from hocket_aggregator.recovery.replay import replay as rebuild  # noqa: PLC0415 -- see above

    from hocket.task.setup import set_up  # noqa: PLC0415 -- see above

    folder = data_dir or find(home, None, None).aggregator_dir
    origin = Origin.read(folder) if task is None else Origin(str(task), str(Path.cwd()))
    known = _task(origin)
    rebuilt = asyncio.run(rebuild(set_up(known), folder, version, output=output_file))
    recorded = read_digest(folder, rebuilt.version)
    differs = recorded is not None and recorded != rebuilt.digest
    if output is Format.JSON:
        print_json(
            {
                "version": rebuilt.version,
                "digest": rebuilt.digest,
                "recorded_digest": recorded,
                "equal": None if recorded is None else not differs,
                "snapshot": rebuilt.snapshot,
                "updates": rebuilt.updates,
                "path": None if output_file is None else str(output_file),
            }
        )
    else:
        typer.echo(
            f"version {rebuilt.version}  digest {rebuilt.digest}  (snapshot {rebuilt.snapshot} "
            f"and {rebuilt.updates} updates)"
        )
    if differs:
        raise CorruptState(
            f"version {rebuilt.version} was recorded with digest {recorded}, and is rebuilt with "
            f"{rebuilt.digest}: snapshot or journal of {folder} are not what they were"
        )
    if output is Format.TABLE:
        if recorded is None:
            typer.echo(f"not on record in {folder}: there is no digest to compare it with")
        else:
            typer.echo("as recorded, bit for bit")
        if output_file is not None:
            typer.echo(f"written to {output_file}")


def _relive(folder: Path, task: Path | None, output: Format) -> None:
    from hocket.cli.history import relive_history  # noqa: PLC0415 -- as in replay

    relived = relive_history(folder, task)
    difference = relived.difference
    if output is Format.JSON:
        print_json(
            {
                "version": relived.version,
                "digest": relived.digest,
                "versions": relived.versions,
                "updates": relived.updates,
                "equal": difference is None,
                "difference": difference,
            }
        )
    else:
        typer.echo(
            f"version {relived.version}  digest {relived.digest}  ({relived.updates} updates, "
            f"{relived.versions} versions made)"
        )
    if difference is not None:
        raise CorruptState(f"{folder}, line {difference.line}: {difference.message}")
    if output is Format.TABLE:
        typer.echo("every version as recorded, bit for bit")


def _task(origin: Origin) -> Task:
    from hocket.task import default_task, load_task  # noqa: PLC0415 -- as in replay

    if not origin.task:
        return default_task()
    code = (Path(origin.code_folder), Path.cwd())
    return load_task(Path(origin.task), data_folders=data_roots(), code_folders=code)
