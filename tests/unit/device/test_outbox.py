"""The update on its way, on disk: whole or not at all."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import xxhash
from hocket_device.outbox import CHECKSUM_BYTES, FORMAT, Parcel, read_parcel, write_parcel
from hypothesis import given
from hypothesis import strategies as st
from support.words import payload_headers, update_headers

from hocket.core.ids import DeviceId, Incarnation, UpdateId, Version
from hocket.core.payload import Packing, Payload, PayloadHeader
from hocket.core.update import UpdateHeader
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


parcels = st.builds(
    lambda header, payload, body: Parcel(
        header, Payload(replace(payload, wire_bytes=len(body)), body)
    ),
    update_headers,
    payload_headers,
    st.binary(max_size=300),
)


def sealed(line: bytes, body: bytes = b"") -> bytes:
    """A file whose checksum is right whatever it holds."""
    rest = line + b"\n" + body
    return FORMAT + xxhash.xxh3_64(rest).digest() + rest


@given(parcel=parcels)
def test_an_update_comes_back_to_the_last_bit(file: Path, parcel: Parcel) -> None:
    write_parcel(parcel, file)
    again = read_parcel(file)
    assert (again.header, again.payload.header) == (parcel.header, parcel.payload.header)
    assert bytes(again.payload.body) == bytes(parcel.payload.body)
    assert [kept.name for kept in file.parent.iterdir()] == [file.name]


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


@pytest.mark.parametrize(
    "content",
    [
        b"",
        FORMAT,
        FORMAT + b"\0" * CHECKSUM_BYTES,
        sealed(b"{"),
        sealed(b"[" * 100_000),
        sealed(b"\xff"),
        b"hocket-outbox-2\n",
    ],
    ids=["empty", "format", "no checksum", "cut", "nested", "no text", "another format"],
)
def test_a_damaged_file_is_named(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(CorruptState, match=file.name):
        read_parcel(file)


def test_a_file_that_is_not_there_is_a_typed_error(tmp_path: Path) -> None:
    with pytest.raises(CorruptState, match="outbox-3"):
        read_parcel(tmp_path / "outbox-3.update")


def test_a_disk_that_does_not_take_it_keeps_no_half_of_it(tmp_path: Path) -> None:
    (tmp_path / "outbox-1.update").mkdir()  # nothing can be renamed to this
    header = UpdateHeader(UpdateId("u"), DeviceId("d"), Incarnation(1), Version(1), 1, 1, 0.1)
    payload = Payload(PayloadHeader((), Packing.NONE, 4, None), b"body")
    with pytest.raises(OSError, match="outbox-1"):
        write_parcel(Parcel(header, payload), tmp_path / "outbox-1.update")
    assert [kept.name for kept in tmp_path.iterdir()] == ["outbox-1.update"]
