"""The update on its way, as a file: a line of format, a checksum, a line of headers, the body."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import xxhash

from hocket.core.ids import DeviceId, Incarnation, UpdateId, Version
from hocket.core.payload import CodecId, Packing, Payload, PayloadHeader, TensorHeader
from hocket.core.submodel import ChannelRule, SubmodelSpec
from hocket.core.update import RefreshReport, UpdateHeader
from hocket.errors import CorruptState
from hocket.hosting.files import replace_file

FORMAT = b"hocket-outbox-1\n"
CHECKSUM_BYTES = 8  # xxh3-64 of all that follows it, big-endian
HEADERS_AT = len(FORMAT) + CHECKSUM_BYTES


@dataclass(frozen=True, slots=True)
class Parcel:
    """An update as it is pushed, each time with the same bytes."""

    header: UpdateHeader
    payload: Payload


def write_parcel(parcel: Parcel, file: Path) -> None:
    """Keep the parcel: after a crash at any moment there is the whole file or none.

    Raises OSError; then there is none.
    """
    headers = {"header": asdict(parcel.header), "payload": asdict(parcel.payload.header)}
    line = json.dumps(headers).encode() + b"\n"
    checksum = xxhash.xxh3_64(line)
    checksum.update(parcel.payload.body)
    replace_file(file, FORMAT, checksum.digest(), line, parcel.payload.body)


def read_parcel(file: Path) -> Parcel:
    """The parcel kept in `file`. Raises CorruptState when it is not there whole."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise CorruptState(f"{file} cannot be read ({error})") from error
    if not data.startswith(FORMAT):
        raise CorruptState(f"{file} is no update of a device: offset 0 should say {FORMAT!r}")
    told = data[len(FORMAT) : HEADERS_AT]
    rest = memoryview(data)[HEADERS_AT:]
    if xxhash.xxh3_64_digest(rest) != told:
        raise CorruptState(
            f"{file} does not match the checksum at offset {len(FORMAT)}: it is damaged"
        )
    body_at = data.find(b"\n", HEADERS_AT) + 1
    try:
        headers = json.loads(data[HEADERS_AT:body_at])
        header, payload = _header(headers["header"]), _payload_header(headers["payload"])
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise CorruptState(
            f"{file} does not hold an update at offset {HEADERS_AT} ({error!r})"
        ) from error
    if len(data) - body_at != payload.wire_bytes:
        raise CorruptState(
            f"{file} has {len(data) - body_at} bytes of body from offset {body_at}, where its "
            f"header says {payload.wire_bytes}"
        )
    return Parcel(header, Payload(payload, memoryview(data)[body_at:]))


def _header(kept: Mapping[str, Any]) -> UpdateHeader:
    spec, refresh = kept["spec"], kept["refresh"]
    return UpdateHeader(
        update_id=UpdateId(str(kept["update_id"])),
        device_id=DeviceId(str(kept["device_id"])),
        incarnation=Incarnation(int(kept["incarnation"])),
        base_version=Version(int(kept["base_version"])),
        num_examples=int(kept["num_examples"]),
        num_steps=int(kept["num_steps"]),
        learning_rate=float(kept["learning_rate"]),
        train_loss=float(kept["train_loss"]),
        train_loss_rms=float(kept.get("train_loss_rms", 0.0)),  # updates of an older Hocket: 0
        train_s=float(kept["train_s"]),
        spec=SubmodelSpec(
            tuple(map(float, spec["keep"])), ChannelRule(spec["rule"]), int(spec["seed"])
        ),
        refresh=None if refresh is None else _report(refresh),
        labels=tuple(map(int, kept.get("labels", ()))),
    )


def _report(kept: Mapping[str, Any]) -> RefreshReport:
    return RefreshReport(int(kept["slot"]), Version(int(kept["version"])), float(kept["reward"]))


def _payload_header(kept: Mapping[str, Any]) -> PayloadHeader:
    checksum = kept["checksum"]
    return PayloadHeader(
        tensors=tuple(
            TensorHeader(
                str(tensor["name"]),
                tuple(map(int, tensor["shape"])),
                CodecId(tensor["codec"]),
                int(tensor["encoded_bytes"]),
            )
            for tensor in kept["tensors"]
        ),
        packing=Packing(kept["packing"]),
        wire_bytes=int(kept["wire_bytes"]),
        checksum=None if checksum is None else int(checksum),
    )
