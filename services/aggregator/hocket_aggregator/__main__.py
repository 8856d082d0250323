"""The aggregator's process: the one place that knows every concrete class."""

from __future__ import annotations

import gc
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
import uvloop

from hocket.core.chance import Stream
from hocket.hosting.command import run_command
from hocket.hosting.ready import remove_ready, write_ready
from hocket.hosting.settings import help_text, read_settings
from hocket.obs import logging
from hocket_aggregator.recovery.origin import Origin
from hocket_aggregator.settings import DATA_ROOTS, Settings, data_roots

if TYPE_CHECKING:
    from hocket.rpc.server import Server
    from hocket.task.setup import Setup
    from hocket_aggregator.aggregator import Aggregator

COMMAND = "hocket-aggregator"
PURPOSE = "Serves Hocket's aggregator until SIGTERM or Ctrl-C. Set by environment variables:"
DATA_HELP = (DATA_ROOTS, "folders of data that task files name, as PATH lists folders")
SWITCH_S = 0.0005
log = structlog.get_logger()


def main() -> int:
    """Serve until told to stop. Exit status 1: cannot start; 2: wrong settings or arguments."""
    return run_command(COMMAND, lambda: help_text(Settings, COMMAND, PURPOSE, DATA_HELP), _work)


def _work() -> None:
    settings = read_settings(Settings)
    logging.configure("aggregator", settings.log_level)
    uvloop.run(run(settings, set_up_task(settings)))


def set_up_task(settings: Settings) -> Setup:
    """The task with its model built. Raises TaskError."""
    # Torch takes seconds to import: wrong settings must not have to wait for it.
    import torch  # noqa: PLC0415 -- see above

    from hocket.task import default_task, load_task  # noqa: PLC0415 -- see above
    from hocket.task.setup import set_up  # noqa: PLC0415 -- see above

    # A step's thread asks for the interpreter a hundred times; each may take so long to be granted.
    sys.setswitchinterval(SWITCH_S)
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
    from hocket_aggregator.snapshots.keeper import Retention  # noqa: PLC0415 -- as in set_up_task

    limits = Limits(
        settings.staged_bytes_limit or setup.task.limits.staged_bytes,
        settings.staged_keep_s,
        settings.bases_in_memory,
        Retention(
            settings.snapshot_every_s,
            settings.snapshot_every_bytes,
            settings.snapshots_kept,
            settings.journal_kept_bytes,
        ),
    )
    chance = Stream(secrets.randbits(63), "reconnect").random
    gc.collect()
    gc.freeze()  # torch's and our own classes stay: nobody need look through them again
    async with open_channel(settings.registry) as channel:
        registry = RegistryClient(channel, settings.registry)
        around = Surroundings(
            settings.data_dir,
            WallClock(),
            chance,
            registry,
            limits,
            durable=settings.durability == "sync",
            database=settings.database,
            blobs=settings.blobs,
        )
        async with open_aggregator(setup, around) as aggregator:
            origin = str(settings.task.resolve()) if settings.task else ""
            Origin(origin, str(Path.cwd())).write(settings.data_dir)
            server = build_server(aggregator_service(aggregator.service))
            await _serve(settings, server, aggregator)


async def _serve(settings: Settings, server: Server, aggregator: Aggregator) -> None:
    from hocket.rpc.server import bind, serve  # noqa: PLC0415 -- as in set_up_task

    port = bind(server, settings.listen, "AGGREGATOR_LISTEN")
    address = f"{settings.listen.rpartition(':')[0]}:{port}"

    def announce() -> None:
        if settings.ready_file is not None:
            told: dict[str, str | int] = {"address": address, "port": port}
            write_ready(settings.ready_file, told, "AGGREGATOR_READY_FILE")
        log.info("serving", address=address, version=aggregator.core.newest.version)

    try:
        await serve(
            server,
            *aggregator.background(),
            on_ready=announce,
            on_drain=aggregator.end_streams,
        )
    finally:
        remove_ready(settings.ready_file)
    log.info("stopped", version=aggregator.core.newest.version)


if __name__ == "__main__":
    sys.exit(main())
