"""Tensors as blobs, each written once: models by version, all others by their content."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Iterator, Mapping, Sequence

import xxhash
from torch import Tensor
from typing_extensions import Buffer

from hocket.core.manifest import Manifest
from hocket.errors import CorruptState
from hocket.hosting.failpoint import Failpoint, reach
from hocket.learn.digest import digest_of
from hocket.learn.flat import views
from hocket.learn.pool import POOL
from hocket_aggregator.metadata.queries import SNAPSHOTS as VERSIONS
from hocket_aggregator.snapshots.blobs import Blobs
from hocket_aggregator.snapshots.record import version_blob
from hocket_aggregator.snapshots.tensor_file import decode, encode

TENSORS = "tensors"
SMALL_BYTES = 1 << 20  # tensors below this size share blobs
PACK_BYTES = 64 << 20  # of such a blob, about


class _Named:
    """What tensors are called, for as long as they live. Nobody changes one in place."""

    def __init__(self) -> None:
        self._names: dict[int, tuple[weakref.ref[Tensor], str]] = {}

    def note(self, tensor: Tensor, name: str) -> None:
        key = id(tensor)
        self._names[key] = (weakref.ref(tensor, lambda _: self._names.pop(key, None)), name)

    def get(self, tensor: Tensor) -> str | None:
        known = self._names.get(id(tensor))
        return known[1] if known is not None and known[0]() is tensor else None


class TensorBlobs:
    """Puts nothing that it has put or read before, unless `keep_only` has deleted it since."""

    def __init__(self, blobs: Blobs, task: str, manifest: Manifest) -> None:
        self._blobs = blobs
        self._task = task
        self._manifest = manifest
        self._sound: dict[str, str] = {}  # blobs known to be there and right, with their digests
        self._digests = _Named()  # of models
        self._homes = _Named()  # blobs of other large tensors, and their names within

    async def put_model(self, version: int, model: Tensor) -> str:
        """Store a version unless it is there; its digest."""
        digest = self._digests.get(model)
        if digest is None:
            digest = await asyncio.to_thread(digest_of, model)
            self._digests.note(model, digest)
        name = version_blob(version)
        if self._sound.get(name) != digest:
            self._sound.pop(name, None)
            await self._put(name, self._encoded(version, model, digest), digest)
        return digest

    async def get_model(self, version: int, digest: str) -> Tensor:
        """A version's values. Raises NotFound, or CorruptState for other values than `digest`'s."""
        name = version_blob(version)
        model = await asyncio.to_thread(self._joined, await self._blobs.get(name), name)
        if await asyncio.to_thread(digest_of, model) != digest:
            raise CorruptState(f"{self._where(name)}: its values do not match their digest")
        self._sound[name] = digest
        self._digests.note(model, digest)
        return model

    async def put(self, tensors: Mapping[str, Tensor]) -> dict[str, str]:
        """Store these (float32, float64 or int32); the blob of each, by name."""
        homes: dict[str, str] = {}
        small: dict[str, Tensor] = {}
        for name, tensor in tensors.items():
            if tensor.nbytes < SMALL_BYTES:
                small[name] = tensor
            else:
                homes[name] = await self._put_large(name, tensor)
        for pack in _packs(small):
            home = await self._put_pack(pack)
            homes |= dict.fromkeys(pack, home)
        return homes

    async def get(self, homes: Mapping[str, str]) -> dict[str, Tensor]:
        """Tensors by name from the blobs that hold them. Raises NotFound or CorruptState."""
        tensors: dict[str, Tensor] = {}
        for home in dict.fromkeys(homes.values()):
            data = await self._blobs.get(home)
            if await asyncio.to_thread(_content_name, data) != home:
                raise CorruptState(f"{self._where(home)} does not hold what its name says")
            tensors |= await asyncio.to_thread(decode, data, self._where(home))
            self._sound[home] = home
        missing = [name for name in homes if name not in tensors]
        if missing:
            raise CorruptState(f"no blob of {self._blobs.where}/{TENSORS} holds {missing[0]!r}")
        for name, home in homes.items():
            self._homes.note(tensors[name], f"{home} {name}")
        return {name: tensors[name] for name in homes}

    async def keep_only(self, named: set[str]) -> None:
        """Delete every other blob of models and tensors."""
        there = [*await self._blobs.names(VERSIONS), *await self._blobs.names(TENSORS)]
        gone = [name for name in there if name not in named]
        for name in gone:
            self._sound.pop(name, None)
        await self._blobs.delete(gone)

    async def _put_large(self, name: str, tensor: Tensor) -> str:
        known = self._homes.get(tensor)
        if known is not None:
            home, _, name_there = known.partition(" ")
            if name_there == name and home in self._sound:
                return home
        home = await self._put_pack({name: tensor})
        self._homes.note(tensor, f"{home} {name}")
        return home

    async def _put_pack(self, pack: Mapping[str, Tensor]) -> str:
        pieces = await asyncio.to_thread(encode, pack)
        name = await asyncio.to_thread(_content_name, *pieces)
        if name not in self._sound:
            await self._put(name, pieces, name)
        return name

    async def _put(self, name: str, pieces: Sequence[Buffer], digest: str) -> None:
        await self._blobs.put(name, *pieces)
        self._sound[name] = digest
        reach(Failpoint.MID_SNAPSHOT)

    def _encoded(self, version: int, model: Tensor, digest: str) -> list[Buffer]:
        metadata = {
            "task": self._task,
            "version": str(version),
            "digest": digest,
            "manifest": self._manifest.digest,
        }
        return encode(views(model, self._manifest), metadata)

    def _joined(self, data: Buffer, name: str) -> Tensor:
        tensors = decode(data, self._where(name))
        model = POOL.take(self._manifest.size)
        for spec_name, view in views(model, self._manifest).items():
            found = tensors.get(spec_name)
            if found is None or found.shape != view.shape or found.dtype != view.dtype:
                raise CorruptState(f"{self._where(name)} does not hold {spec_name!r} as it should")
            view.copy_(found)
        return model

    def _where(self, name: str) -> str:
        return f"{self._blobs.where}/{name}"


def _packs(small: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    pack: dict[str, Tensor] = {}
    num_bytes = 0
    for name, tensor in small.items():
        pack[name] = tensor
        num_bytes += tensor.nbytes
        if num_bytes >= PACK_BYTES:
            yield pack
            pack, num_bytes = {}, 0
    if pack:
        yield pack


def _content_name(*pieces: Buffer) -> str:
    digest = xxhash.xxh3_128()
    for piece in pieces:
        digest.update(piece)
    return f"{TENSORS}/{digest.hexdigest()}.safetensors"
