"""A server as every Hocket service runs it: health, reflection, typed errors, a clean end."""

from __future__ import annotations

import asyncio
import errno
import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection

from hocket.errors import HocketError, StartupError
from hocket.rpc.channel import SERVER_OPTIONS
from hocket.rpc.interceptor import StatusInterceptor
from hocket.v1 import aggregator_pb2_grpc, registry_pb2_grpc

log = structlog.get_logger()

REGISTRY_SERVICE = "hocket.v1.RegistryService"
AGGREGATOR_SERVICE = "hocket.v1.AggregatorService"
GRACE_S = 10.0


@dataclass(frozen=True, slots=True)
class Registration:
    """A servicer under the full name of its service."""

    name: str
    add: Callable[[grpc.aio.Server], None]


def registry_service(servicer: registry_pb2_grpc.RegistryServiceServicer) -> Registration:
    """The registry's servicer, ready for `build_server`."""
    return Registration(
        REGISTRY_SERVICE,
        lambda server: registry_pb2_grpc.add_RegistryServiceServicer_to_server(servicer, server),
    )


def aggregator_service(servicer: aggregator_pb2_grpc.AggregatorServiceServicer) -> Registration:
    """The aggregator's servicer, ready for `build_server`."""
    return Registration(
        AGGREGATOR_SERVICE,
        lambda server: aggregator_pb2_grpc.add_AggregatorServiceServicer_to_server(
            servicer, server
        ),
    )


@dataclass(frozen=True, slots=True)
class Server:
    """A gRPC server and the health it reports."""

    grpc: grpc.aio.Server
    names: tuple[str, ...]
    health: health_aio.HealthServicer = field(default_factory=health_aio.HealthServicer)

    async def start(self) -> None:
        """Take calls, and say so."""
        await self.grpc.start()
        for name in ("", *self.names):
            await self.health.set(name, health_pb2.HealthCheckResponse.SERVING)

    async def stop(self, grace_s: float = GRACE_S) -> None:
        """Say NOT_SERVING, take no new calls, and give those under way `grace_s` to end."""
        await self.health.enter_graceful_shutdown()
        await self.grpc.stop(grace_s)


def build_server(*registrations: Registration) -> Server:
    """A server with these services, health and reflection. Bind it, then serve it."""
    grpc_server = grpc.aio.server(interceptors=[StatusInterceptor()], options=SERVER_OPTIONS)
    names = tuple(registration.name for registration in registrations)
    for registration in registrations:
        registration.add(grpc_server)
    server = Server(grpc_server, names)
    health_pb2_grpc.add_HealthServicer_to_server(server.health, grpc_server)
    known = (*names, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name)
    reflection.enable_server_reflection((*known, reflection.SERVICE_NAME), grpc_server)
    return server


def bind(server: Server, address: str, setting: str = "the listen setting") -> int:
    """Listen on `host:port` and return the port, which the system picks for port 0.

    Raises StartupError if the port is taken, naming `setting` as what to change.
    """
    _check_free(address, setting)
    try:
        return server.grpc.add_insecure_port(address)
    except RuntimeError as error:
        raise StartupError(f"cannot listen on {address}: check {setting} ({error})") from error


async def serve(
    server: Server,
    *background: Coroutine[Any, Any, None],
    on_ready: Callable[[], None] | None = None,
    on_drain: Callable[[], None] | None = None,
    stop: asyncio.Event | None = None,
    grace_s: float = GRACE_S,
) -> None:
    """Serve until SIGTERM, SIGINT or `stop`, then drain: health first, calls next, tasks last.

    `on_drain` is the moment for a servicer to end its endless streams; those that go on are cut
    off after `grace_s`. The background tasks run until the last call has ended, then they are
    cancelled. A crash in one of them stops the server and is raised here.
    """
    stop = stop or asyncio.Event()
    try:
        async with _signals_set(stop), asyncio.TaskGroup() as group:
            tasks = [group.create_task(task) for task in background]
            try:
                await server.start()
                if on_ready is not None:
                    on_ready()
                await stop.wait()
            finally:
                log.info("drain_started", grace_s=grace_s)
                if on_drain is not None:
                    on_drain()
                await server.stop(grace_s)
            for task in tasks:
                task.cancel()
    except BaseExceptionGroup as crashes:
        known = [crash for crash in crashes.exceptions if isinstance(crash, HocketError)]
        if len(crashes.exceptions) == 1 or len(known) == len(crashes.exceptions):
            raise crashes.exceptions[0] from None  # what failed first; the rest came of it
        raise


@asynccontextmanager
async def _signals_set(stop: asyncio.Event) -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    try:
        yield
    finally:
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(signum)


def _check_free(address: str, setting: str) -> None:
    """Ask the system first: gRPC says only that it failed, not why."""
    host, _, port = address.rpartition(":")
    if not port.isdecimal() or int(port) > 65535 or not host:
        raise StartupError(f"{address!r} is no host:port to listen on: correct {setting}")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family is socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            probe.bind((host, int(port)))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise StartupError(
                f"port {port} is in use: stop the other process, or choose another with {setting}"
            ) from error
        if error.errno == errno.EACCES:
            raise StartupError(
                f"port {port} is not for this user to take: choose one above 1023 with {setting}"
            ) from error
