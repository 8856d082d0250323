"""What every place for blobs must do: a folder, memory, and S3 through a real client."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hocket_aggregator.snapshots.blobs import Blobs, open_blobs
from support.disk_log import DiskLog, made_durable, synced
from support.s3 import Bucket, s3_server

from hocket.errors import NotFound, StartupError, StorageFailed, StorageFull

PLACES = ["folder", "memory", "s3"]


@pytest.fixture(scope="module")
def s3() -> Iterator[tuple[Bucket, dict[str, str]]]:
    with s3_server() as served:
        yield served


@pytest.fixture(params=PLACES)
def blobs(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    s3: tuple[Bucket, dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> Blobs:
    if request.param == "folder":
        return open_blobs(tmp_path / "blobs")
    if request.param == "memory":
        return open_blobs("memory://")
    bucket, environment = s3
    bucket.blobs.clear()
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return open_blobs("s3://bucket/some/where")


async def test_what_was_put_is_there(blobs: Blobs) -> None:
    await blobs.put("a/one.json", b"\x00\xffone")
    await blobs.put("a/none", b"")
    assert bytes(await blobs.get("a/one.json")) == b"\x00\xffone"
    assert bytes(await blobs.get("a/none")) == b""


async def test_any_buffer_will_do(blobs: Blobs) -> None:
    values = torch.arange(10, dtype=torch.uint8)
    await blobs.put("tensor", values.numpy().data)
    await blobs.put("view", memoryview(bytearray(b"xyz"))[1:])
    assert bytes(await blobs.get("tensor")) == bytes(range(10))
    assert bytes(await blobs.get("view")) == b"yz"


async def test_pieces_are_put_end_to_end(blobs: Blobs) -> None:
    await blobs.put("pieces", b"ab", b"", memoryview(bytearray(b"cd")), bytes(3))
    await blobs.put("nothing", b"", b"")
    assert bytes(await blobs.get("pieces")) == b"abcd\0\0\0"
    assert bytes(await blobs.get("nothing")) == b""


async def test_a_large_blob_comes_back_whole(blobs: Blobs) -> None:
    """Larger than the pieces that S3 clients upload one by one."""
    data = os.urandom(11_000_001)
    await blobs.put("versions/1.safetensors", data[:70], data[70:])
    assert bytes(await blobs.get("versions/1.safetensors")) == data


async def test_a_second_put_replaces_the_first(blobs: Blobs) -> None:
    await blobs.put("a", b"a longer first")
    await blobs.put("a", b"second")
    assert bytes(await blobs.get("a")) == b"second"
    assert await blobs.names() == ["a"]


async def test_names_are_sorted_and_of_one_folder(blobs: Blobs) -> None:
    for name in ("b/2", "b/10", "b/1", "b/c/3", "bb/1", "a"):
        await blobs.put(name, b"x")
    assert await blobs.names("b") == ["b/1", "b/10", "b/2", "b/c/3"]
    assert await blobs.names() == ["a", "b/1", "b/10", "b/2", "b/c/3", "bb/1"]
    assert await blobs.names("c") == []


async def test_what_is_missing_is_named(blobs: Blobs) -> None:
    with pytest.raises(NotFound, match="no a/b in"):
        await blobs.get("a/b")


async def test_delete_takes_what_is_there(blobs: Blobs) -> None:
    for name in ("a/1", "a/2", "a/3"):
        await blobs.put(name, b"x")
    await blobs.delete(["a/0", "a/1", "z/9", "a/3"])
    assert await blobs.names() == ["a/2"]
    await blobs.delete([])
    with pytest.raises(NotFound):
        await blobs.get("a/1")


async def test_puts_do_not_disturb_each_other(blobs: Blobs) -> None:
    await asyncio.gather(*(blobs.put(f"many/{n}", bytes([n]) * 1000) for n in range(12)))
    names = await blobs.names("many")
    assert len(names) == 12
    read = await asyncio.gather(*(blobs.get(name) for name in names))
    assert [bytes(data)[:1] for data in read] == [bytes([int(n[5:])]) for n in names]


# --- each its own ---


async def test_s3_keys_begin_with_the_prefix(
    s3: tuple[Bucket, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket, environment = s3
    bucket.blobs.clear()
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    await open_blobs("s3://bucket/pre/fix").put("a/b", b"1")
    assert bucket.blobs == {"pre/fix/a/b": b"1"}


async def test_a_refusing_store_has_failed(
    s3: tuple[Bucket, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket, environment = s3
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(bucket, "refuse", True)
    blobs = open_blobs("s3://bucket/x")
    for work in (blobs.put("a", b"1"), blobs.get("a"), blobs.names(), blobs.delete(["a"])):
        with pytest.raises(StorageFailed, match="s3://bucket/x"):
            await work


async def test_a_blob_has_its_name_only_once_all_of_it_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs, log = open_blobs(tmp_path), DiskLog()
    log.put(monkeypatch)
    await blobs.put("versions/1", b"a ", b"first")
    above, *entries = log.entries
    assert above == synced(tmp_path)  # which has the new folder's name
    assert entries == made_durable(tmp_path / "versions" / "1")
    log.entries.clear()
    await blobs.put("versions/1", b"second")
    assert log.entries == made_durable(tmp_path / "versions" / "1")


async def test_a_folder_in_the_way_has_failed(tmp_path: Path) -> None:
    blobs = open_blobs(tmp_path)
    (tmp_path / "a").write_bytes(b"a file")
    with pytest.raises(StorageFailed, match="a/b"):
        await blobs.put("a/b", b"1")
    assert (tmp_path / "a").read_bytes() == b"a file"


def test_a_place_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StartupError, match="choose another folder"):
        open_blobs(tmp_path / "file" / "folder")
    with pytest.raises(StartupError, match="s3://bucket/prefix"):
        open_blobs("ftp://somewhere")


async def test_a_full_device_is_storage_full(tmp_path: Path) -> None:
    """/dev/full takes nothing: writing to it ends with ENOSPC. What was there stays."""
    blobs = open_blobs(tmp_path)
    await blobs.put("a", b"old")
    (tmp_path / "a.partial").symlink_to("/dev/full")
    with pytest.raises(StorageFull, match="make room"):
        await blobs.put("a", b"new")
    assert bytes(await blobs.get("a")) == b"old"
    assert await blobs.names() == ["a"]
