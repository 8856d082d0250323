"""The registry's process: the one place that knows every concrete class."""

from __future__ import annotations

import json
import os
import secrets
import sys
from contextlib import suppress
from pathlib import Path

import structlog
import uvloop

from hocket.core.chance import Stream
from hocket.errors import StartupError
from hocket.obs import logging
from hocket.rpc.server import Server, bind, build_server, registry_service, serve
from hocket.rpc.wall_clock import WallClock
from hocket_registry.registry import Registry, open_registry
from hocket_registry.settings import Settings, WrongSettings, help_text, read_settings

COMMAND = "hocket-registry"
log = structlog.get_logger()


def main() -> int:
    """Serve until told to stop. Exit status 1: cannot start; 2: wrong settings or arguments."""
    if sys.argv[1:]:
        return _answer(sys.argv[1:])
    try:
        settings = read_settings()
        logging.configure("registry", settings.log_level)
        uvloop.run(run(settings))
    except WrongSettings as error:
        sys.stderr.write(f"{COMMAND}: {error}\n")
        return 2
    except StartupError as error:
        sys.stderr.write(f"{COMMAND}: {error}\n")
        return 1
    return 0


async def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Raises StartupError when that cannot begin."""
    # Names are drawn anew in each life, so that a lost data_dir gives out none a second time.
    ids = Stream(secrets.randbits(63), "device-ids")
    async with open_registry(settings, WallClock(), ids) as registry:
        server = build_server(registry_service(registry.service))
        await _serve(settings, server, registry)


async def _serve(settings: Settings, server: Server, registry: Registry) -> None:
    port = bind(server, settings.listen, "REGISTRY_LISTEN")
    address = f"{settings.listen.rpartition(':')[0]}:{port}"
    roster = registry.roster

    def announce() -> None:
        if settings.ready_file is not None:
            write_ready(settings.ready_file, address, port)
        log.info("serving", address=address, revision=roster.membership.revision)

    try:
        await serve(
            server,
            roster.expire_leases(),
            registry.writer.run(),
            on_ready=announce,
            on_drain=roster.end_watches,
        )
    finally:
        if settings.ready_file is not None:
            with suppress(OSError):  # where it could not be written, there is nothing to remove
                settings.ready_file.unlink(missing_ok=True)
    log.info("stopped")


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
            f"cannot write {file}: {error.strerror}; change REGISTRY_READY_FILE"
        ) from error


def _answer(arguments: list[str]) -> int:
    if arguments in (["--help"], ["-h"]):
        sys.stdout.write(help_text(COMMAND))
        return 0
    sys.stderr.write(f"{COMMAND}: takes no arguments but --help; settings are variables\n")
    return 2


if __name__ == "__main__":
    sys.exit(main())
