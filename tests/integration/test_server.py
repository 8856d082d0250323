from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from support.limits import LIMIT_S
from support.serving import serving

from hocket.errors import HocketError, StartupError, StorageFailed, Unavailable
from hocket.rpc.channel import open_channel
from hocket.rpc.probe import main, probe
from hocket.rpc.server import (
    AGGREGATOR_SERVICE,
    REGISTRY_SERVICE,
    Registration,
    aggregator_service,
    bind,
    build_server,
    registry_service,
    serve,
)
from hocket.v1 import aggregator_pb2_grpc, registry_pb2_grpc

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
EMPTY_REGISTRY: Any = registry_pb2_grpc.RegistryServiceServicer  # abstract to mypy only
EMPTY_AGGREGATOR: Any = aggregator_pb2_grpc.AggregatorServiceServicer
REGISTRY = registry_service(EMPTY_REGISTRY())
AGGREGATOR = aggregator_service(EMPTY_AGGREGATOR())


async def health(channel: grpc.aio.Channel, service: str) -> int:
    stub = health_pb2_grpc.HealthStub(channel)
    answer = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=LIMIT_S)
    return int(answer.status)


async def test_health_is_told_for_each_service_and_overall() -> None:
    async with serving(REGISTRY) as address, open_channel(address) as channel:
        assert await health(channel, "") == SERVING
        assert await health(channel, REGISTRY_SERVICE) == SERVING
        with pytest.raises(grpc.aio.AioRpcError) as unknown:
            await health(channel, AGGREGATOR_SERVICE)
    assert unknown.value.code() is grpc.StatusCode.NOT_FOUND


async def test_reflection_lists_the_services() -> None:
    async with serving(REGISTRY, AGGREGATOR) as address, open_channel(address) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        ask = reflection_pb2.ServerReflectionRequest(list_services="")
        answers = [answer async for answer in stub.ServerReflectionInfo(iter([ask]))]
    assert {service.name for service in answers[0].list_services_response.service} == {
        "hocket.v1.RegistryService",
        "hocket.v1.AggregatorService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }


@pytest.mark.parametrize("host", ["127.0.0.1", "[::]", "0.0.0.0"])  # noqa: S104 - what services do
async def test_a_port_in_use_says_what_to_do(host: str) -> None:
    if host == "[::]" and not socket.has_dualstack_ipv6():
        host = "0.0.0.0"  # noqa: S104 - likewise
    server = build_server(REGISTRY)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(StartupError, match=f"port {port} is in use.*--registry-port"):
            bind(server, f"{host}:{port}", "--registry-port")
    await server.stop(0)


async def test_two_servers_never_share_a_port() -> None:
    async with serving(REGISTRY) as address:
        second = build_server(AGGREGATOR)
        with pytest.raises(StartupError, match="in use"):
            bind(second, address)
        with pytest.raises(RuntimeError):  # and gRPC itself agrees
            second.grpc.add_insecure_port(address)
        await second.stop(0)


@pytest.mark.parametrize("address", ["localhost", ":1", "127.0.0.1:http", "127.0.0.1:65536"])
async def test_an_address_that_is_none_is_refused(address: str) -> None:
    server = build_server(REGISTRY)
    with pytest.raises(StartupError, match="no host:port"):
        bind(server, address)
    await server.stop(0)


class Work:
    """A service with one slow call; `begun` is set once it is under way, `end` lets it finish."""

    def __init__(self, on_done: Callable[[], None] = lambda: None) -> None:
        self.begun = asyncio.Event()
        self.end = asyncio.Event()
        self._on_done = on_done

    async def _call(self, _request: Any, _context: Any) -> bytes:
        self.begun.set()
        await self.end.wait()
        self._on_done()
        return b"done"

    @property
    def registration(self) -> Registration:
        handlers: dict[str, Any] = {"Call": grpc.unary_unary_rpc_method_handler(self._call)}
        generic = grpc.method_handlers_generic_handler("test.Work", handlers)
        return Registration("test.Work", lambda to: to.add_generic_rpc_handlers((generic,)))


def start_call(channel: Any) -> Any:
    return channel.unary_unary("/test.Work/Call")(b"")


async def test_sigterm_drains_health_first_calls_next_tasks_last() -> None:
    happened: list[str] = []
    work, ready = Work(lambda: happened.append("call done")), asyncio.Event()
    server = build_server(work.registration)
    port = bind(server, "127.0.0.1:0")

    async def background() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            happened.append("background cancelled")

    async with open_channel(f"127.0.0.1:{port}") as channel, asyncio.TaskGroup() as group:
        served = group.create_task(
            serve(
                server,
                background(),
                on_ready=ready.set,
                on_drain=lambda: happened.append("draining"),
            )
        )
        await ready.wait()
        watch = health_pb2_grpc.HealthStub(channel).Watch(
            health_pb2.HealthCheckRequest(service="test.Work")
        )
        seen = [(await watch.read()).status]
        call = group.create_task(_finish(channel))
        await work.begun.wait()

        os.kill(os.getpid(), signal.SIGTERM)
        seen.append((await watch.read()).status)  # the call under way is not cut off
        watch.cancel()
        assert not call.done()
        work.end.set()
        await served
    assert seen == [SERVING, NOT_SERVING]
    assert happened == ["draining", "call done", "background cancelled"]


async def _finish(channel: grpc.aio.Channel) -> None:
    assert await start_call(channel) == b"done"


async def test_a_call_that_never_ends_is_cut_off_after_the_grace() -> None:
    work, ready, stop = Work(), asyncio.Event(), asyncio.Event()
    server = build_server(work.registration)
    port = bind(server, "127.0.0.1:0")
    async with open_channel(f"127.0.0.1:{port}") as channel, asyncio.TaskGroup() as group:
        served = group.create_task(serve(server, on_ready=ready.set, stop=stop, grace_s=0.01))
        await ready.wait()
        call = start_call(channel)
        await work.begun.wait()
        stop.set()
        await served
        with pytest.raises(grpc.aio.AioRpcError) as cut:
            await call
    assert cut.value.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}


