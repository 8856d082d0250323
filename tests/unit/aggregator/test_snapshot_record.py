"""The manifest of a snapshot: its bytes, and what contradicts itself in it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import xxhash
from hocket_aggregator.snapshots.record import decode_record
from support.snapshot_bytes import BODY, ENCODED, RECORD, decoded, sealed

from hocket.errors import CorruptState


def test_a_manifest_is_json_and_round_trips() -> None:
    assert decoded(ENCODED) == RECORD
    assert json.loads(ENCODED)["xxh3_128"] == xxhash.xxh3_128_hexdigest(ENCODED[58:-2])


def test_a_flipped_bit_a_cut_and_rubbish_are_corrupt_state() -> None:
    middle = len(ENCODED) // 2
    flipped = bytes([ENCODED[middle] ^ 1])
    for data in (
        ENCODED[:middle] + flipped + ENCODED[middle + 1 :],
        ENCODED[:middle],
        ENCODED + ENCODED,
        b"",
        b"\0" * 100,
        sealed(b"[]"),
        sealed(b"\xff"),
    ):
        assert decoded(data) is None


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"version": True}, "version"),
        ({"version": 7.0}, "version"),
        ({"version": 0}, "version"),
        ({"format": 2}, "format"),
        ({"digest": "xyz"}, "digest"),
        ({"segment": 1}, "pieces_from is 3, after segment 1"),
        ({"bases": {"7": "0" * 16}}, "a base is not older"),
        ({"holds": {"a": 2}}, "holds version 2"),
        ({"tensors": {"other/x": f"tensors/{'0' * 32}.safetensors"}}, "belongs to nothing"),
        ({"tensors": {"memory/x": "tensors/../etc.safetensors"}}, "tensors.memory/x"),
        ({"updates_accepted": -1}, "updates_accepted"),
        ({"more": 1}, "more"),
        ({"origin": {**BODY["origin"], "more": 1}}, "origin.more"),
    ],
)
def test_what_contradicts_itself_is_named(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(CorruptState, match=re.escape(complaint)):
        decode_record(sealed(json.dumps({**BODY, **change}).encode()), "a file")


def test_a_missing_field_is_named() -> None:
    for name in BODY:
        body = {key: value for key, value in BODY.items() if key != name}
        with pytest.raises(CorruptState, match=name):
            decode_record(sealed(json.dumps(body).encode()), "a file")


def test_depth_is_no_danger() -> None:
    deep = b"[" * 100_000 + b"]" * 100_000
    assert decoded(sealed(b'{"memory_facts":{"x":' + deep + b"}}")) is None
