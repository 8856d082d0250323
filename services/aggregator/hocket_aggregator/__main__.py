"""The aggregator's process: the one place that knows every concrete class."""

from __future__ import annotations

import json
import os
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
import uvloop

from hocket.core.chance import Stream
from hocket.errors import StartupError, TaskError
from hocket.obs import logging
from hocket_aggregator.settings import (
    Settings,
    WrongSettings,
    data_roots,
    help_text,
    read_settings,
)

if TYPE_CHECKING:
    from hocket.rpc.server import Server
    from hocket_aggregator.aggregator import Aggregator
    from hocket_aggregator.setup import Setup

COMMAND = "hocket-aggregator"
log = structlog.get_logger()


def main() -> int:
    """Serve until told to stop. Exit status 1: cannot start; 2: wrong settings or arguments."""
    if sys.argv[1:]:
        return _answer(sys.argv[1:])
    try:
        settings = read_settings()
        logging.configure("aggregator", settings.log_level)
        uvloop.run(run(settings, set_up_task(settings)))
    except WrongSettings as error:
        sys.stderr.write(f"{COMMAND}: {error}\n")
        return 2
    except (StartupError, TaskError) as error:
        sys.stderr.write(f"{COMMAND}: {error}\n")
        return 1
    return 0


def set_up_task(settings: Settings) -> Setup:
    """The task with its model built. Raises TaskError."""
    # Torch takes seconds to import: wrong settings must not have to wait for it.
    import torch  # noqa: PLC0415 -- see above

    from hocket.task import default_task, load_task  # noqa: PLC0415 -- see above
    from hocket_aggregator.setup import set_up  # noqa: PLC0415 -- see above

    torch.set_num_threads(1)  # many small steps beside six devices on the same cores
    if settings.task is None:
        return set_up(default_task())
    return set_up(load_task(settings.task, data_folders=data_roots(), code_folders=(Path.cwd(),)))


async def run(settings: Settings, setup: Setup) -> None:
    """Serve until SIGTERM or SIGINT. Raises StartupError when that cannot begin."""
    from hocket.rpc.channel import open_channel  # noqa: PLC0415 -- as in set_up_task
    from hocket.rpc.registry_client import RegistryClient  # noqa: PLC0415 -- as in set_up_task
    from hocket.rpc.server import aggregator_service, build_server  # noqa: PLC0415 -- likewise
    from hocket.rpc.wall_clock import WallClock  # noqa: PLC0415 -- as in set_up_task
    from hocket_aggregator.aggregator import (  # noqa: PLC0415 -- as in set_up_task
        Limits,
        Surroundings,
        open_aggregator,
    )

    limits = Limits(
        settings.staged_bytes_limit or setup.task.limits.staged_bytes,
        settings.staged_keep_s,
        settings.snapshot_every_s,
        settings.snapshots_kept,
    )
    chance = Stream(secrets.randbits(63), "reconnect").random
    async with open_channel(settings.registry) as channel:
        registry = RegistryClient(channel, settings.registry)
        around = Surroundings(settings.data_dir, WallClock(), chance, registry, limits)
        async with open_aggregator(setup, around) as aggregator:
            server = build_server(aggregator_service(aggregator.service))
            await _serve(settings, server, aggregator)


async def _serve(settings: Settings, server: Server, aggregator: Aggregator) -> None:
    from hocket.rpc.server import bind, serve  # noqa: PLC0415 -- as in set_up_task

    port = bind(server, settings.listen, "AGGREGATOR_LISTEN")
    address = f"{settings.listen.rpartition(':')[0]}:{port}"

    def announce() -> None:
        if settings.ready_file is not None:
            write_ready(settings.ready_file, address, port)
        log.info("serving", address=address, version=aggregator.core.newest.version)

    try:
        await serve(
            server,
            *aggregator.background(),
            on_ready=announce,
            on_drain=aggregator.end_streams,
        )
    finally:
        if settings.ready_file is not None:
            settings.ready_file.unlink(missing_ok=True)
    log.info("stopped", version=aggregator.core.newest.version)


def write_ready(file: Path, address: str, port: int) -> None:
    """Tell whoever waits for the file where this process serves; the file is whole or not there."""
    content = json.dumps({"address": address, "port": port, "pid": os.getpid()})
    partial = file.with_name(f"{file.name}.{os.getpid()}.partial")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(content + "\n", encoding="utf-8")
        partial.replace(file)
    except OSError as error:
        raise StartupError(
            f"cannot write {file}: {error.strerror}; change AGGREGATOR_READY_FILE"
        ) from error


def _answer(arguments: list[str]) -> int:
    if arguments in (["--help"], ["-h"]):
        sys.stdout.write(help_text(COMMAND))
        return 0
    sys.stderr.write(f"{COMMAND}: takes no arguments but --help; settings are variables\n")
    return 2


if __name__ == "__main__":
    sys.exit(main())
