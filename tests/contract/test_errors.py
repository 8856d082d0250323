from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest
import structlog
from grpc_status import rpc_status
from support.serving import serving

from hocket import errors
from hocket.errors import CorruptPayload, HocketError, NotFound, Overloaded, Unavailable
from hocket.rpc.channel import open_channel
from hocket.rpc.errors import (
    BY_REASON,
    MAX_MESSAGE_CHARS,
    STATUS,
    error_from,
    is_unclear,
    speaking_to,
)
from hocket.rpc.server import Registration

EVERY_ERROR = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, HocketError) and kind.__module__ == errors.__name__
]
KINDS = ["unary_unary", "unary_stream", "stream_unary", "stream_stream"]
Raise = Callable[[], None]


def faulty(fail: Raise) -> Registration:
    """One method of each kind, and a stream that writes to its context; each fails with `fail`."""

    async def unary(_request: Any, _context: Any) -> bytes:
        fail()
        return b"done"

    async def stream(_request: Any, _context: Any) -> AsyncIterator[bytes]:
        yield b"one"
        fail()
        yield b"two"

    async def writes(_request: Any, context: Any) -> None:
        await context.write(b"one")
        fail()

    handlers: dict[str, Any] = {
        "unary_unary": grpc.unary_unary_rpc_method_handler(unary),
        "unary_stream": grpc.unary_stream_rpc_method_handler(stream),
        "stream_unary": grpc.stream_unary_rpc_method_handler(unary),
        "stream_stream": grpc.stream_stream_rpc_method_handler(stream),
        "writes": grpc.unary_stream_rpc_method_handler(writes),
    }
    generic = grpc.method_handlers_generic_handler("test.Faulty", handlers)
    return Registration("test.Faulty", lambda server: server.add_generic_rpc_handlers((generic,)))


def raising(error: BaseException) -> Raise:
    def fail() -> None:
        raise error

    return fail


async def call(address: str, method: str) -> list[bytes]:
    """Every answer; raises AioRpcError."""
    async with open_channel(address) as opened:
        channel: Any = opened  # methods without messages are nothing that the stubs can type
        path = f"/test.Faulty/{method}"
        if method == "unary_unary":
            return [await channel.unary_unary(path)(b"")]
        if method == "stream_unary":
            return [await channel.stream_unary(path)(iter([b""]))]
        if method == "stream_stream":
            return [each async for each in channel.stream_stream(path)(iter([b""]))]
        return [each async for each in channel.unary_stream(path)(b"")]


def test_every_error_has_a_status_and_a_reason_of_its_own() -> None:
    assert set(STATUS) == set(EVERY_ERROR)
    assert len(BY_REASON) == len(EVERY_ERROR)
    assert grpc.StatusCode.OK not in STATUS.values()


def test_what_the_table_retries_is_what_heals_by_itself() -> None:
    """Clients in other languages retry by code alone."""
    retried = {kind for kind, code in STATUS.items() if code is grpc.StatusCode.UNAVAILABLE}
    assert retried == {Unavailable}


@pytest.mark.parametrize("kind", EVERY_ERROR, ids=lambda kind: kind.__name__)
async def test_an_error_crosses_the_wire_as_itself(kind: type[HocketError]) -> None:
    sent = kind("tensor ü.weight is wrong: 100 % of it\nfix it", field="a.b", where="näh")
    async with serving(faulty(raising(sent))) as address:
        with pytest.raises(HocketError) as caught, speaking_to("the test"):
            await call(address, "unary_unary")
    assert type(caught.value) is kind
    assert caught.value.message == sent.message
    assert caught.value.details == {"field": "a.b", "where": "näh"}
    assert is_unclear(caught.value) == (kind is HocketError)


@pytest.mark.parametrize("method", [*KINDS, "writes"])
async def test_all_kinds_of_method_answer_typed_errors(method: str) -> None:
    async with serving(faulty(raising(CorruptPayload("no sum", offset="3")))) as address:
        with pytest.raises(CorruptPayload, match="no sum") as caught, speaking_to("the test"):
            await call(address, method)
    assert caught.value.details == {"offset": "3"}


@pytest.mark.parametrize("method", [*KINDS, "writes"])
async def test_all_kinds_of_method_answer_when_nothing_fails(method: str) -> None:
    expected = {"writes": [b"one"], "unary_unary": [b"done"], "stream_unary": [b"done"]}
    async with serving(faulty(lambda: None)) as address:
        assert await call(address, method) == expected.get(method, [b"one", b"two"])


