"""aggregator.proto <-> core: an update's header, and what becomes of it."""

from __future__ import annotations

from collections.abc import Sequence

from hocket.core.ids import Version
from hocket.core.payload import PayloadHeader
from hocket.core.submodel import SubmodelSpec
from hocket.core.update import (
    Applied,
    Buffered,
    Dropped,
    DropReason,
    Outcome,
    RefreshReport,
    UpdateHeader,
)
from hocket.errors import InvalidRequest
from hocket.rpc.convert import checks
from hocket.rpc.convert.types import (
    caller_from_pb,
    payload_header_from_pb,
    payload_header_to_pb,
    spec_from_pb,
    spec_to_pb,
)
from hocket.v1 import aggregator_pb2 as pb
from hocket.v1 import types_pb2

MAX_CLASSES = 1 << 16


def push_header_to_pb(header: UpdateHeader, payload: PayloadHeader) -> pb.PushHeader:
    """The first message of a push."""
    message = pb.PushHeader(
        caller=types_pb2.Caller(device_id=header.device_id, incarnation=header.incarnation),
        update_id=header.update_id,
        base_version=header.base_version,
        num_examples=header.num_examples,
        num_steps=header.num_steps,
        learning_rate=header.learning_rate,
        train_loss=header.train_loss,
        train_loss_rms=header.train_loss_rms,
        train_s=header.train_s,
        spec=spec_to_pb(header.spec),
        payload=payload_header_to_pb(payload),
        labels=header.labels,
    )
    if header.refresh is not None:
        message.refresh.CopyFrom(refresh_report_to_pb(header.refresh))
    return message


def push_header_from_pb(message: pb.PushHeader) -> tuple[UpdateHeader, PayloadHeader]:
    """The first message of a push, checked field by field. Who the caller is remains to check."""
    caller = caller_from_pb(message.caller)
    header = UpdateHeader(
        update_id=checks.update_id("header.update_id", message.update_id),
        device_id=caller.device_id,
        incarnation=caller.incarnation,
        base_version=checks.version("header.base_version", message.base_version, least=1),
        num_examples=checks.count("header.num_examples", message.num_examples, least=1),
        num_steps=checks.count("header.num_steps", message.num_steps, least=1),
        learning_rate=checks.positive("header.learning_rate", message.learning_rate),
        train_loss=checks.real("header.train_loss", message.train_loss),
        train_loss_rms=checks.not_negative("header.train_loss_rms", message.train_loss_rms),
        train_s=checks.not_negative("header.train_s", message.train_s),
        spec=spec_from_pb(message.spec),
        refresh=refresh_report_from_pb(message.refresh) if message.HasField("refresh") else None,
        labels=labels_from_pb("header.labels", message.labels),
    )
    checks.present("header.payload", message.HasField("payload"))
    return header, payload_header_from_pb(message.payload)


def labels_from_pb(field: str, labels: Sequence[int]) -> tuple[int, ...]:
    """Whether the model has these classes is for the task to say."""
    checks.count(f"the number of {field}", len(labels), most=MAX_CLASSES)
    return tuple(labels)


def refresh_report_to_pb(report: RefreshReport) -> pb.RefreshReport:
    """A report on a merge in mid-training."""
    return pb.RefreshReport(slot=report.slot, version=report.version, reward=report.reward)


def refresh_report_from_pb(message: pb.RefreshReport) -> RefreshReport:
    """A report on a merge in mid-training."""
    return RefreshReport(
        checks.count("refresh.slot", message.slot, least=1),
        checks.version("refresh.version", message.version, least=1),
        checks.real("refresh.reward", message.reward),
    )


def outcome_to_pb(outcome: Outcome) -> pb.Outcome:
    """What became of an update."""
    match outcome:
        case Applied(version, weight, tau):
            return pb.Outcome(applied=pb.Outcome.Applied(version=version, weight=weight, tau=tau))
        case Buffered(version, weight, tau, fill, goal):
            return pb.Outcome(
                buffered=pb.Outcome.Buffered(
                    version=version, weight=weight, tau=tau, fill=fill, goal=goal
                )
            )
        case Dropped(reason, message, tau):
            return pb.Outcome(
                dropped=pb.Outcome.Dropped(
                    reason=pb.DropReason.ValueType(reason.value),
                    message=message[: checks.LONGEST_TEXT],
                    tau=tau,
                )
            )


def outcome_from_pb(message: pb.Outcome) -> Outcome:
    """What became of an update."""
    match message.WhichOneof("kind"):
        case "applied":
            applied = message.applied
            return Applied(*_step(applied))
        case "buffered":
            buffered = message.buffered
            return Buffered(
                *_step(buffered),
                fill=checks.count("outcome.fill", buffered.fill, least=1),
                goal=checks.count("outcome.goal", buffered.goal, least=1),
            )
        case "dropped":
            dropped = message.dropped
            return Dropped(
                checks.member("outcome.reason", dropped.reason, DropReason),
                checks.text("outcome.message", dropped.message),
                checks.count("outcome.tau", dropped.tau),
            )
    raise InvalidRequest(
        "outcome is missing: it must be applied, buffered or dropped", field="outcome"
    )


def pull_header_to_pb(
    version: Version, payload: PayloadHeader, spec: SubmodelSpec
) -> pb.PullModelResponse:
    """The first message of a model on its way to a device."""
    header = pb.PullModelResponse.Header(
        version=version, payload=payload_header_to_pb(payload), spec=spec_to_pb(spec)
    )
    return pb.PullModelResponse(header=header)


def pull_header_from_pb(
    message: pb.PullModelResponse.Header,
) -> tuple[Version, PayloadHeader, SubmodelSpec]:
    """The first message of a model on its way to a device."""
    return (
        checks.version("header.version", message.version, least=1),
        payload_header_from_pb(message.payload),
        spec_from_pb(message.spec),
    )


def _step(message: pb.Outcome.Applied | pb.Outcome.Buffered) -> tuple[Version, float, int]:
    return (
        checks.version("outcome.version", message.version, least=1),
        checks.real("outcome.weight", message.weight),
        checks.count("outcome.tau", message.tau),
    )
