"""A snapshot's manifest: JSON that says which blobs it is made of, and all that is no tensor."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Annotated, Any

import xxhash
from pydantic import ConfigDict, FailFast, Field, StringConstraints, TypeAdapter, ValidationError
from typing_extensions import Buffer

from hocket.core.manifest import Manifest
from hocket.core.plain import compact_json, object_of
from hocket.errors import CorruptState, StartupError

SNAPSHOTS = "snapshots"
FORMAT = 1

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]
BlobName = Annotated[str, StringConstraints(pattern=r"^tensors/[0-9a-f]{32}\.safetensors$")]
VersionNumber = Annotated[int, Field(ge=1, lt=10**10)]
Segment = Annotated[int, Field(ge=0, lt=10**10)]
Count = Annotated[int, Field(ge=0)]
Names = Annotated[list[str], FailFast()]  # one complaint is told, and a million take room
Finite = Annotated[float, Field(allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class Origin:
    """What a snapshot belongs to: a task, a model, and an aggregation rule with its settings."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    task: str
    model: Digest
    strategy: dict[str, Any]  # kind and fields

    @classmethod
    def of(cls, task: str, manifest: Manifest, strategy: Any) -> Origin:
        """That of a running aggregator; `strategy` is a dataclass."""
        return cls(task, manifest.digest, json.loads(json.dumps(asdict(strategy))))

    def check(self, stored: Origin, what: str, defaults: Mapping[str, Any]) -> None:
        """Raise StartupError unless `stored` is the same.

        A setting that was not known yet when it was stored had its default.
        """
        then, now = {**defaults, **stored.strategy}, self.strategy
        differ = [f"task: {stored.task!r} then, {self.task!r} now"] * (stored.task != self.task)
        if stored.model != self.model:
            differ.append(f"model: {stored.model} then, {self.model} now")
        if then.get("kind") != now.get("kind"):
            differ.append(f"strategy: {then.get('kind')!r} then, {now.get('kind')!r} now")
        else:
            differ += [
                f"strategy.{name}: {then.get(name)!r} then, {now.get(name)!r} now"
                for name in sorted(then.keys() | now.keys())
                if then.get(name) != now.get(name)
            ]
        if differ:
            raise StartupError(
                f"{what} was stored by an aggregator with another task file ({'; '.join(differ)}):"
                " restore what differs, or choose another AGGREGATOR_DATA_DIR to begin anew"
            )


@dataclass(frozen=True, slots=True)
class SnapshotRecord:
    """The manifest. Models lie under `versions/`, by version; other tensors under `tensors/`."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    format: Annotated[int, Field(ge=FORMAT, le=FORMAT)]
    origin: Origin
    version: VersionNumber
    digest: Digest  # of the newest model's values
    segment: Segment
    pieces_from: Segment
    bases: dict[VersionNumber, Digest]
    holds: dict[str, VersionNumber]
    memory_facts: dict[str, Any]
    slots_facts: dict[str, Any]
    tensors: dict[str, BlobName]  # "memory/..." and "slots/...": in which blob each is
    pending_ids: Names
    contributors: Names
    updates_accepted: Count
    updates_rejected: Count
    triggers_sent: Count
    finished: str
    journalled: bool
    created_unix_s: Finite

    @property
    def name(self) -> str:
        """Of its blob; names sort as the snapshots followed each other."""
        return f"{SNAPSHOTS}/{self.version:010}-{self.segment:010}.json"

    @property
    def digests(self) -> dict[int, str]:
        """Of every model that it is made of, by version."""
        return {**self.bases, self.version: self.digest}

    @property
    def needs_from(self) -> int:
        """First journal segment that is read when a task goes on from here."""
        return min(self.segment, self.pieces_from)

    def blobs(self) -> set[str]:
        """Every blob that it is made of."""
        return {version_blob(version) for version in self.digests} | set(self.tensors.values())

    def encode(self) -> bytes:
        """The file: its checksum first, then the rest. Raises ValueError for a time of NaN."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        values["origin"] = asdict(self.origin)
        body = json.dumps(values, allow_nan=False, separators=(",", ":")).encode()
        return b'{"xxh3_128":"%s","snapshot":%s}\n' % (_checksum(body).encode(), body)


_LAYOUT = re.compile(rb'\{"xxh3_128":"([0-9a-f]{32})","snapshot":(\{.*\})\}\n', re.DOTALL)
_RECORDS = TypeAdapter(SnapshotRecord)


def decode_record(data: Buffer, what: str) -> SnapshotRecord:
    """A manifest from its bytes; `what` names the file. Raises CorruptState."""
    found = _LAYOUT.fullmatch(bytes(data))
    if found is None:
        raise CorruptState(f"{what} is no snapshot's manifest, or was cut short")
    body = found[2]
    if _checksum(body).encode() != found[1]:
        raise CorruptState(f"{what} does not match its checksum")
    try:
        record = _RECORDS.validate_json(_in_todays_words(body))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise CorruptState(f"{what}: {place or 'the manifest'}: {first['msg']}") from error
    if problem := _contradiction(record):
        raise CorruptState(f"{what}: {problem}")
    return record


def version_blob(version: int) -> str:
    """Name of a model's blob."""
    return f"versions/{version}.safetensors"


def defaults_of(strategy: Any) -> dict[str, Any]:
    """The defaults of a rule's settings."""
    return {f.name: f.default for f in fields(strategy) if f.default is not MISSING}


def _contradiction(record: SnapshotRecord) -> str:
    if record.pieces_from > record.segment:
        return f"pieces_from is {record.pieces_from}, after segment {record.segment}"
    if any(version >= record.version for version in record.bases):
        return f"a base is not older than version {record.version}"
    for device, version in record.holds.items():
        if version not in record.digests:
            return f"{device!r} holds version {version}, which is not in it"
    for name in record.tensors:
        if not name.startswith(("memory/", "slots/")):
            return f"tensor {name!r} belongs to nothing"
    return ""


def _in_todays_words(body: bytes) -> bytes:
    """Manifests had a map of numbers once, `totals`, and in it whether there was a journal."""
    if b'"totals":' not in body:
        return body
    try:
        stored = object_of(body)
        totals = stored.pop("totals", None)
        if not isinstance(totals, dict):
            return body  # so that it is told what is wrong with it
        stored.setdefault("journalled", bool(totals.get("journalled", True)))
        return compact_json(stored).encode()
    except (ValueError, RecursionError):
        return body  # likewise


def _checksum(body: bytes) -> str:
    return xxhash.xxh3_128_hexdigest(body)
