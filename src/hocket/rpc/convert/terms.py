"""aggregator.proto <-> core: the terms of a task, and what a subscriber is told."""

from __future__ import annotations

from hocket.core.payload import CodecId
from hocket.core.refresh import RefreshRules
from hocket.core.terms import (
    FULL_SIZE,
    PLAIN,
    EncodingTerms,
    Finished,
    LocalTerms,
    RefreshTerms,
    SizingTerms,
    TaskTerms,
    TrainingTerms,
    Trigger,
)
from hocket.errors import InvalidRequest
from hocket.rpc.chunks import MAX_CHUNK_BYTES
from hocket.rpc.convert import checks
from hocket.rpc.convert.types import MAX_LAYERS, manifest_from_pb, manifest_to_pb
from hocket.v1 import aggregator_pb2 as pb
from hocket.v1 import types_pb2

MAX_DROPOUT_ROWS = 10_000
MAX_LOCAL_VALUES = 32
LONGEST_LOCAL_NAME = 64
MASKS = ("off", "zero", "minus_infinity")  # by their numbers on the wire


def task_terms_to_pb(terms: TaskTerms) -> pb.GetTaskResponse:
    """The terms, with every codec accepted."""
    training, refresh = terms.training, terms.refresh
    return pb.GetTaskResponse(
        name=terms.name,
        manifest=manifest_to_pb(terms.manifest),
        training=pb.Training(
            local_epochs=training.local_epochs,
            batch_size=training.batch_size,
            learning_rate=training.learning_rate,
            momentum=training.momentum,
            weight_decay=training.weight_decay,
            gradient_clip_norm=training.gradient_clip_norm,
            rescale=training.rescale,
            local=pb.LocalRule(kind=training.local.kind, values=dict(training.local.values)),
            static_norm=training.static_norm,
            loss_mask=pb.LossMask.ValueType(MASKS.index(training.masked_loss)),
        ),
        encoding=pb.UpdateEncoding(
            codec=types_pb2.Codec.ValueType(terms.encoding.codec.value),
            topk_ratio=terms.encoding.topk_ratio,
            error_feedback=terms.encoding.error_feedback,
        ),
        accepted_codecs=[types_pb2.Codec.ValueType(codec.value) for codec in CodecId],
        refresh=pb.Refresh(
            enabled=refresh.enabled,
            mu_beta=refresh.rules.mu_beta,
            gamma0=refresh.rules.gamma0,
            upsilon0=refresh.rules.upsilon0,
            eta_gamma=refresh.rules.eta_gamma,
            eta_upsilon=refresh.rules.eta_upsilon,
            fixed_slot=refresh.fixed_slot,
        ),
        dropout=pb.DropoutTable(rows=[pb.DropoutTable.Row(drop=row) for row in terms.dropout_rows]),
        seed=terms.seed,
        max_update_bytes=terms.max_update_bytes,
        chunk_bytes=terms.chunk_bytes,
        staleness_limit=terms.staleness_limit,
        exchanges=terms.exchanges,
        sizing=pb.Sizing(
            kind=terms.sizing.kind,
            settings={
                name: pb.Sizing.Setting(values=values) for name, values in terms.sizing.values
            },
        ),
    )


def task_terms_from_pb(message: pb.GetTaskResponse) -> TaskTerms:
    """The terms, every number in its range."""
    checks.count("the number of dropout.rows", len(message.dropout.rows), most=MAX_DROPOUT_ROWS)
    return TaskTerms(
        name=checks.text("name", message.name),
        manifest=manifest_from_pb(message.manifest),
        training=_training(message.training),
        encoding=EncodingTerms(
            checks.member("encoding.codec", message.encoding.codec, CodecId),
            checks.positive_share("encoding.topk_ratio", message.encoding.topk_ratio),
            message.encoding.error_feedback,
        ),
        refresh=_refresh(message.refresh),
        dropout_rows=tuple(
            _row(f"dropout.rows[{at}]", row) for at, row in enumerate(message.dropout.rows)
        ),
        seed=checks.count("seed", message.seed),
        max_update_bytes=checks.count("max_update_bytes", message.max_update_bytes, least=1),
        chunk_bytes=checks.count("chunk_bytes", message.chunk_bytes, least=1, most=MAX_CHUNK_BYTES),
        staleness_limit=checks.count("staleness_limit", message.staleness_limit),
        exchanges=message.exchanges,
        sizing=_sizing(message.sizing),
    )


