"""trace.parquet: what happened in a simulation, one row for each thing, in order.

Columns are the fields of `tracer.Row`; what does not apply to a row is null.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import fields
from operator import attrgetter
from pathlib import Path
from typing import Any, Self, get_args

import pyarrow as pa
from pyarrow import parquet

from hocket.sim.tracer import Kind, Row

ROWS_A_GROUP = 50_000  # so much is held in memory
NAMES = pa.dictionary(pa.int32(), pa.string())
TYPES: Mapping[str, Any] = {
    "kind": NAMES,
    "at_s": pa.float64(),
    "device": NAMES,
    "version": pa.int32(),
    "training": pa.int32(),
    "bytes": pa.int64(),
    "seconds": pa.float32(),
    "slot": pa.int32(),
    "tau": pa.int32(),
    "weight": pa.float32(),
    "loss": pa.float32(),
    "accuracy": pa.float32(),
    "reward": pa.float32(),
    "outcome": NAMES,
    "update_id": pa.string(),
}
FULL: frozenset[Kind] = frozenset(get_args(Kind))
UPDATES: frozenset[Kind] = frozenset({"settle", "version", "evaluate"})
VALUES = attrgetter(*(field.name for field in fields(Row)))


class TraceWriter:
    """A Tracer into a parquet file, zstd-compressed. Its memory is flat. A context manager.

    Args:
        file: written as rows come; sound once the writer is closed.
        kinds: of the rows that are kept.
        about: put into the file's metadata.

    `row` and `close` raise OSError.
    """

    def __init__(
        self, file: Path, kinds: Collection[Kind] = FULL, about: Mapping[str, str] | None = None
    ) -> None:
        self._kinds = frozenset(kinds)
        self._schema = pa.schema(list(TYPES.items()), metadata=dict(about or {}))
        self._writer = parquet.ParquetWriter(file, self._schema, compression="zstd")
        self._rows: list[tuple[Any, ...]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def wants(self, kind: Kind) -> bool:
        """See Tracer."""
        return kind in self._kinds

    def row(self, row: Row) -> None:
        """Take one row; one of another kind is left out."""
        if row.kind in self._kinds:
            self._rows.append(VALUES(row))
            if len(self._rows) == ROWS_A_GROUP:
                self._flush()

    def close(self) -> None:
        """Write the rest, and the file's end."""
        if self._writer.is_open:
            self._flush()
            self._writer.close()

    def _flush(self) -> None:
        if self._rows:
            columns = zip(zip(*self._rows, strict=True), TYPES.values(), strict=True)
            arrays = [_column(values, kind) for values, kind in columns]
            self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema))
            self._rows.clear()


def _column(values: tuple[Any, ...], kind: pa.DataType) -> pa.Array:
    """One column; the -1 of a whole number, NaN and empty text become null."""
    if pa.types.is_floating(kind):
        return pa.array(values, kind, from_pandas=True)
    if pa.types.is_integer(kind):
        return pa.array([None if value == -1 else value for value in values], kind)
    texts = pa.array([value or None for value in values], pa.string())
    return texts.dictionary_encode() if kind == NAMES else texts
