"""The manifest of a snapshot against changed, cut and arbitrary bytes."""

from __future__ import annotations

import json
from typing import Any

from hocket_aggregator.snapshots.record import SnapshotRecord
from hypothesis import given, settings
from hypothesis import strategies as st
from support.snapshot_bytes import BODY, ENCODED, RECORD, decoded, sealed


@given(st.integers(0, len(ENCODED) - 1), st.integers(1, 255))
@settings(max_examples=800)
def test_a_changed_byte_is_found(at: int, change: int) -> None:
    data = bytearray(ENCODED)
    data[at] ^= change
    assert decoded(bytes(data)) is None


@given(st.integers(0, len(ENCODED) - 1), st.binary(max_size=4))
@settings(max_examples=300)
def test_a_cut_manifest_is_found(end: int, more: bytes) -> None:
    assert decoded(ENCODED[:end] + more) in (None, RECORD)


@given(st.binary(max_size=200))
@settings(max_examples=300)
def test_any_bytes_give_corrupt_state(data: bytes) -> None:
    assert decoded(data) is None
    assert decoded(sealed(data)) is None


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**30), 10**30)
    | st.floats()
    | st.text(max_size=10)
    | st.sampled_from(["0" * 16, "tensors/../../x", f"tensors/{'0' * 32}.safetensors"])
)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=3,
)


@given(st.sampled_from(sorted(BODY)), anything)
@settings(max_examples=700)
def test_any_field_may_be_anything(name: str, value: Any) -> None:
    found = decoded(sealed(json.dumps({**BODY, name: value}).encode()))
    if found is not None:
        again = decoded(found.encode()) if _finite(found) else found
        assert again == found


def _finite(found: SnapshotRecord) -> bool:
    try:
        found.encode()
    except ValueError:  # NaN among the facts, which nobody writes
        return False
    return True


@given(st.dictionaries(st.sampled_from(sorted(BODY)), scalars, max_size=5))
@settings(max_examples=100)
def test_any_object_may_come(body: dict[str, Any]) -> None:
    found = decoded(sealed(json.dumps(body).encode()))
    assert found is None