def event_to_pb(event: Trigger | Finished) -> pb.SubscribeResponse:
    """What a subscriber is told."""
    if isinstance(event, Finished):
        return pb.SubscribeResponse(finished=pb.Finished(reason=event.reason))
    return pb.SubscribeResponse(
        trigger=pb.Trigger(
            trigger_id=event.trigger_id,
            version=event.version,
            slot=event.slot,
            timeout_s=event.timeout_s,
        )
    )


def event_from_pb(message: pb.SubscribeResponse) -> Trigger | Finished:
    """What a subscriber is told."""
    match message.WhichOneof("event"):
        case "trigger":
            trigger = message.trigger
            return Trigger(
                checks.name("trigger.trigger_id", trigger.trigger_id, checks.LONGEST_ID),
                checks.version("trigger.version", trigger.version, least=1),
                checks.count("trigger.slot", trigger.slot),
                checks.positive("trigger.timeout_s", trigger.timeout_s),
            )
        case "finished":
            return Finished(checks.text("finished.reason", message.finished.reason))
    raise InvalidRequest("event is missing: it must be a trigger or finished", field="event")


def _training(message: pb.Training) -> TrainingTerms:
    return TrainingTerms(
        checks.count("training.local_epochs", message.local_epochs, least=1),
        checks.count("training.batch_size", message.batch_size, least=1),
        checks.positive("training.learning_rate", message.learning_rate),
        checks.not_negative("training.momentum", message.momentum),
        checks.not_negative("training.weight_decay", message.weight_decay),
        checks.not_negative("training.gradient_clip_norm", message.gradient_clip_norm),
        message.rescale,
        _local(message.local),
        message.static_norm,
        MASKS[checks.count("training.loss_mask", message.loss_mask, most=len(MASKS) - 1)],
    )


def _sizing(message: pb.Sizing) -> SizingTerms:
    """Whether a device knows the kind is for the device to say."""
    where = "sizing.settings"
    checks.count(f"the number of {where}", len(message.settings), most=MAX_LOCAL_VALUES)
    kind = checks.name("sizing.kind", message.kind or FULL_SIZE, LONGEST_LOCAL_NAME)
    found = []
    for name, setting in message.settings.items():
        checks.name(where, name, LONGEST_LOCAL_NAME)
        checks.count(f"the length of {where}[{name!r}]", len(setting.values), most=MAX_LAYERS)
        values = [checks.real(f"{where}[{name!r}]", value) for value in setting.values]
        found.append((name, tuple(values)))
    return SizingTerms(kind, tuple(sorted(found)))


def _local(message: pb.LocalRule) -> LocalTerms:
    """Whether a device knows the kind is for the device to say."""
    where = "training.local.values"
    checks.count(f"the number of {where}", len(message.values), most=MAX_LOCAL_VALUES)
    kind = checks.name("training.local.kind", message.kind or PLAIN, LONGEST_LOCAL_NAME)
    values = [
        (checks.name(where, name, LONGEST_LOCAL_NAME), checks.real(f"{where}[{name!r}]", value))
        for name, value in message.values.items()
    ]
    return LocalTerms(kind, tuple(sorted(values)))


def _refresh(message: pb.Refresh) -> RefreshTerms:
    """An absent message means no refresh; its numbers are then the defaults."""
    if not message.enabled and not message.mu_beta:
        return RefreshTerms()
    rules = RefreshRules(
        mu_beta=checks.positive("refresh.mu_beta", message.mu_beta),
        gamma0=checks.not_negative("refresh.gamma0", message.gamma0),
        upsilon0=checks.share("refresh.upsilon0", message.upsilon0),
        eta_gamma=checks.not_negative("refresh.eta_gamma", message.eta_gamma),
        eta_upsilon=checks.not_negative("refresh.eta_upsilon", message.eta_upsilon),
    )
    fixed_slot = checks.count("refresh.fixed_slot", message.fixed_slot)
    return RefreshTerms(message.enabled, rules, fixed_slot)


def _row(where: str, message: pb.DropoutTable.Row) -> tuple[float, ...]:
    checks.count(f"the length of {where}", len(message.drop), least=1, most=MAX_LAYERS)
    for drop in message.drop:
        checks.require(0 <= drop < 1, where, drop, "at least 0 and below 1")
    return tuple(message.drop)
