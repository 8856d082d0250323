"""Headers and outcomes as plain JSON values, for what is stored, and back with every check.

What comes back was stored by this very code, but a disk may have changed it: whatever is missing,
of another type or out of range raises ValueError that names the field.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, NoReturn

from hocket.core.ids import DeviceId, Incarnation, UpdateId, Version
from hocket.core.payload import CodecId, Packing, PayloadHeader, TensorHeader
from hocket.core.submodel import ChannelRule, SubmodelSpec
from hocket.core.update import (
    Applied,
    Buffered,
    Dropped,
    DropReason,
    Outcome,
    RefreshReport,
    UpdateHeader,
)

LARGEST = 2**64 - 1  # what the wire's whole numbers hold

Values = Mapping[str, Any]


def compact_json(value: Any) -> str:
    """Compact, and strict: the checks let no NaN through."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def object_of(text: bytes) -> dict[str, Any]:
    """An object; raises ValueError for anything else."""
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return values(value, "the whole")


def header_values(header: UpdateHeader) -> dict[str, Any]:
    """An update's header; the names are also the columns of its table."""
    return {
        "update_id": header.update_id,
        "device_id": header.device_id,
        "incarnation": header.incarnation,
        "base_version": header.base_version,
        "num_examples": header.num_examples,
        "num_steps": header.num_steps,
        "learning_rate": header.learning_rate,
        "train_loss": header.train_loss,
        "train_loss_rms": header.train_loss_rms,
        "train_s": header.train_s,
        "spec": asdict(header.spec),
        "refresh": None if header.refresh is None else asdict(header.refresh),
        "labels": list(header.labels) or None,
    }


def header_of(stored: Values) -> UpdateHeader:
    """The header of its values."""
    return UpdateHeader(
        update_id=UpdateId(text(stored, "update_id")),
        device_id=DeviceId(text(stored, "device_id")),
        incarnation=Incarnation(count(stored, "incarnation")),
        base_version=Version(count(stored, "base_version")),
        num_examples=count(stored, "num_examples"),
        num_steps=count(stored, "num_steps"),
        learning_rate=real(stored, "learning_rate"),
        train_loss=real(stored, "train_loss"),
        train_loss_rms=real({"train_loss_rms": 0.0, **stored}, "train_loss_rms"),  # 0: an older one
        train_s=real(stored, "train_s"),
        spec=spec_of(values(_field(stored, "spec"), "spec")),
        refresh=_refresh_of(_field(stored, "refresh")),
        labels=_labels_of(stored.get("labels")),  # None: an older one, or of all classes
    )


def payload_values(payload: PayloadHeader) -> dict[str, Any]:
    """A payload's header; each tensor as [name, shape, codec, encoded bytes]."""
    return {
        "tensors": [[t.name, t.shape, t.codec, t.encoded_bytes] for t in payload.tensors],
        "packing": payload.packing,
        "wire_bytes": payload.wire_bytes,
        "checksum": payload.checksum,
    }


def payload_of(stored: Values) -> PayloadHeader:
    """The payload's header of its values."""
    checksum = _field(stored, "checksum")
    return PayloadHeader(
        tuple(_tensor_of(tensor) for tensor in _items(stored, "tensors")),
        Packing(count(stored, "packing")),
        count(stored, "wire_bytes"),
        None if checksum is None else count(stored, "checksum"),
    )


def outcome_values(outcome: Outcome) -> dict[str, Any]:
    """What became of an update, with the name of its kind."""
    return {"kind": type(outcome).__name__, **asdict(outcome)}


def outcome_of(stored: Values) -> Outcome:
    """What became of an update."""
    kind, tau = text(stored, "kind"), count(stored, "tau")
    if kind == Dropped.__name__:
        return Dropped(DropReason(count(stored, "reason")), text(stored, "message"), tau)
    version, weight = Version(count(stored, "version")), real(stored, "weight")
    if kind == Applied.__name__:
        return Applied(version, weight, tau)
    if kind == Buffered.__name__:
        return Buffered(version, weight, tau, count(stored, "fill"), count(stored, "goal"))
    raise ValueError(f"kind is {kind[:40]!r}, which no outcome has")


def values(value: object, name: str) -> dict[str, Any]:
    """A JSON object."""
    return value if isinstance(value, dict) else _wrong(name, value, "an object")


def text(stored: Values, name: str) -> str:
    """A field that holds text."""
    value = _field(stored, name)
    return value if isinstance(value, str) else _wrong(name, value, "text")


def count(stored: Values, name: str) -> int:
    """A field that holds a whole number from 0 to 2**64 - 1."""
    return _whole(_field(stored, name), name)


def real(stored: Values, name: str) -> float:
    """A field that holds a finite number."""
    return _finite(_field(stored, name), name)


def spec_of(stored: Values) -> SubmodelSpec:
    """From `asdict` of one. Raises ValueError."""
    keep = tuple(_finite(share, "keep") for share in _items(stored, "keep"))
    return SubmodelSpec(keep, ChannelRule(count(stored, "rule")), count(stored, "seed"))


def _refresh_of(stored: object) -> RefreshReport | None:
    if stored is None:
        return None
    report = values(stored, "refresh")
    return RefreshReport(
        count(report, "slot"), Version(count(report, "version")), real(report, "reward")
    )


def _labels_of(stored: object) -> tuple[int, ...]:
    if stored is None:
        return ()
    if isinstance(stored, list):
        return tuple(_whole(label, "labels") for label in stored)
    return _wrong("labels", stored, "a list")


def _tensor_of(stored: object) -> TensorHeader:
    match stored:
        case [str(name), [*shape], codec, encoded_bytes]:
            return TensorHeader(
                name,
                tuple(_whole(size, "shape") for size in shape),
                CodecId(_whole(codec, "codec")),
                _whole(encoded_bytes, "encoded_bytes"),
            )
    return _wrong("tensors", stored, "lists of name, shape, codec and encoded bytes")


def _field(stored: Values, name: str) -> Any:
    try:
        return stored[name]
    except KeyError:
        raise ValueError(f"{name} is missing") from None


def _items(stored: Values, name: str) -> list[Any]:
    value = _field(stored, name)
    return value if isinstance(value, list) else _wrong(name, value, "a list")


def _whole(value: object, name: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST:
        return int(value)
    return _wrong(name, value, "a whole number from 0 to 2**64 - 1")


def _finite(value: object, name: str) -> float:
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST:
        return float(value)
    return _wrong(name, value, "a finite number")


def _wrong(name: str, value: object, wanted: str) -> NoReturn:
    raise ValueError(f"{name} is of {type(value).__name__} {str(value)[:40]!r}, not {wanted}")


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no finite number")
