from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest
import torch
from support.learners import model, terms

from hocket.core.strategy import WithLocal
from hocket.core.terms import LocalTerms
from hocket.errors import ShapeMismatch, TaskError
from hocket.learn.blueprint import Blueprint
from hocket.learn.local_memory import LocalMemory
from hocket.learn.strategies import LOCAL_RULES, AnyStrategy, rule_of


def test_a_training_that_is_not_used_has_never_been() -> None:
    memory = LocalMemory()
    memory.begin()
    memory.end({"a": torch.ones(1)}, timed=False)
    used = memory.kept
    memory.begin()
    memory.end({"a": torch.zeros(1)}, timed=False)
    assert memory.kept is not used
    memory.undo()
    assert memory.kept is used


def test_how_long_trainings_took_is_known_at_once_and_kept_with_the_next() -> None:
    memory = LocalMemory()
    assert memory.mean_delay_s == 0.0
    memory.begin()
    memory.end({}, timed=True)
    memory.settled(2.0)
    before = memory.kept
    memory.settled(4.0)
    assert memory.kept is before  # nothing to write for that alone
    assert memory.mean_delay_s == 3.0
    memory.begin()
    memory.end({}, timed=True)
    memory.undo()
    assert memory.mean_delay_s == 3.0
    memory.end({}, timed=True)
    assert LocalMemory(memory.kept).mean_delay_s == 3.0


@pytest.mark.parametrize(
    "delays", [torch.zeros(3), torch.tensor([-1.0, 1.0]), torch.tensor([float("nan"), 1.0])]
)
def test_delays_that_are_none_are_refused(delays: torch.Tensor) -> None:
    with pytest.raises(ShapeMismatch, match="delays"):
        LocalMemory({"delays": delays})


def test_every_rule_that_a_strategy_asks_for_is_one_that_devices_know() -> None:
    asking = [kind() for kind in get_args(AnyStrategy) if isinstance(kind(), WithLocal)]
    assert {type(rule).__name__ for rule in asking} == {
        "AsoFed",
        "FedAsync",
        "FedNova",
        "FedProx",
        "Moon",
        "Scaffold",
    }
    asked = {rule.local.kind for rule in asking}
    assert asked == {"plain", "proximal", "contrastive", "decayed", "scaffold"}
    assert set(LOCAL_RULES) == asked - {"plain"}
    for rule in asking:
        made = rule_of(rule.local)
        assert made is None or made.kind == rule.local.kind


@pytest.mark.parametrize(
    ("local", "message"),
    [
        (LocalTerms("tomorrow"), "'tomorrow' with the settings {}, which this device does not"),
        (LocalTerms("proximal"), "install the version of Hocket that the aggregator runs"),
        (LocalTerms("proximal", (("mu", 1.0), ("nu", 1.0))), "'nu'"),
        (LocalTerms("proximal", (("mu", -1.0),)), r"proximal\.mu is -1\.0"),
        (LocalTerms("contrastive", (("mu", 1.0), ("temperature", 0.0))), "temperature"),
        (LocalTerms("decayed", (("beta", 1.0), ("lambda_", 0.0))), r"decayed\.beta"),
    ],
)
def test_a_device_refuses_what_it_does_not_know(local: LocalTerms, message: str) -> None:
    usual = terms()
    asked = replace(usual, training=replace(usual.training, local=local))
    with pytest.raises(TaskError, match=message):
        Blueprint.of(model(), asked)
