"""The registry's process: the one place that knows every concrete class."""

from __future__ import annotations

import secrets
import sys

import structlog
import uvloop

from hocket.core.chance import Stream
from hocket.hosting.command import run_command
from hocket.hosting.ready import remove_ready, write_ready
from hocket.hosting.settings import help_text, read_settings
from hocket.obs import logging
from hocket.rpc.server import Server, bind, build_server, registry_service, serve
from hocket.rpc.wall_clock import WallClock
from hocket_registry.registry import Registry, open_registry
from hocket_registry.settings import Settings

COMMAND = "hocket-registry"
PURPOSE = "Serves Hocket's registry until SIGTERM or Ctrl-C. Set by environment variables:"
log = structlog.get_logger()


def main() -> int:
    """Serve until told to stop. Exit status 1: cannot start; 2: wrong settings or arguments."""
    return run_command(COMMAND, lambda: help_text(Settings, COMMAND, PURPOSE), _work)


def _work() -> None:
    settings = read_settings(Settings)
    logging.configure("registry", settings.log_level)
    uvloop.run(run(settings))


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
            told: dict[str, str | int] = {"address": address, "port": port}
            write_ready(settings.ready_file, told, "REGISTRY_READY_FILE")
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
        remove_ready(settings.ready_file)
    log.info("stopped")


if __name__ == "__main__":
    sys.exit(main())
