"""aggregator.proto <-> core: what the aggregator remembers, for people and for tools."""

from __future__ import annotations

from hocket.core.records import (
    DevicePhase,
    DeviceStatus,
    Evaluation,
    Status,
    UpdateRecord,
    VersionRecord,
)
from hocket.core.update import UpdateHeader
from hocket.rpc.convert import checks
from hocket.rpc.convert.types import spec_from_pb, spec_to_pb
from hocket.rpc.convert.update import (
    labels_from_pb,
    outcome_from_pb,
    outcome_to_pb,
    refresh_report_from_pb,
    refresh_report_to_pb,
)
from hocket.v1 import aggregator_pb2 as pb

LONGEST_DIGEST = 64
LONGEST_NAME = 200


def version_record_to_pb(record: VersionRecord) -> pb.VersionInfo:
    """A version's record."""
    message = pb.VersionInfo(
        version=record.version,
        parent=record.parent,
        digest=record.digest,
        created_unix_s=record.created_unix_s,
        update_ids=record.update_ids,
        retained=record.retained,
    )
    if record.evaluation is not None:
        message.evaluated = True
        message.test_loss = record.evaluation.test_loss
        message.test_accuracy = record.evaluation.test_accuracy
    return message


def version_record_from_pb(message: pb.VersionInfo) -> VersionRecord:
    """A version's record."""
    return VersionRecord(
        checks.version("version.version", message.version, least=1),
        checks.version("version.parent", message.parent),
        checks.text("version.digest", message.digest, LONGEST_DIGEST),
        checks.not_negative("version.created_unix_s", message.created_unix_s),
        tuple(checks.update_id("version.update_ids", each) for each in message.update_ids),
        _evaluation(message),
        message.retained,
    )


def update_record_to_pb(record: UpdateRecord) -> pb.UpdateInfo:
    """An update's record."""
    header = record.header
    message = pb.UpdateInfo(
        update_id=header.update_id,
        device_id=header.device_id,
        incarnation=header.incarnation,
        base_version=header.base_version,
        num_examples=header.num_examples,
        num_steps=header.num_steps,
        learning_rate=header.learning_rate,
        train_loss=header.train_loss,
        train_loss_rms=header.train_loss_rms,
        train_s=header.train_s,
        spec=spec_to_pb(header.spec),
        labels=header.labels,
        outcome=outcome_to_pb(record.outcome),
        wire_bytes=record.wire_bytes,
        dense_bytes=record.dense_bytes,
        codec=record.codec,
        received_unix_s=record.received_unix_s,
    )
    if header.refresh is not None:
        message.refresh.CopyFrom(refresh_report_to_pb(header.refresh))
    return message


def update_record_from_pb(message: pb.UpdateInfo) -> UpdateRecord:
    """An update's record."""
    header = UpdateHeader(
        update_id=checks.update_id("update.update_id", message.update_id),
        device_id=checks.device_id("update.device_id", message.device_id),
        incarnation=checks.incarnation("update.incarnation", message.incarnation),
        base_version=checks.version("update.base_version", message.base_version, least=1),
        num_examples=checks.count("update.num_examples", message.num_examples, least=1),
        num_steps=checks.count("update.num_steps", message.num_steps, least=1),
        learning_rate=checks.positive("update.learning_rate", message.learning_rate),
        train_loss=checks.real("update.train_loss", message.train_loss),
        train_loss_rms=checks.not_negative("update.train_loss_rms", message.train_loss_rms),
        train_s=checks.not_negative("update.train_s", message.train_s),
        spec=spec_from_pb(message.spec),
        refresh=refresh_report_from_pb(message.refresh) if message.HasField("refresh") else None,
        labels=labels_from_pb("update.labels", message.labels),
    )
    return UpdateRecord(
        header,
        outcome_from_pb(message.outcome),
        checks.count("update.wire_bytes", message.wire_bytes),
        checks.count("update.dense_bytes", message.dense_bytes),
        checks.text("update.codec", message.codec, LONGEST_NAME),
        checks.not_negative("update.received_unix_s", message.received_unix_s),
    )


