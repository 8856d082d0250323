"""TOML documents that ask for too much: refused with a word on what to correct."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hocket.errors import TaskError
from hocket.task.document import MOST_CHARACTERS, MOST_PARTS, read_document
from hocket.task.reading import load_task

TASK = '[model]\nfunction = "m:f"\n[data]\nkind = "digits"\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "mine.toml"


def complaint(file: Path, text: str) -> str:
    file.write_text(text, encoding="utf-8")
    with pytest.raises(TaskError, match=re.escape(str(file))) as wrong:
        load_task(file)
    return wrong.value.message


@pytest.mark.parametrize("digits", ["9" * 5000, "0x" + "f" * 5000])
def test_a_number_of_thousands_of_digits_is_refused(file: Path, digits: str) -> None:
    assert "thousands of digits" in complaint(file, f"seed = {digits}\n{TASK}")


@pytest.mark.parametrize("part", ["a", '"a"', "'a'", '"a\\"b"', '"a.b"', "- "])
@pytest.mark.parametrize("dot", [".", " . "])
def test_a_key_of_too_many_parts_is_refused_with_its_line(file: Path, part: str, dot: str) -> None:
    most = dot.join([part.strip()] * MOST_PARTS)
    assert "unknown key" in complaint(file, f"{TASK}[x]\n{most} = 1\n")
    told = complaint(file, f"{TASK}[x]\n{most}{dot}a = 1\n")
    assert f"more than {MOST_PARTS} parts on line 6; write it flatter" in told


def test_a_document_may_be_so_long_and_no_longer(file: Path) -> None:
    for beyond in (0, 1):
        text = TASK.ljust(MOST_CHARACTERS + beyond, "#")
        file.write_text(text, encoding="utf-8")
        if not beyond:
            assert read_document(file, "task file")[0] == text
            continue
        with pytest.raises(TaskError, match=r"the task file .* is longer than \d+ characters"):
            read_document(file, "task file")
