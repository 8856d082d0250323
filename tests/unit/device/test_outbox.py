"""The update on its way, on disk: whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from hocket_device.outbox import CHECKSUM_BYTES, FORMAT, Parcel, read_parcel, write_parcel
from hypothesis import given
from support.parcels import parcels, sealed

from hocket.core.ids import DeviceId, Incarnation, UpdateId, Version
from hocket.core.payload import Packing, Payload, PayloadHeader
from hocket.core.update import UpdateHeader
from hocket.errors import CorruptState


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("outbox") / "outbox-1.update"


@given(parcel=parcels)
def test_an_update_comes_back_to_the_last_bit(file: Path, parcel: Parcel) -> None:
    write_parcel(parcel, file)
    again = read_parcel(file)
    assert (again.header, again.payload.header) == (parcel.header, parcel.payload.header)
    assert bytes(again.payload.body) == bytes(parcel.payload.body)
    assert [kept.name for kept in file.parent.iterdir()] == [file.name]


@pytest.mark.parametrize(
    "at", [0, 16, 24, 60, -1], ids=["format", "checksum", "{", "header", "body"]
)
def test_one_byte_that_changed_is_a_typed_error(file: Path, at: int) -> None:
    header = UpdateHeader(UpdateId("u"), DeviceId("d"), Incarnation(1), Version(1), 1, 1, 0.1)
    payload = Payload(PayloadHeader((), Packing.NONE, 4, None), b"body")
    write_parcel(Parcel(header, payload), file)
    damaged = bytearray(file.read_bytes())
    damaged[at] ^= 1
    file.write_bytes(damaged)
    with pytest.raises(CorruptState, match=file.name):
        read_parcel(file)


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
