"""A folder of images with one sub-folder per class."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from hocket.errors import DataError
from hocket.learn.data.examples import Split
from hocket.learn.data.images import ColourMode, check_size, decode
from hocket.learn.data.lookup import Lookup
from hocket.learn.data.normalisation import Normalisation
from hocket.learn.data.source import DEFAULT_TEST_SHARE, Unread, check_limit, check_share

SUFFIXES = frozenset(
    {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)


@dataclass(frozen=True, slots=True)
class Folder:
    """Images of `size` x `size` pixels; sub-folders in alphabetical order are classes 0, 1, ...

    Without `test`, a share of `train` is held out. A test folder holds the same sub-folders.
    """

    train: str
    kind: Literal["folder"] = "folder"
    test: str | None = None
    size: int = 32
    mode: ColourMode = "rgb"
    test_share: float = DEFAULT_TEST_SHARE
    limit: int | None = None
    normalise: Normalisation | None = None

    def __post_init__(self) -> None:
        check_share(self.test_share)
        check_limit(self.limit)
        check_size(self.size)

    @property
    def held_out_share(self) -> float | None:
        """Share of the training folder that is held out; None if there is a test folder."""
        return self.test_share if self.test is None else None

    def open(self, split: Split, lookup: Lookup) -> Unread:
        """Labels by folder names; images are decoded when read. Raises DataError."""
        train = lookup.find(self.train)
        classes = [folder.name for folder in _class_folders(train)]
        root = lookup.find(self.test) if split == "test" and self.test is not None else train
        files: list[Path] = []
        labels: list[int] = []
        for folder in _class_folders(root):
            if folder.name not in classes:
                raise DataError(f"{folder} names a class that {train} lacks; it has {classes}")
            found = _image_files(folder)
            files += found
            labels += [classes.index(folder.name)] * len(found)

        def read(indices: Tensor) -> Tensor:
            wanted = [files[index] for index in indices.tolist()]
            return decode(wanted, [str(file) for file in wanted], self.mode, self.size)

        return Unread(torch.tensor(labels, dtype=torch.int64), read)


def _class_folders(root: Path) -> list[Path]:
    if not root.is_dir():
        raise DataError(f"{root} is no folder; kind 'folder' needs one sub-folder per class")
    folders = sorted(
        (entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith(".")),
        key=lambda entry: entry.name,
    )
    if not folders:
        raise DataError(f"{root} has no sub-folders; put each class's images into one of its own")
    return folders


def _image_files(folder: Path) -> list[Path]:
    found = sorted(
        (file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES),
        key=lambda file: file.name,
    )
    if not found:
        raise DataError(
            f"{folder} holds no images ({', '.join(sorted(SUFFIXES))}); "
            "remove the folder, or fill it"
        )
    return found
