"""Where what is stored whole lies: a folder by default, S3-compatible storage when told.

A blob has its name only once all of it is durable, so whoever finds one finds it whole.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from obstore.exceptions import BaseError
from obstore.store import LocalStore, MemoryStore, ObjectStore, S3Store
from typing_extensions import Buffer

from hocket.errors import NotFound, StartupError, StorageFailed, StorageFull
from hocket.hosting.files import sync_folder
from hocket_aggregator.finishing import finished

PARTIAL = ".partial"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
RETRY_FULL_S = 5.0


class Blobs(Protocol):
    """Names (`folder/file`, of letters, digits, '.', '_' and '-') and their bytes.

    Every method raises StorageFailed when the storage does not do what it should.
    """

    @property
    def where(self) -> str:
        """What a person calls this place."""
        ...

    async def put(self, name: str, *pieces: Buffer) -> None:
        """These pieces, end to end, durable under this name when it returns.

        What was there before is replaced.

        Raises StorageFull when there is no room; what was there before is as it was.
        """
        ...

    async def get(self, name: str) -> Buffer:
        """All of its bytes, not to be written to. Raises NotFound."""
        ...

    async def names(self, prefix: str = "") -> list[str]:
        """Every name in the folder `prefix`, sorted; with no prefix, every name.

        A put that was broken off by a crash may have left a name that ends in `.partial`.
        """
        ...

    async def delete(self, names: Collection[str]) -> None:
        """Have these gone; one that is not there is gone already."""
        ...


def open_blobs(place: str | Path) -> Blobs:
    """A folder (made if missing), `s3://bucket/prefix`, or `memory://` for tests.

    S3 takes credentials, region and endpoint from the environment (AWS_ACCESS_KEY_ID, ...,
    AWS_ENDPOINT_URL). Raises StartupError.
    """
    scheme, _, _ = str(place).partition("://")
    if isinstance(place, Path) or "://" not in place:
        return FolderBlobs(Path(place))
    if scheme == "s3":
        try:
            return StoredBlobs(S3Store.from_url(str(place)), str(place))
        except (BaseError, ValueError) as error:
            raise StartupError(f"{place} cannot be used: {_first_line(error)}") from error
    if scheme == "memory":
        return StoredBlobs(MemoryStore(), str(place))
    raise StartupError(f"{place}: blobs lie in a folder or under s3://bucket/prefix; choose one")


@dataclass(frozen=True, slots=True)
class StoredBlobs:
    """Blobs in a store whose own `put` is atomic and durable."""

    store: ObjectStore
    where: str

    async def put(self, name: str, *pieces: Buffer) -> None:
        """As Blobs says."""
        data = pieces[0] if len(pieces) == 1 else await asyncio.to_thread(_joined, pieces)
        with self._errors(name):
            await self.store.put_async(name, data)

    async def get(self, name: str) -> Buffer:
        """As Blobs says."""
        with self._errors(name):
            return await (await self.store.get_async(name)).bytes_async()

    async def names(self, prefix: str = "") -> list[str]:
        """As Blobs says."""
        with self._errors(prefix):
            pages = self.store.list(prefix or None)
            return sorted([blob["path"] async for page in pages for blob in page])

    async def delete(self, names: Collection[str]) -> None:
        """As Blobs says."""
        if not names:
            return
        with self._errors("", missing_is_fine=True):
            await self.store.delete_async(list(names))

    @contextmanager
    def _errors(self, name: str, *, missing_is_fine: bool = False) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            if not missing_is_fine:
                raise NotFound(f"there is no {name} in {self.where}") from error
        except (BaseError, OSError, ValueError) as error:
            raise _failure(f"{self.where}/{name}", error) from error


class FolderBlobs:
    """Blobs in a local folder: written aside, synced, renamed, and the folder synced."""

    def __init__(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._stored = StoredBlobs(LocalStore(folder.resolve()), str(folder))
        except (OSError, BaseError, ValueError) as error:
            raise StartupError(
                f"{folder} cannot be used: {_first_line(error)}; choose another folder"
            ) from error
        self._folder = folder

    @property
    def where(self) -> str:
        """The folder."""
        return str(self._folder)

    async def put(self, name: str, *pieces: Buffer) -> None:
        """As Blobs says; ours, since obstore does not sync."""
        await finished(asyncio.to_thread(self._put, name, pieces))

    async def get(self, name: str) -> Buffer:
        """As Blobs says."""
        return await self._stored.get(name)

    async def names(self, prefix: str = "") -> list[str]:
        """As Blobs says."""
        return await self._stored.names(prefix)

    async def delete(self, names: Collection[str]) -> None:
        """As Blobs says: one by one, since obstore stops at the first that is missing."""
        await finished(asyncio.to_thread(self._delete, names))

    def _put(self, name: str, pieces: Sequence[Buffer]) -> None:
        target = self._folder / name
        partial = target.with_name(target.name + PARTIAL)
        try:
            if not target.parent.is_dir():
                target.parent.mkdir(parents=True, exist_ok=True)
                sync_folder(target.parent.parent)
            with partial.open("wb", buffering=0) as file:
                for piece in pieces:
                    _write(file.fileno(), piece)
                os.fsync(file.fileno())
                # Not needed before the next start: the system's cache has better uses.
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            partial.replace(target)
            sync_folder(target.parent)
        except OSError as error:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            raise _failure(str(target), error) from error

    def _delete(self, names: Collection[str]) -> None:
        files = [self._folder / name for name in names]
        try:
            for file in files:
                file.unlink(missing_ok=True)
            for folder in {file.parent for file in files if file.parent.is_dir()}:
                sync_folder(folder)  # so that what is deleted next does not go before
        except OSError as error:
            raise _failure(self.where, error) from error


def _write(descriptor: int, data: Buffer) -> None:
    left = memoryview(data).cast("B")
    while left:
        left = left[os.write(descriptor, left) :]


def _joined(pieces: Sequence[Buffer]) -> memoryview:
    """By numpy, which lets other threads run while it copies."""
    views = [memoryview(piece) for piece in pieces]
    parts = [np.asarray(view, np.uint8) for view in views if view.nbytes]
    return np.concatenate(parts).data if parts else memoryview(b"")


def _failure(what: str, error: Exception) -> StorageFull | StorageFailed:
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        return StorageFull(f"{what}: the disk is full; make room", retry_after_s=RETRY_FULL_S)
    return StorageFailed(f"{what}: {_first_line(error)}; see to the storage, then start again")


def _first_line(error: Exception) -> str:
    cause = getattr(error, "strerror", None)
    return cause or (str(error).splitlines() or [type(error).__name__])[0]
