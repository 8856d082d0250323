"""Images in parquet files, in the layout of Hugging Face's data sets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from hocket.errors import DataError
from hocket.learn.data.arrays import as_labels
from hocket.learn.data.examples import Split
from hocket.learn.data.images import ColourMode, check_size, decode
from hocket.learn.data.lookup import Lookup
from hocket.learn.data.normalisation import Normalisation
from hocket.learn.data.source import DEFAULT_TEST_SHARE, Unread, check_limit, check_share


@dataclass(frozen=True, slots=True)
class Parquet:
    """An image column, struct {bytes, path} or plain binary, and a column of whole-number labels.

    Without `test`, a share of `train` is held out. `size` resizes to size x size pixels.
    """

    train: str
    kind: Literal["parquet"] = "parquet"
    test: str | None = None
    image: str = "image"
    label: str = "label"
    mode: ColourMode = "rgb"
    size: int | None = None
    test_share: float = DEFAULT_TEST_SHARE
    limit: int | None = None
    normalise: Normalisation | None = None

    def __post_init__(self) -> None:
        check_share(self.test_share)
        check_limit(self.limit)
        check_size(self.size)

    @property
    def held_out_share(self) -> float | None:
        """Share of the training file that is held out; None if there is a test file."""
        return self.test_share if self.test is None else None

    def open(self, split: Split, lookup: Lookup) -> Unread:
        """Labels of a part; its images are decoded when read. Raises DataError."""
        file = lookup.find(self.test if split == "test" and self.test is not None else self.train)
        images, targets = _columns(file, self.image, self.label)
        labels = as_labels(targets.to_numpy(), f"{file}, column {self.label!r}")

        def read(indices: Tensor) -> Tensor:
            encoded: list[bytes | None] = images.take(indices.numpy()).to_pylist()
            names = [f"{file}, row {row}, column {self.image!r}" for row in indices.tolist()]
            present = [data for data in encoded if data is not None]
            if len(present) < len(encoded):
                raise DataError(f"{names[encoded.index(None)]} is empty; remove such rows")
            return decode(present, names, self.mode, self.size)

        return Unread(labels, read)


def _columns(file: Path, image: str, label: str) -> tuple[Any, Any]:
    """Chunked arrays of encoded images and of labels."""
    import pyarrow as pa  # noqa: PLC0415 - a tenth of a second that other sources need not pay
    import pyarrow.compute as pc  # noqa: PLC0415 - likewise
    import pyarrow.parquet as pq  # noqa: PLC0415 - likewise

    try:
        names = pq.read_schema(file).names
        for column in (image, label):
            if column not in names:
                raise DataError(
                    f"{file} has no column {column!r}; it has {names}: set data.image "
                    "and data.label"
                )
        table = pq.read_table(file, columns=list({image, label}))
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{file} cannot be read as parquet: {error}") from error
    images, labels = table[image], table[label]
    if pa.types.is_struct(images.type) and images.type.get_field_index("bytes") >= 0:
        images = pc.struct_field(images, "bytes")
    if not (pa.types.is_binary(images.type) or pa.types.is_large_binary(images.type)):
        raise DataError(
            f"{file}, column {image!r} has type {images.type}; encoded images are needed: "
            "binary, or a struct with a field 'bytes'"
        )
    if labels.null_count:
        raise DataError(f"{file}, column {label!r} has {labels.null_count} empty rows; fill them")
    return images, labels
