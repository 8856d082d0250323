"""The table that a search writes and devices choose from: read back, and refused when wrong."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from hocket.core.manifest import Manifest, TensorSpec
from hocket.errors import TaskError
from hocket.task.dropout_table import (
    DropoutTableFile,
    TableGroup,
    TableRow,
    read_dropout_table,
    write_dropout_table,
)

MANIFEST = Manifest((TensorSpec("0.weight", (4, 1, 3, 3)), TensorSpec("2.weight", (8, 4, 3, 3))))
TABLE = DropoutTableFile(
    format=1,
    model=MANIFEST.digest,
    group=(TableGroup("0", 4), TableGroup('"odd"\\\x7f\N{SNOWMAN}\U0001f600\n', 8)),
    row=(TableRow(0.1, -0.25, (0.5, 0.75)), TableRow(1.0, 0.3, (0.0, 0.0), 1e-7)),
    task="digits",
    command="hocket dropout search --out 'my folder'",
    seed=3,
    settings={"population": 8, "d_max": 0.9, "snapshots": [0.0, 0.5], "score": "loss"},
)
PLAIN = replace(TABLE, group=(TableGroup("0", 4), TableGroup("2", 8)))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_dropout_table(tmp_path / "table.toml", PLAIN)
    return tmp_path / "table.toml"


def test_a_table_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / "table.toml"
    write_dropout_table(file, TABLE)
    read = read_dropout_table(file)
    assert replace(read, origin=None) == TABLE
    assert read.origin == file
    assert read.rows == ((0.5, 0.75), (0.0, 0.0))
    assert tomllib.loads(file.read_text(encoding="utf-8"))["settings"] == TABLE.settings
    assert list(tmp_path.iterdir()) == [file]


def test_a_table_suits_the_model_that_it_was_made_for(file: Path) -> None:
    table = read_dropout_table(file)
    table.check(MANIFEST, ["0", "2"])
    other = Manifest(MANIFEST.tensors[:1])
    with pytest.raises(
        TaskError, match=rf"table\.toml: model is {MANIFEST.digest}, and the task's"
    ):
        table.check(other, ["0", "2"])
    with pytest.raises(TaskError, match=r"table\.toml: group names 0, 2, and the model's"):
        table.check(MANIFEST, ["0"])


@pytest.mark.parametrize(
    ("was", "is_", "said"),
    [
        ("format = 1", "format = 2\nnews = 1", "format is 2, and this Hocket reads format 1"),
        ("format = 1", "", "format is missing"),
        ("0.75", "1.75", r"row\[0\]\.drop\[1\] is 1.75; a share lies between 0 and 1"),
        ("0.75", "-0.1", r"row\[0\]\.drop\[1\] is -0.1"),
        ("0.75", "nan", r"row\[0\]\.drop\[1\] is nan"),
        ("0.75", '"much"', r"row\[0\]\.drop\[1\] is 'much'"),
        ("[0.5, 0.75]", "[0.5]", r"row\[0\]\.drop has 1 shares, and there are 2 groups"),
        ("[0.5, 0.75]", "0.5", r"row\[0\]\.drop is 0.5; it should be a valid array"),
        ("cost = 0.1", "cost = 1.5", r"row\[0\]\.cost is 1.5; it lies above 0"),
        ("cost = 0.1", "cost = 0.0", r"row\[0\]\.cost is 0.0; it lies above 0"),
        ("cost = 1.0", "cost = 0.05", r"row\[1\]\.cost is 0.05, below that of the row before it"),
        ("score = -0.25", "", r"row\[0\]\.score is missing"),
        ("score = -0.25", "score = inf", r"row\[0\]\.score is inf"),
        ("seconds = 1e-07", "seconds = 0.0", r"row\[1\]\.seconds is 0.0; it must be above 0"),
        ("size = 4", "size = 0", r"group\[0\]\.size is 0; a group has at least one channel"),
        ("size = 4", "size = 4\nwidth = 2", r"unknown key group\[0\]\.width"),
        ("seed = 3", "sed = 3", r"unknown key sed \(did you mean 'seed'\?\)"),
        ("seed = 3", 'seed = 3\norigin = "here"', "unknown key origin"),
        ("seed = 3", "seed = ", "is no valid TOML"),
    ],
)
def test_a_wrong_table_is_refused_by_file_and_key(
    file: Path, was: str, is_: str, said: str
) -> None:
    text = file.read_text(encoding="utf-8")
    assert was in text
    file.write_text(text.replace(was, is_), encoding="utf-8")
    with pytest.raises(TaskError, match=rf"table\.toml.*{said}"):
        read_dropout_table(file)


def test_a_table_without_rows_or_groups_is_none() -> None:
    with pytest.raises(TaskError, match="row is empty"):
        replace(TABLE, row=())
    with pytest.raises(TaskError, match="group is empty"):
        replace(TABLE, group=())


def test_a_table_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"there is no dropout table .*none\.toml"):
        read_dropout_table(tmp_path / "none.toml")
