"""What the commands say of themselves."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from rich.text import Text
from support.commands import hocket
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from hocket.cli.app import app


def texts(command: object, path: str = "hocket") -> Iterator[tuple[str, str]]:
    """Every text that help shows, by what it is of."""
    assert isinstance(command, TyperCommand | TyperGroup)
    yield path, command.help or ""
    for option in command.params:
        yield f"{path} {option.name}", getattr(option, "help", None) or ""
    if isinstance(command, TyperGroup):
        for name, inner in command.commands.items():
            yield from texts(inner, f"{path} {name}")


def test_rich_swallows_nothing_of_any_text() -> None:
    """It takes a word in brackets for a style unless a backslash is before it."""
    told = dict(texts(get_command(app)))
    assert len(told) > 50
    for of, text in told.items():
        assert Text.from_markup(text).plain == text.replace("\\[", "["), of


def test_a_table_of_a_file_is_named_in_brackets(capsys: pytest.CaptureFixture[str]) -> None:
    assert hocket("simulate", "--help") == 0
    assert "[run]" in capsys.readouterr().out