@pytest.mark.parametrize("method", KINDS)
async def test_a_bug_is_logged_once_and_tells_the_caller_nothing(method: str) -> None:
    with structlog.testing.capture_logs() as lines:
        async with serving(faulty(raising(ZeroDivisionError("secret path")))) as address:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call(address, method)
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert caught.value.details() == "internal error"
    bugs = [line for line in lines if line["event"] == "internal_error"]
    assert [(bug["rpc"], bug["exc_info"]) for bug in bugs] == [(f"/test.Faulty/{method}", True)]
    assert type(error_from(caught.value)) is HocketError


async def test_a_caller_that_goes_away_is_no_bug_and_its_stream_is_closed() -> None:
    closed = asyncio.Event()

    async def endless(_request: Any, _context: Any) -> AsyncIterator[bytes]:
        try:
            while True:
                yield bytes(1024 * 1024)  # soon waits for a reader, in the midst of a write
        finally:
            closed.set()

    handlers: dict[str, Any] = {"unary_stream": grpc.unary_stream_rpc_method_handler(endless)}
    generic = grpc.method_handlers_generic_handler("test.Faulty", handlers)
    service = Registration("test.Faulty", lambda to: to.add_generic_rpc_handlers((generic,)))
    with structlog.testing.capture_logs() as lines:
        async with serving(service) as address, open_channel(address) as opened:
            channel: Any = opened
            stream = channel.unary_stream("/test.Faulty/unary_stream")(b"")
            assert len(await stream.read()) == 1024 * 1024
            stream.cancel()
            await closed.wait()
    assert lines == []


async def test_a_retry_time_crosses_the_wire() -> None:
    async with serving(faulty(raising(Overloaded("busy", 2.5, queue="9")))) as address:
        with pytest.raises(Overloaded) as caught, speaking_to("the test"):
            await call(address, "unary_unary")
    assert caught.value.retry_after_s == 2.5
    assert caught.value.details == {"queue": "9"}


async def test_other_clients_find_googles_rich_status() -> None:
    async with serving(faulty(raising(Unavailable("going down")))) as address:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(address, "unary_unary")
    status = rpc_status.from_call(caught.value)
    assert status is not None
    assert status.message == "going down"
    assert [detail.TypeName() for detail in status.details] == [
        "google.rpc.ErrorInfo",
        "google.rpc.RetryInfo",
    ]


async def test_a_message_too_long_for_a_status_is_cut_not_lost() -> None:
    sent = NotFound("é" * 50_000, where="ü" * 50_000)
    async with serving(faulty(raising(sent))) as address:
        with pytest.raises(NotFound) as caught, speaking_to("the test"):
            await call(address, "unary_unary")
    assert caught.value.message == "é" * MAX_MESSAGE_CHARS


async def test_an_error_of_a_newer_service_comes_back_as_its_nearest_kin() -> None:
    class Brittle(CorruptPayload):
        reason = "BRITTLE"

    async with serving(faulty(raising(Brittle("too brittle")))) as address:
        with (
            pytest.raises(HocketError, match="INVALID_ARGUMENT: too brittle") as caught,
            speaking_to("it"),
        ):
            await call(address, "unary_unary")
    assert is_unclear(caught.value)


@pytest.mark.parametrize("method", KINDS)
async def test_nobody_there_says_who_and_asks_the_question(method: str) -> None:
    async with serving() as address:
        pass
    question = "cannot reach the test: is it running"
    with pytest.raises(Unavailable, match=question), speaking_to("the test"):
        await call(address, method)


async def test_a_service_that_lacks_the_method_says_so() -> None:
    async with serving() as address:
        with pytest.raises(HocketError, match="lacks this call"), speaking_to("the test"):
            await call(address, "unary_unary")


@pytest.mark.parametrize(
    ("code", "details", "kind"),
    [
        (grpc.StatusCode.DEADLINE_EXCEEDED, "", Unavailable),
        (grpc.StatusCode.CANCELLED, "", Unavailable),
        (grpc.StatusCode.INTERNAL, "Received RST_STREAM with error code 2", Unavailable),
        (grpc.StatusCode.INTERNAL, "Internal error from Core", Unavailable),
        (grpc.StatusCode.UNKNOWN, "Stream removed", Unavailable),
        (grpc.StatusCode.UNKNOWN, "a proxy's", HocketError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "quota", Overloaded),
        (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "CLIENT: Received message larger than max (5 vs. 4)",
            errors.PayloadTooLarge,
        ),
        (grpc.StatusCode.PERMISSION_DENIED, "proxy", HocketError),
    ],
)
def test_statuses_that_no_hocket_service_wrote_are_read_too(
    code: grpc.StatusCode, details: str, kind: type[HocketError]
) -> None:
    bare = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details=details)
    assert type(error_from(bare)) is kind
    assert is_unclear(error_from(bare)) == (kind is HocketError)
