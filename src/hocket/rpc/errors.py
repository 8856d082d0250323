"""Errors on the wire: a google.rpc.Status on the way out, the same HocketError on the way in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Final

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status as RichStatus
from grpc import StatusCode

from hocket import errors
from hocket.errors import HocketError, Overloaded, PayloadTooLarge, Unavailable

DOMAIN = "hocket"
DETAILS_KEY = "grpc-status-details-bin"
UNAVAILABLE_RETRY_S = 1.0
# A status travels in HTTP/2 trailers, of which gRPC takes 8 KiB, and the message goes twice.
MAX_MESSAGE_CHARS = 1000
MAX_DETAIL_CHARS = 200
MAX_DETAILS = 8
# How gRPC words a stream that ended under a write, or with its connection: as INTERNAL or UNKNOWN,
# not as UNAVAILABLE (grpc/grpc#34076).
BREAK_SIGNS = ("RST_STREAM", "Internal error from Core", "Stream removed")

STATUS: Final[Mapping[type[HocketError], StatusCode]] = {
    errors.HocketError: StatusCode.UNKNOWN,
    errors.InvalidUpdate: StatusCode.INVALID_ARGUMENT,
    errors.NotFinite: StatusCode.INVALID_ARGUMENT,
    errors.ShapeMismatch: StatusCode.INVALID_ARGUMENT,
    errors.CorruptPayload: StatusCode.INVALID_ARGUMENT,
    errors.PayloadTooLarge: StatusCode.OUT_OF_RANGE,
    errors.UnknownVersion: StatusCode.FAILED_PRECONDITION,
    errors.UpdateDropped: StatusCode.FAILED_PRECONDITION,
    errors.TooStale: StatusCode.FAILED_PRECONDITION,
    errors.UnknownDevice: StatusCode.FAILED_PRECONDITION,
    errors.StaleIncarnation: StatusCode.ABORTED,
    errors.Overloaded: StatusCode.RESOURCE_EXHAUSTED,
    errors.StorageFull: StatusCode.RESOURCE_EXHAUSTED,
    errors.Unavailable: StatusCode.UNAVAILABLE,
    errors.NotFound: StatusCode.NOT_FOUND,
    errors.InvalidRequest: StatusCode.INVALID_ARGUMENT,
    errors.TaskError: StatusCode.FAILED_PRECONDITION,
    errors.ModelError: StatusCode.FAILED_PRECONDITION,
    errors.DataError: StatusCode.FAILED_PRECONDITION,
    errors.StorageFailed: StatusCode.DATA_LOSS,
    errors.RulesFailed: StatusCode.INTERNAL,
    errors.CorruptState: StatusCode.DATA_LOSS,
    errors.StartupError: StatusCode.FAILED_PRECONDITION,
}
BY_REASON: Final[Mapping[str, type[HocketError]]] = {kind.reason: kind for kind in STATUS}


def rich_status(error: HocketError) -> RichStatus:
    """The error as google.rpc.Status: an ErrorInfo, and a RetryInfo where a retry makes sense."""
    status = RichStatus(code=_code(error).value[0], message=error.message[:MAX_MESSAGE_CHARS])
    metadata = {
        key: str(value)[:MAX_DETAIL_CHARS]
        for key, value in list(error.details.items())[:MAX_DETAILS]
    }
    _attach(status, ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata))
    retry_s = _retry_after_s(error)
    if retry_s is not None:
        delay = Duration()
        delay.FromNanoseconds(round(retry_s * 1e9))
        _attach(status, RetryInfo(retry_delay=delay))
    return status


def error_from(error: grpc.aio.AioRpcError, peer: str = "the service") -> HocketError:
    """The HocketError that the peer raised, or what the bare status code comes to.

    `peer` is who was called, for the message: "the registry at 127.0.0.1:50050".
    """
    status = _received_status(error)
    info, retry = ErrorInfo(), RetryInfo()
    with suppress(DecodeError):  # then the status code alone must do
        for detail in status.details:
            detail.Unpack(info)
            detail.Unpack(retry)
    kind = BY_REASON.get(info.reason) if info.domain == DOMAIN else None
    if kind is None:
        return _from_code(error.code(), error.details() or "", peer)
    if issubclass(kind, Overloaded):
        retry_s = max(0.0, retry.retry_delay.ToNanoseconds() / 1e9)
        return kind(status.message, retry_s, **info.metadata)
    return kind(status.message, **info.metadata)


def is_unclear(error: HocketError) -> bool:
    """Whether it leaves open what became of the call, which may have done all that it was to do.

    Such an error is of no kind: it carries no reason of Hocket's, or one that is not known here.
    """
    return type(error) is HocketError


@contextmanager
def speaking_to(peer: str) -> Iterator[None]:
    """Turn every AioRpcError raised inside into its HocketError."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise error_from(error, peer) from error


def _code(error: HocketError) -> StatusCode:
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def _retry_after_s(error: HocketError) -> float | None:
    if isinstance(error, Overloaded):
        return error.retry_after_s
    return UNAVAILABLE_RETRY_S if isinstance(error, Unavailable) else None


def _attach(status: RichStatus, detail: ErrorInfo | RetryInfo) -> None:
    packed = AnyMessage()
    packed.Pack(detail)
    status.details.append(packed)


def _received_status(error: grpc.aio.AioRpcError) -> RichStatus:
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            with suppress(DecodeError):
                return RichStatus.FromString(value)
    return RichStatus()


def _from_code(code: StatusCode, details: str, peer: str) -> HocketError:
    """What a status says that no Hocket service wrote: gRPC's own, a proxy's, a bug's."""
    kind: type[HocketError] = Unavailable
    match code:
        case StatusCode.UNAVAILABLE:
            message = f"cannot reach {peer}: is it running? ({details})"
        case StatusCode.DEADLINE_EXCEEDED:
            message = f"{peer} did not answer in time: try again later"
        case StatusCode.CANCELLED:
            message = f"{peer} broke the call off: try again"
        case StatusCode.INTERNAL | StatusCode.UNKNOWN if any(s in details for s in BREAK_SIGNS):
            message = f"the connection to {peer} broke: try again ({details})"
        case StatusCode.INTERNAL:
            kind, message = HocketError, f"{peer} failed: its log says why ({details})"
        case StatusCode.RESOURCE_EXHAUSTED if "larger than max" in details:
            kind, message = PayloadTooLarge, f"a message to or from {peer} is too large ({details})"
        case StatusCode.RESOURCE_EXHAUSTED:
            kind, message = Overloaded, f"{peer} is overloaded: try again later ({details})"
        case StatusCode.UNIMPLEMENTED:
            kind, message = HocketError, f"{peer} lacks this call: is it the right Hocket service?"
        case _:
            kind, message = HocketError, f"{peer} answered {code.name}: {details}"
    return kind(message)
