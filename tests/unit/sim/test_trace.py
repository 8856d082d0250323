"""trace.parquet: its columns, what is null, how it grows."""

from __future__ import annotations

import math
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from hocket.sim.trace import ROWS_A_GROUP, UPDATES, TraceWriter
from hocket.sim.tracer import Row, Several

SETTLED = Row(
    "settle",
    12.5,
    "device-1",
    version=4,
    bytes=1000,
    seconds=3.5,
    slot=2,
    tau=0,
    weight=0.25,
    loss=1.5,
    reward=-1.0,
    outcome="applied",
    update_id="device-1-0",
)


def written(file: Path, *rows: Row) -> list[dict[str, object]]:
    with TraceWriter(file) as writer:
        for row in rows:
            writer.row(row)
    found: list[dict[str, object]] = parquet.read_table(file).to_pylist()
    return found


def test_the_columns_are_these_and_no_others(tmp_path: Path) -> None:
    with TraceWriter(tmp_path / "t", about={"command": "hocket simulate x", "seed": "7"}) as writer:
        writer.row(SETTLED)
    names = pa.dictionary(pa.int32(), pa.string())
    expected = [
        ("kind", names),
        ("at_s", pa.float64()),
        ("device", names),
        ("version", pa.int32()),
        ("training", pa.int32()),
        ("bytes", pa.int64()),
        ("seconds", pa.float32()),
        ("slot", pa.int32()),
        ("tau", pa.int32()),
        ("weight", pa.float32()),
        ("loss", pa.float32()),
        ("accuracy", pa.float32()),
        ("reward", pa.float32()),
        ("outcome", names),
        ("update_id", pa.string()),
    ]
    schema = parquet.read_schema(tmp_path / "t")
    assert [(field.name, field.type) for field in schema] == expected
    assert schema.metadata[b"command"] == b"hocket simulate x"
    assert schema.metadata[b"seed"] == b"7"
    column = parquet.ParquetFile(tmp_path / "t").metadata.row_group(0).column(0)
    assert column.compression == "ZSTD"


def test_what_does_not_apply_is_null_and_what_does_is_kept(tmp_path: Path) -> None:
    came, settled = written(tmp_path / "t", Row("come", 0.0, "device-0"), SETTLED)
    assert came.pop("kind") == "come"
    assert came.pop("at_s") == 0.0
    assert came.pop("device") == "device-0"
    assert set(came.values()) == {None}
    assert settled == {
        "kind": "settle",
        "at_s": 12.5,
        "device": "device-1",
        "version": 4,
        "training": None,
        "bytes": 1000,
        "seconds": 3.5,
        "slot": 2,
        "tau": 0,  # none, but it applies
        "weight": 0.25,
        "loss": 1.5,
        "accuracy": None,
        "reward": -1.0,  # a reward, and not the sign of an absent one
        "outcome": "applied",
        "update_id": "device-1-0",
    }


def test_rows_go_to_disk_group_by_group_in_order(tmp_path: Path) -> None:
    rows = 2 * ROWS_A_GROUP + 3
    with TraceWriter(tmp_path / "t") as writer:
        for number in range(rows):
            writer.row(Row("epoch", float(number), f"device-{number % 7}", seconds=math.nan))
            assert len(writer._rows) < ROWS_A_GROUP
    file = parquet.ParquetFile(tmp_path / "t")
    groups = [file.metadata.row_group(at).num_rows for at in range(file.num_row_groups)]
    assert groups == [ROWS_A_GROUP, ROWS_A_GROUP, 3]
    assert file.read(["at_s"])["at_s"].to_pylist() == [float(number) for number in range(rows)]


def test_only_the_wanted_kinds_are_kept(tmp_path: Path) -> None:
    with TraceWriter(tmp_path / "t", UPDATES) as writer:
        assert writer.wants("settle")
        assert not writer.wants("epoch")
        writer.row(Row("epoch", 1.0, "device-0"))
        writer.row(SETTLED)
    assert parquet.read_table(tmp_path / "t")["kind"].to_pylist() == ["settle"]


def test_a_trace_without_rows_can_be_read(tmp_path: Path) -> None:
    assert written(tmp_path / "t") == []


def test_several_tracers_are_told_of_what_each_wants(tmp_path: Path) -> None:
    with TraceWriter(tmp_path / "a", {"come"}) as a, TraceWriter(tmp_path / "b", {"leave"}) as b:
        both = Several(a, b)
        assert both.wants("come")
        assert both.wants("leave")
        assert not both.wants("epoch")
        both.row(Row("come", 1.0, "device-0"))
        both.row(Row("leave", 2.0, "device-0"))
    assert parquet.read_table(tmp_path / "a")["at_s"].to_pylist() == [1.0]
    assert parquet.read_table(tmp_path / "b")["at_s"].to_pylist() == [2.0]
