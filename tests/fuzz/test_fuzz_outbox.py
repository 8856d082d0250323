"""The outbox with anything in it: a typed error or an update.

Bytes and headers are each given `fuzzing.INPUTS` inputs, besides a few hundred of the slower kinds.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest
from hocket_device.outbox import Parcel, read_parcel, write_parcel
from hypothesis import given
from hypothesis import strategies as st
from support.fuzzing import FIXED, samples, scripts, tampered
from support.parcels import parcels, sealed

from hocket.errors import CorruptState

HEADERS_AT = 16 + 8
words = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("outbox") / "outbox-1.update"


@pytest.fixture(scope="module")
def sound(file: Path) -> list[bytes]:
    """A few updates as they are kept."""
    kept: list[bytes] = []
    for parcel in samples(parcels):
        write_parcel(parcel, file)
        kept.append(file.read_bytes())
    return kept


def judged(file: Path, kept: bytes) -> bool:
    """Whether it is an update, with the body that it tells of, rather than a typed error."""
    file.write_bytes(kept)
    try:
        parcel = read_parcel(file)
    except CorruptState as error:
        assert str(file) in error.message  # noqa: PT017 -- none need be raised
        return False
    return memoryview(parcel.payload.body).nbytes == parcel.payload.header.wire_bytes


def test_any_bytes_are_a_typed_error_or_an_update(file: Path, sound: list[bytes]) -> None:
    sensible = 0

    @FIXED
    @given(scripts)
    def decode(script: bytes) -> None:
        nonlocal sensible
        whole = sound[script[-1] % len(sound)]
        damaged = tampered(whole, script)
        is_update = judged(file, damaged)
        assert is_update == (damaged == whole)
        sensible += is_update

    decode()
    assert sensible > 0


def test_any_sealed_line_is_a_typed_error_or_an_update(file: Path, sound: list[bytes]) -> None:
    """The checksum is right, so that all that follows it is looked at."""
    sensible = 0

    @FIXED
    @given(scripts)
    def decode(script: bytes) -> None:
        nonlocal sensible
        line, body = sound[script[-1] % len(sound)][HEADERS_AT:].split(b"\n", 1)
        sensible += judged(file, sealed(tampered(line, script), body))

    decode()
    assert sensible > 0


@given(parcel=parcels, data=st.data())
def test_a_file_that_lost_or_changed_a_byte_is_a_typed_error(
    file: Path, parcel: Parcel, data: st.DataObject
) -> None:
    write_parcel(parcel, file)
    whole = file.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    flipped = bytes([whole[at] ^ data.draw(st.integers(1, 255))])
    for damaged in (whole[:at], whole[:at] + flipped + whole[at + 1 :], whole + b"\0"):
        file.write_bytes(damaged)
        with pytest.raises(CorruptState, match=file.name):
            read_parcel(file)


@given(said=words)
def test_what_another_program_sealed_is_a_typed_error_or_an_update(
    file: Path, said: object
) -> None:
    file.write_bytes(sealed(json.dumps(said).encode()))
    with pytest.raises(CorruptState, match=file.name):
        read_parcel(file)


@given(parcel=parcels, data=st.data())
def test_headers_of_any_kind_are_a_typed_error_or_an_update(
    file: Path, parcel: Parcel, data: st.DataObject
) -> None:
    write_parcel(parcel, file)
    line, body = file.read_bytes()[HEADERS_AT:].split(b"\n", 1)
    headers = json.loads(line)
    part = headers[data.draw(st.sampled_from(["header", "payload"]))]
    part[data.draw(st.sampled_from(sorted(part)))] = data.draw(words)
    file.write_bytes(sealed(json.dumps(headers).encode(), body))
    with suppress(CorruptState):
        assert isinstance(read_parcel(file), Parcel)