async def test_a_crash_in_the_background_ends_the_server_with_its_exception() -> None:
    server = build_server(REGISTRY)
    port = bind(server, "127.0.0.1:0")

    async def crash() -> None:
        await asyncio.sleep(0)
        raise ZeroDivisionError("the journal is gone")

    with pytest.raises(ZeroDivisionError, match="the journal is gone"):
        await serve(server, crash())
    with socket.socket() as free:  # nobody listens there any more
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind(("127.0.0.1", port))


async def test_of_two_failures_at_once_the_first_is_told() -> None:
    together = asyncio.Event()

    async def fail(error: HocketError) -> None:
        await together.wait()
        raise error

    server = build_server()
    bind(server, "127.0.0.1:0")
    with pytest.raises(StorageFailed, match="the disk is gone"):
        await serve(
            server,
            fail(StorageFailed("the disk is gone")),
            fail(Unavailable("shutting down")),
            on_ready=together.set,
        )


async def test_a_background_task_may_end_before_the_server() -> None:
    server, stop = build_server(REGISTRY), asyncio.Event()
    bind(server, "127.0.0.1:0")

    async def once() -> None:
        asyncio.get_running_loop().call_soon(stop.set)

    await serve(server, once(), stop=stop)


async def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for variable in ("grpc_proxy", "https_proxy", "http_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:1")
    for variable in ("no_grpc_proxy", "no_proxy"):
        monkeypatch.delenv(variable, raising=False)
    async with serving(REGISTRY) as address, open_channel(address) as channel:
        assert await health(channel, "") == SERVING
        assert await asyncio.to_thread(probe, address) == ""


async def test_the_probe_says_whether_a_service_serves() -> None:
    async with serving(REGISTRY) as address:
        assert await asyncio.to_thread(probe, address) == ""
        assert await asyncio.to_thread(main, [address, REGISTRY_SERVICE]) == 0
        unknown = await asyncio.to_thread(probe, address, AGGREGATOR_SERVICE)
    assert unknown == f"{address}: NOT_FOUND"
    gone = await asyncio.to_thread(probe, address)
    assert gone == f"{address}: UNAVAILABLE"


def test_the_probe_is_a_command_that_loads_little() -> None:
    script = (
        "import runpy, sys\n"
        "sys.argv = ['probe', '127.0.0.1:1']\n"
        "try:\n"
        "    runpy.run_module('hocket.rpc.probe', run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    print(end.code, sorted({'torch', 'numpy', 'structlog'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "1 []\n"
    assert done.stderr == "127.0.0.1:1: UNAVAILABLE\n"


def test_the_probe_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage" in capsys.readouterr().err
