"""The bytes of a snapshot's manifest, and what decoding them gives."""

from __future__ import annotations

import asyncio
import json

import xxhash
from hocket_aggregator.snapshots.blobs import open_blobs
from hocket_aggregator.snapshots.record import SnapshotRecord, decode_record
from support.snapshots import snapshot, snapshots

from hocket.errors import CorruptState


def record() -> SnapshotRecord:
    blobs = open_blobs("memory://")

    async def made() -> SnapshotRecord:
        await snapshots(blobs).save(snapshot())
        (name,) = await blobs.names("snapshots")
        return decode_record(await blobs.get(name), name)

    return asyncio.run(made())


RECORD = record()
ENCODED = RECORD.encode()
BODY = json.loads(ENCODED)["snapshot"]


def sealed(body: bytes) -> bytes:
    """With the right checksum, so that the rest is looked at."""
    digest = xxhash.xxh3_128_hexdigest(body)
    return b'{"xxh3_128":"' + digest.encode() + b'","snapshot":' + body + b"}\n"


def decoded(data: bytes) -> SnapshotRecord | None:
    """None for CorruptState; any other exception fails the test."""
    try:
        return decode_record(data, "a file")
    except CorruptState:
        return None
