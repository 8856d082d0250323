"""`hocket export`: a version of the model as a safetensors file, or a task's history."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from hocket.cli.inspect import AggregatorOption, HomeOption, RegistryOption
from hocket.cli.output import Format, FormatOption, in_bytes, print_json
from hocket.cli.source import open_live
from hocket.cli.where import System, find
from hocket.errors import HocketError, InvalidRequest, NotFound
from hocket.rpc.transfer import PulledModel

HistoryOption = Annotated[
    Path | None,
    typer.Option(
        "--history", help="A new folder: write what the aggregator took in there, not a model."
    ),
]
DataOption = Annotated[
    Path | None,
    typer.Option("--data-dir", help="With --history: an aggregator's data folder."),
]
TaskOption = Annotated[
    Path | None,
    typer.Option("--task", help="With --history: the task file (default: the folder's own)."),
]


def export(
    output_file: Annotated[Path, typer.Option("--output", "-o")] = Path("model.safetensors"),
    version: Annotated[int, typer.Option("--version", min=0, help="0: the newest.")] = 0,
    home: HomeOption = None,
    registry: RegistryOption = None,
    aggregator: AggregatorOption = None,
    history: HistoryOption = None,
    data_dir: DataOption = None,
    task: TaskOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Write a version of the model as a safetensors file, or with --history a task's whole past."""
    if history is not None:
        if version or registry or aggregator:
            raise InvalidRequest(
                "a history is written whole, from the aggregator's data folder: --history goes "
                "with --home or --data-dir, and --task"
            )
        _export_history(history, data_dir or find(home, None, None).aggregator_dir, task, output)
        return
    if data_dir or task:
        raise InvalidRequest("--data-dir and --task go with --history; see --help")
    system = find(home, registry, aggregator)
    partial = output_file.with_name(output_file.name + ".partial")
    try:
        partial.touch()  # told before anything is pulled
        if system.is_up:
            exported = asyncio.run(_export_live(system, version, partial))
        else:
            exported = _export_stopped(system, version, partial)
        partial.replace(output_file)
    except OSError as cause:
        raise HocketError(f"{output_file} cannot be written: {cause.strerror}") from cause
    finally:
        partial.unlink(missing_ok=True)
    size = output_file.stat().st_size
    if output is Format.JSON:
        print_json({"version": exported, "path": str(output_file), "bytes": size})
    else:
        typer.echo(f"version {exported} written to {output_file} ({in_bytes(size)})")


def _export_history(folder: Path, data_dir: Path, task: Path | None, output: Format) -> None:
    # Torch takes seconds to import: other commands must not have to wait for it.
    from hocket.cli.history import export_history  # noqa: PLC0415 -- see above

    written = export_history(data_dir, task, folder)
    if output is Format.JSON:
        facts = {"updates": written.updates, "versions": written.versions, "path": str(folder)}
        print_json(facts)
    else:
        typer.echo(f"{written.updates} updates and {written.versions} versions written to {folder}")


async def _export_live(system: System, version: int, path: Path) -> int:
    async with open_live(system) as live:
        terms = await live.aggregator.get_task()
        limit_bytes = terms.manifest.dense_bytes
        pulled = await live.aggregator.pull(None, version=version, limit_bytes=limit_bytes)
    if pulled is None:
        raise NotFound(f"the aggregator holds no version {version}; see `hocket versions`")
    _write(pulled, path)
    return pulled.version


def _export_stopped(system: System, version: int, path: Path) -> int:
    from hocket_aggregator.recovery import reader  # noqa: PLC0415 -- not installed on every machine

    return reader.copy_model(system.aggregator_dir, version, path)


def _write(pulled: PulledModel, path: Path) -> None:
    import numpy as np  # noqa: PLC0415 -- not installed on every machine
    from safetensors.numpy import save_file  # noqa: PLC0415 -- likewise

    values = np.frombuffer(memoryview(pulled.payload.body), dtype="<f4")
    tensors, at = {}, 0
    for tensor in pulled.payload.header.tensors:
        tensors[tensor.name] = values[at : at + tensor.size].reshape(tensor.shape)
        at += tensor.size
    save_file(tensors, path, metadata={"version": str(pulled.version)})
