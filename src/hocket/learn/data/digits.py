"""The 1,797 handwritten digits that come with scikit-learn, read without importing it.

Alpaydin, Kaynak. Optical Recognition of Handwritten Digits. UCI Machine Learning Repository, 1998.
"""

from __future__ import annotations

import gzip
import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hocket.errors import DataError
from hocket.learn.data.arrays import as_inputs, as_labels
from hocket.learn.data.examples import Split
from hocket.learn.data.lookup import Lookup
from hocket.learn.data.normalisation import Normalisation
from hocket.learn.data.source import DEFAULT_TEST_SHARE, Unread, check_limit, check_share
from hocket.learn.reference import importable

SIDE = 8
INK_LEVELS = 16.0  # each pixel counts the inked points of a 4x4 block


@dataclass(frozen=True, slots=True)
class Digits:
    """Grey 8x8 images in [0, 1], ten classes. Nothing is downloaded."""

    kind: Literal["digits"] = "digits"
    test_share: float = DEFAULT_TEST_SHARE
    limit: int | None = None
    normalise: Normalisation | None = None

    def __post_init__(self) -> None:
        check_share(self.test_share)
        check_limit(self.limit)

    @property
    def held_out_share(self) -> float:
        """Share of the images that is held out."""
        return self.test_share

    def open(self, split: Split, lookup: Lookup) -> Unread:  # noqa: ARG002 - has neither parts nor paths
        """All images. Raises DataError if scikit-learn is not installed."""
        pixels, labels = read_digits()
        inputs = as_inputs(pixels.reshape(-1, SIDE, SIDE) / INK_LEVELS, "digits")
        return Unread(as_labels(labels, "digits"), inputs.__getitem__)


def read_digits() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Pixels (1797, 64) in 0..16 and labels (1797,), as `sklearn.datasets.load_digits` has them.

    Reads scikit-learn's file directly, since importing scikit-learn takes longer than a second.
    """
    with importable():  # nobody else changes sys.path meanwhile
        package = importlib.util.find_spec("sklearn")
    if package is None or package.origin is None:
        raise DataError("the digits come with scikit-learn; install it: pip install scikit-learn")
    file = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
    if not file.exists():
        return _read_by_sklearn()
    table = _table(file)
    return table[:, :-1], table[:, -1].astype(np.int64)


@cache
def _table(file: Path) -> NDArray[np.float64]:
    """Read once by a process: a simulation asks for the images it trains and those it judges by."""
    with gzip.open(file, "rt") as lines:
        table = np.loadtxt(lines, delimiter=",", dtype=np.float64)
    table.setflags(write=False)
    return table


def _read_by_sklearn() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    from sklearn.datasets import load_digits  # noqa: PLC0415 - slow to import, and seldom needed

    digits = load_digits()
    return digits.data, digits.target.astype(np.int64)
