"""Models on disk: safetensors files of named tensors, whole or not there."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import structlog
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor

from hocket.core.manifest import Manifest
from hocket.core.strategy import Global
from hocket.errors import StartupError
from hocket.learn.flat import views
from hocket_aggregator.digest import digest_of
from hocket_aggregator.queries import SNAPSHOTS
from hocket_aggregator.reader import snapshot_versions

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Snapshots:
    """The snapshots of one task in `data_dir`; the newest `keep` stay."""

    data_dir: Path
    task: str
    manifest: Manifest
    keep: int

    def save(self, model: Global[Tensor]) -> Path:
        """Write a version under a temporary name, sync it, and give it its name.

        Raises StartupError if the folder cannot be written.
        """
        folder = self.data_dir / SNAPSHOTS
        target = folder / f"{model.version}.safetensors"
        partial = folder / f"{model.version}.partial"
        metadata = {
            "task": self.task,
            "version": str(model.version),
            "digest": digest_of(model.model),
            "manifest": self.manifest.digest,
        }
        tensors = {n: v.numpy() for n, v in views(model.model, self.manifest).items()}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            save_file(tensors, partial, metadata)
            _sync(partial)
            partial.replace(target)
            _sync(folder)
        except (OSError, SafetensorError) as error:
            raise StartupError(
                f"cannot write {target}: {error}; free some space, or choose another "
                "AGGREGATOR_DATA_DIR"
            ) from error
        self._prune()
        return target

    def newest(self) -> Global[Tensor] | None:
        """The newest sound snapshot; damaged ones are logged and renamed."""
        for version in snapshot_versions(self.data_dir):
            file = self.data_dir / SNAPSHOTS / f"{version}.safetensors"
            try:
                return Global(self._load(file), version)
            except (OSError, SafetensorError, ValueError, KeyError) as error:
                log.warning("snapshot_damaged", file=str(file), cause=str(error))
                file.replace(file.with_suffix(".damaged"))
        return None

    def _load(self, file: Path) -> Tensor:
        with safe_open(file, framework="numpy") as tensors:
            metadata = tensors.metadata() or {}
            if metadata.get("manifest") != self.manifest.digest:
                raise ValueError(f"it holds model {metadata.get('manifest')}")
            pieces = [tensors.get_tensor(t.name).reshape(-1) for t in self.manifest.tensors]
        vector = torch.from_numpy(np.concatenate(pieces).astype(np.float32, copy=False))
        if digest_of(vector) != metadata.get("digest"):
            raise ValueError("its values do not match its digest")
        return vector

    def _prune(self) -> None:
        for version in snapshot_versions(self.data_dir)[self.keep :]:
            (self.data_dir / SNAPSHOTS / f"{version}.safetensors").unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
