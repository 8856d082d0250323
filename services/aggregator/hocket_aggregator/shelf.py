"""Bases that main memory has no room for: one file each, mapped into memory."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np
import structlog
import torch
from torch import Tensor

from hocket.core.ids import Version

log = structlog.get_logger()


class FileShelf:
    """Files in a folder of its own, which is emptied at the start: snapshots hold what must last.

    The system keeps as much of the files in its cache as it can spare, and no more.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        shutil.rmtree(folder, ignore_errors=True)

    def put(self, version: Version, model: Tensor) -> Tensor:
        """The same values (n, float32), on pages that the system may take back at any time.

        Where the file cannot be written the model stays in main memory.
        """
        file = self._file(version)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            model.numpy().tofile(file)
            # Copy on write, so that torch gets a writable tensor and the file stays as it is.
            mapped = np.memmap(file, np.float32, mode="c")
        except OSError as error:
            with suppress(OSError):
                file.unlink(missing_ok=True)
            log.warning("base_not_shelved", version=version, cause=str(error))
            return model
        return torch.from_numpy(mapped)

    def drop(self, version: Version) -> None:
        """Delete the file; whoever still reads it can go on."""
        self._file(version).unlink(missing_ok=True)

    def _file(self, version: Version) -> Path:
        return self._folder / f"{version}.f32"
