"""Arrays in one NumPy .npz file, as MNIST is often kept."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hocket.errors import DataError
from hocket.learn.data.arrays import as_inputs, as_labels
from hocket.learn.data.examples import Split
from hocket.learn.data.lookup import Lookup
from hocket.learn.data.normalisation import Normalisation
from hocket.learn.data.source import Unread, check_limit, check_share

UNREADABLE = (
    OSError,
    EOFError,  # an empty file, or one cut short
    ValueError,
    TypeError,
    AttributeError,
    NotImplementedError,  # a way of compression that zipfile does not know
    RuntimeError,  # a file with a password
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True, slots=True)
class Npz:
    """Four arrays by name. With `test_share` only the training pair is read, and split."""

    path: str
    kind: Literal["npz"] = "npz"
    train_inputs: str = "train_images"
    train_labels: str = "train_labels"
    test_inputs: str = "test_images"
    test_labels: str = "test_labels"
    test_share: float | None = None
    limit: int | None = None
    normalise: Normalisation | None = None

    def __post_init__(self) -> None:
        check_share(self.test_share)
        check_limit(self.limit)

    @property
    def held_out_share(self) -> float | None:
        """Share of the training arrays that is held out; None if there are test arrays."""
        return self.test_share

    def open(self, split: Split, lookup: Lookup) -> Unread:
        """Inputs and labels of a part. Raises DataError."""
        keys = (
            (self.train_inputs, self.train_labels)
            if split == "train"
            else (self.test_inputs, self.test_labels)
        )
        file = lookup.find(self.path)
        values, targets = _read(file, keys)
        labels = as_labels(targets, f"{file}, array {keys[1]!r}")
        if values.ndim == 0 or len(values) != len(labels):
            raise DataError(
                f"{file}: {keys[0]!r} has shape {values.shape}, but {keys[1]!r} holds "
                f"{len(labels)} labels; each input needs one label"
            )
        return Unread(
            labels, lambda indices: as_inputs(values[indices.numpy()], f"{file}, array {keys[0]!r}")
        )


def _read(file: Path, keys: tuple[str, str]) -> list[NDArray[np.generic]]:
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
            for key in keys:
                if key not in arrays:
                    raise DataError(
                        f"{file} holds no array {key!r}, only {sorted(arrays)}; set "
                        "data.train_inputs and its like, or data.test_share if nothing is held out"
                    )
            return [arrays[key] for key in keys]
    except UNREADABLE as error:
        raise DataError(f"{file} cannot be read as .npz: {error}") from error
