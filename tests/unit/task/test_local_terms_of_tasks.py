"""What the devices of a task are told to do besides plain gradient descent."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.aggregating import CNN, TASK

from hocket.core.terms import LocalTerms
from hocket.errors import ModelError, TaskError
from hocket.learn.strategies import (
    AnyStrategy,
    AsoFed,
    FedASMU,
    FedAsync,
    FedAvg,
    FedNova,
    FedProx,
    Moon,
)
from hocket.task.rules import ModelRef
from hocket.task.setup import set_up

BASIC = replace(TASK, model=CNN)


@pytest.mark.parametrize(
    ("strategy", "local"),
    [
        (FedASMU(), LocalTerms()),
        (FedAvg(), LocalTerms()),
        (FedAsync(), LocalTerms()),
        (FedAsync(rho=0.005), LocalTerms("proximal", (("mu", 0.005),))),
        (FedNova(mu=0.1), LocalTerms("proximal", (("mu", 0.1),))),
        (FedProx(), LocalTerms("proximal", (("mu", 0.01),))),
        (Moon(), LocalTerms("contrastive", (("mu", 1.0), ("temperature", 0.5)))),
        (AsoFed(), LocalTerms("decayed", (("beta", 0.5), ("lambda_", 0.01)))),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_the_strategy_says_it_in_the_terms(strategy: AnyStrategy, local: LocalTerms) -> None:
    assert set_up(replace(BASIC, strategy=strategy)).terms.training.local == local


@pytest.mark.parametrize(
    ("strategy", "drops"),
    [(FedProx(), True), (Moon(), False), (Moon(mu=0.0), True), (AsoFed(), False)],
)
def test_where_only_whole_models_have_a_meaning_no_filters_are_dropped(
    strategy: AnyStrategy, *, drops: bool
) -> None:
    assert bool(set_up(replace(BASIC, strategy=strategy)).terms.dropout_rows) == drops


def test_a_model_that_no_device_could_contrast_is_refused_before_it_is_served() -> None:
    headless = ModelRef("support.small_nets:headless")
    with pytest.raises(ModelError, match="Linear"):
        set_up(replace(BASIC, model=headless, strategy=Moon()))
    set_up(replace(BASIC, model=headless, strategy=FedProx()))


def test_fednova_knows_the_work_of_a_term_or_of_momentum_not_of_both() -> None:
    training = replace(BASIC.training, momentum=0.9)
    replace(BASIC, training=training, strategy=FedNova(momentum=0.9))
    with pytest.raises(TaskError, match=r"training\.momentum is 0\.9 and strategy\.mu is 0\.1"):
        replace(BASIC, training=training, strategy=FedNova(mu=0.1))
