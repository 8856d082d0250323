"""Manifests that an earlier Hocket wrote: what is `journalled` now was one of a map of numbers."""

from __future__ import annotations

import json

import pytest
import xxhash
from hocket_aggregator.snapshots.blobs import open_blobs
from hocket_aggregator.snapshots.record import decode_record
from support.snapshots import assert_same, filled, snapshot, snapshots

from hocket.errors import CorruptState

NAME = "snapshots/0000000007-0000000070.json"


def as_before(manifest: bytes, totals: object) -> bytes:
    """The same manifest with the map in the place of the field, and its own checksum."""
    stored = json.loads(manifest)["snapshot"]
    assert stored.pop("journalled") is True
    body = json.dumps({**stored, "totals": totals}, separators=(",", ":")).encode()
    checksum = xxhash.xxh3_128_hexdigest(body).encode()
    return b'{"xxh3_128":"%s","snapshot":%s}\n' % (checksum, body)


@pytest.mark.parametrize(
    ("totals", "journalled"),
    [({"journalled": 1.0}, True), ({"journalled": 0.0}, False), ({}, True)],
)
async def test_a_manifest_with_the_map_is_read(totals: object, *, journalled: bool) -> None:
    blobs = open_blobs("memory://")
    await filled(blobs, 7)
    await blobs.put(NAME, as_before(bytes(await blobs.get(NAME)), totals))
    found = await snapshots(blobs).newest()
    assert_same(found, snapshot(7, 70, journalled=journalled))


@pytest.mark.parametrize("totals", [None, [], 1, {"deep": float("inf")}])
async def test_a_map_that_is_none_is_refused(totals: object) -> None:
    blobs = open_blobs("memory://")
    await filled(blobs, 7)
    broken = as_before(bytes(await blobs.get(NAME)), totals)
    with pytest.raises(CorruptState, match="the manifest of 7"):
        decode_record(broken, "the manifest of 7")


@pytest.mark.parametrize("journalled", [True, False])
async def test_whether_there_is_a_journal_comes_back(*, journalled: bool) -> None:
    blobs = open_blobs("memory://")
    saved = snapshot(7, 70, journalled=journalled)
    await snapshots(blobs).save(saved)
    assert b'"totals"' not in bytes(await blobs.get(NAME))
    assert_same(await snapshots(blobs).newest(), saved)
