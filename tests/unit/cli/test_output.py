"""Tables on a terminal: what a stranger says of itself is shown as it is."""

from __future__ import annotations

import pytest

from hocket.cli.output import print_table


def test_what_looks_like_markup_is_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("", ["device", "why this size"], [["a", "[/x] [red]slow :boom:"]])
    assert "[/x] [red]slow :boom:" in capsys.readouterr().out
