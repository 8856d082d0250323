from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
import structlog

from hocket.errors import NotFound
from hocket.rpc.interceptor import StatusInterceptor


class Gone:
    """The context of a caller that went away after `reads` messages."""

    def __init__(self, reads: int) -> None:
        self.left = reads

    async def write(self, message: bytes) -> None:
        assert message
        if not self.left:
            raise grpc.aio.InternalError("Failed to send")
        self.left -= 1


async def wrapped(behaviour: Any) -> Any:
    async def continuation(_details: Any) -> Any:
        return grpc.unary_stream_rpc_method_handler(behaviour)

    details: Any = SimpleNamespace(method="/test/Method")
    handler: Any = await StatusInterceptor().intercept_service(continuation, details)
    return handler.unary_stream


async def test_a_write_that_fails_closes_the_stream_and_is_no_bug() -> None:
    happened: list[str] = []

    async def endless(_request: Any, _context: Any) -> AsyncIterator[bytes]:
        try:
            while True:
                happened.append("made")
                yield b"message"
        finally:
            happened.append("closed")

    with structlog.testing.capture_logs() as lines:
        await (await wrapped(endless))(b"", Gone(reads=2))
    assert happened == ["made", "made", "made", "closed"]
    assert lines == []


async def test_a_stream_that_writes_itself_may_lose_its_caller_too() -> None:
    async def writes(_request: Any, context: Any) -> None:
        await context.write(b"message")

    with structlog.testing.capture_logs() as lines:
        await (await wrapped(writes))(b"", Gone(reads=0))
    assert lines == []


async def test_a_method_that_does_not_exist_stays_so() -> None:
    async def continuation(_details: Any) -> None:
        return None

    details: Any = SimpleNamespace(method="/test/Nothing")
    assert await StatusInterceptor().intercept_service(continuation, details) is None


async def test_a_typed_error_is_not_logged() -> None:
    class Aborted(Exception):
        pass

    class Context:
        async def abort_with_status(self, status: grpc.Status) -> None:
            assert status.code is grpc.StatusCode.NOT_FOUND
            raise Aborted

    async def fails(_request: Any, _context: Any) -> None:
        raise NotFound("no such version")

    with structlog.testing.capture_logs() as lines, pytest.raises(Aborted):
        await (await wrapped(fails))(b"", Context())
    assert lines == []