def device_status_to_pb(status: DeviceStatus) -> pb.DeviceStatus:
    """One device's part in the task."""
    return pb.DeviceStatus(
        device_id=status.device_id,
        phase=pb.DevicePhase.ValueType(status.phase.value),
        base_version=status.base_version,
        updates_accepted=status.updates_accepted,
        updates_rejected=status.updates_rejected,
        wire_bytes=status.wire_bytes,
        dense_bytes=status.dense_bytes,
        last_train_loss=status.last_train_loss,
        last_weight=status.last_weight,
        last_tau=status.last_tau,
        in_phase_s=status.in_phase_s,
        spec=None if status.spec is None else spec_to_pb(status.spec),
        why=status.why,
    )


def device_status_from_pb(message: pb.DeviceStatus) -> DeviceStatus:
    """One device's part in the task."""
    return DeviceStatus(
        checks.device_id("device.device_id", message.device_id),
        checks.member("device.phase", message.phase, DevicePhase),
        checks.version("device.base_version", message.base_version),
        checks.count("device.updates_accepted", message.updates_accepted),
        checks.count("device.updates_rejected", message.updates_rejected),
        checks.count("device.wire_bytes", message.wire_bytes),
        checks.count("device.dense_bytes", message.dense_bytes),
        checks.real("device.last_train_loss", message.last_train_loss),
        checks.real("device.last_weight", message.last_weight),
        checks.count("device.last_tau", message.last_tau),
        checks.not_negative("device.in_phase_s", message.in_phase_s),
        spec_from_pb(message.spec) if message.HasField("spec") else None,
        checks.line("device.why", message.why, checks.LONGEST_WHY),
    )


def status_to_pb(status: Status) -> pb.GetStatusResponse:
    """Where the task stands."""
    message = pb.GetStatusResponse(
        task=status.task,
        strategy=status.strategy,
        version=status.version,
        digest=status.digest,
        finished=bool(status.finished_reason),
        finished_reason=status.finished_reason,
        uptime_s=status.uptime_s,
        first_version_s=status.first_version_s,
        updates_accepted=status.updates_accepted,
        updates_rejected=status.updates_rejected,
        bytes_pushed=status.bytes_pushed,
        bytes_dense_equivalent=status.bytes_dense_equivalent,
        bytes_pulled=status.bytes_pulled,
        evaluated_version=status.evaluated_version,
        devices=map(device_status_to_pb, status.devices),
    )
    if status.evaluation is not None:
        message.evaluated = True
        message.test_loss = status.evaluation.test_loss
        message.test_accuracy = status.evaluation.test_accuracy
    return message


def status_from_pb(message: pb.GetStatusResponse) -> Status:
    """Where the task stands."""
    return Status(
        task=checks.text("task", message.task),
        strategy=checks.text("strategy", message.strategy, LONGEST_NAME),
        version=checks.version("version", message.version, least=1),
        digest=checks.text("digest", message.digest, LONGEST_DIGEST),
        finished_reason=checks.text("finished_reason", message.finished_reason),
        uptime_s=checks.not_negative("uptime_s", message.uptime_s),
        first_version_s=checks.not_negative("first_version_s", message.first_version_s),
        updates_accepted=checks.count("updates_accepted", message.updates_accepted),
        updates_rejected=checks.count("updates_rejected", message.updates_rejected),
        bytes_pushed=checks.count("bytes_pushed", message.bytes_pushed),
        bytes_dense_equivalent=checks.count(
            "bytes_dense_equivalent", message.bytes_dense_equivalent
        ),
        bytes_pulled=checks.count("bytes_pulled", message.bytes_pulled),
        evaluated_version=checks.version("evaluated_version", message.evaluated_version),
        evaluation=_evaluation(message),
        devices=tuple(map(device_status_from_pb, message.devices)),
    )


def _evaluation(message: pb.VersionInfo | pb.GetStatusResponse) -> Evaluation | None:
    if not message.evaluated:
        return None
    return Evaluation(
        checks.real("test_loss", message.test_loss),
        checks.share("test_accuracy", message.test_accuracy),
    )
