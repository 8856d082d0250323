"""The client's half of the two transfers: a model coming in, an update going out."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

import grpc

from hocket.core.ids import Version
from hocket.core.payload import Payload
from hocket.core.submodel import SubmodelSpec
from hocket.core.update import Applied, Buffered, Dropped, DropReason, Outcome, UpdateHeader
from hocket.errors import (
    CorruptPayload,
    HocketError,
    InvalidRequest,
    TooStale,
    Unavailable,
    UpdateDropped,
)
from hocket.rpc import convert
from hocket.rpc.chunks import Assembler, pieces
from hocket.rpc.convert import checks
from hocket.rpc.push_message import Chunk
from hocket.v1 import aggregator_pb2 as pb

PullCall = grpc.aio.UnaryStreamCall[pb.PullModelRequest, pb.PullModelResponse]
PushMessage = Chunk | pb.PushUpdateRequest
PushCall = grpc.aio.StreamStreamCall[PushMessage, pb.PushUpdateResponse]


class Pacer(Protocol):
    """Holds a transfer to a rate. Awaited once for each chunk, in both directions."""

    async def take(self, num_bytes: int) -> None:
        """Return once `num_bytes` may pass."""
        ...


class Unpaced:
    """As fast as the link carries."""

    async def take(self, num_bytes: int) -> None:
        """Return at once."""


@dataclass(frozen=True, slots=True)
class PulledModel:
    """A model as it came: raw float32 tensors of `spec`, and what the transfer took."""

    version: Version
    spec: SubmodelSpec
    payload: Payload
    num_bytes: int
    seconds: float  # from the header to the last byte


@dataclass(frozen=True, slots=True)
class Pushed:
    """What became of an update, and what the transfer took. No bytes: it had arrived before."""

    outcome: Outcome
    num_bytes: int
    seconds: float  # from the go-ahead to the outcome

    def accepted(self) -> Applied | Buffered:
        """The outcome of an update that is used; raises TooStale or UpdateDropped for others."""
        match self.outcome:
            case Dropped(DropReason.TOO_STALE, message, tau):
                raise TooStale(message, tau=str(tau))
            case Dropped(reason, message):
                raise UpdateDropped(message, drop_reason=reason.name)
            case used:
                return used


async def receive_model(call: PullCall, limit_bytes: int, pace: Pacer) -> PulledModel | None:
    """Read a PullModel stream to its end; None if the server answered `unchanged`.

    Raises PayloadTooLarge before any memory is taken, CorruptPayload, and AioRpcError.
    """
    messages = aiter(call)
    first = await anext(messages, None)
    if first is None:
        raise Unavailable("the model's stream ended before it began: pull again")
    match first.WhichOneof("part"):
        case "unchanged":
            return None
        case "header":
            version, header, spec = convert.pull_header_from_pb(first.header)
        case other:
            raise CorruptPayload(f"the model's stream began with {other}, not a header: pull again")
    assembler = Assembler(header, limit_bytes)
    began_s = _now()
    async for message in messages:
        await pace.take(len(message.chunk.data))
        assembler.add(message.chunk)
    return PulledModel(version, spec, assembler.finish(), assembler.received, _now() - began_s)


async def send_update(
    call: PushCall, header: UpdateHeader, payload: Payload, pace: Pacer
) -> Pushed:
    """Offer an update on a PushUpdate stream and see it through to its outcome.

    Raises Unavailable when the stream ends without one, HocketError of no kind for one that makes
    no sense, and AioRpcError.
    """
    opening = convert.push_header_to_pb(header, payload.header)
    await _write(call, pb.PushUpdateRequest(header=opening))
    answer = await _answer(call)
    if answer.WhichOneof("answer") == "outcome":
        return Pushed(_outcome(answer), 0, 0.0)
    began_s, start = _now(), answer.resume_offset
    with _understood():
        checks.count("resume_offset", start, most=payload.header.wire_bytes)
    for chunk in pieces(payload.body, start):
        await pace.take(len(chunk.data))
        await _write(call, chunk)
    await call.done_writing()
    outcome = _outcome(await _answer(call))
    return Pushed(outcome, payload.header.wire_bytes - start, _now() - began_s)


def _outcome(answer: pb.PushUpdateResponse) -> Outcome:
    with _understood():
        checks.present("outcome", answer.WhichOneof("answer") == "outcome")
        return convert.outcome_from_pb(answer.outcome)


@contextmanager
def _understood() -> Iterator[None]:
    """An answer that makes no sense here, a newer Hocket's perhaps, is no word against the update.

    Raises HocketError of no kind then: see `is_unclear`.
    """
    try:
        yield
    except InvalidRequest as error:
        raise HocketError(
            f"the aggregator's answer to a push cannot be read here ({error.message}); compare the "
            "versions of Hocket on both sides"
        ) from error


async def _write(call: PushCall, message: PushMessage) -> None:
    """Write, unless the server has ended the call already: the next read then says why."""
    with suppress(asyncio.InvalidStateError):
        await call.write(message)


async def _answer(call: PushCall) -> pb.PushUpdateResponse:
    answer = await call.read()
    if isinstance(answer, pb.PushUpdateResponse):
        return answer
    raise Unavailable("the push ended without an outcome: push again with the same update_id")


def _now() -> float:
    return asyncio.get_running_loop().time()
