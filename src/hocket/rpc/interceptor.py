"""The server's side of errors: what a servicer raises becomes a status, and a bug is logged."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any, Final, TypeAlias

import grpc
import structlog
from grpc_status.rpc_status import to_status

from hocket.errors import HocketError
from hocket.rpc.errors import rich_status
from hocket.rpc.push_message import PUSH_METHOD, read_push

log = structlog.get_logger()

Context = grpc.aio.ServicerContext[Any, Any]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"  # generic in the stubs only
Details = grpc.HandlerCallDetails
Behaviour = Callable[[Any, Context], Any]

READERS: Final[Mapping[str, Callable[[bytes], Any]]] = {PUSH_METHOD: read_push}
"""Methods whose messages are not read by protobuf."""


class StatusInterceptor(grpc.aio.ServerInterceptor):
    """Wraps all four kinds of method, so that no servicer ever aborts a call itself.

    A HocketError is answered as its rich status. Cancellation passes through. Anything else is a
    bug: logged once with its traceback as "internal_error", answered INTERNAL "internal error".
    """

    async def intercept_service(
        self, continuation: Callable[[Details], Awaitable[Handler | None]], details: Details
    ) -> Handler | None:
        """The method's handler, wrapped."""
        handler = await continuation(details)
        if handler is None:
            return None
        method = str(details.method)
        wrapped: Any  # the stubs know the handlers of the threaded server only
        if handler.request_streaming and handler.response_streaming:
            wrapped, wrap = handler.stream_stream, grpc.stream_stream_rpc_method_handler
        elif handler.request_streaming:
            wrapped, wrap = handler.stream_unary, grpc.stream_unary_rpc_method_handler
        elif handler.response_streaming:
            wrapped, wrap = handler.unary_stream, grpc.unary_stream_rpc_method_handler
        else:
            wrapped, wrap = handler.unary_unary, grpc.unary_unary_rpc_method_handler
        answering = _answering_stream if handler.response_streaming else _answering
        read = READERS.get(method, handler.request_deserializer)
        return wrap(answering(method, wrapped), read, handler.response_serializer)


def _answering(method: str, behaviour: Behaviour) -> Behaviour:
    async def answer(request: Any, context: Context) -> Any:
        async with _as_status(method, context):
            return await behaviour(request, context)

    return answer


def _answering_stream(method: str, behaviour: Behaviour) -> Behaviour:
    """A stream's servicer may be an async generator, or a coroutine that writes to the context."""

    async def answer(request: Any, context: Context) -> None:
        async with _as_status(method, context):
            # A write to a caller that has gone away fails so. Nobody is left to tell.
            with suppress(grpc.aio.InternalError):
                await _write_all(behaviour(request, context), context)

    return answer


async def _write_all(answers: Any, context: Context) -> None:
    if isinstance(answers, Awaitable):
        await answers
        return
    # A generator left open would run its `finally` whenever the collector finds it.
    async with aclosing(answers):
        async for message in answers:
            await context.write(message)


@asynccontextmanager
async def _as_status(method: str, context: Context) -> AsyncIterator[None]:
    try:
        yield
    except HocketError as error:
        await context.abort_with_status(to_status(rich_status(error)))
    except grpc.aio.AbortError:  # gRPC's own services answer so
        raise
    except Exception:
        log.exception("internal_error", rpc=method)
        await context.abort(grpc.StatusCode.INTERNAL, "internal error")
