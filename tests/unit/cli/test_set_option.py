"""--set KEY=VALUE."""

from __future__ import annotations

import pytest

from hocket.cli.changes import parse_changes
from hocket.errors import TaskError


def test_values_are_toml_or_else_text() -> None:
    given = [
        "strategy.alpha=0.4",
        "training.batch_size = 8",
        "error_feedback=false",
        "model.arguments={ hidden = [16, 8] }",
        "codec.kind=int8",
        'name="two words"',
        "model.function=mine:net=1",
        "stop.accuracy=",
        "name.x=1\nseed=2",
    ]
    assert parse_changes(given) == {
        "strategy.alpha": 0.4,
        "training.batch_size": 8,
        "error_feedback": False,
        "model.arguments": {"hidden": [16, 8]},
        "codec.kind": "int8",
        "name": "two words",
        "model.function": "mine:net=1",
        "stop.accuracy": None,  # takes the key out
        "name.x": "1\nseed=2",  # one value, not a second key
    }


def test_a_strategy_is_short_for_its_kind() -> None:
    assert parse_changes([], "fedbuff") == {"strategy.kind": "fedbuff"}


@pytest.mark.parametrize("setting", ["alpha", "=3", " = 3"])
def test_what_is_no_pair_is_refused(setting: str) -> None:
    with pytest.raises(TaskError, match="is no KEY=VALUE"):
        parse_changes([setting])


def test_a_key_is_set_once() -> None:
    with pytest.raises(TaskError, match=r"strategy\.kind is set twice"):
        parse_changes(["strategy.kind=fedavg"], "fedbuff")
