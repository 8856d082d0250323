"""Sizes that a task asks for of a model that does not have them: refused before anything starts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.aggregating import CNN, MLP, TASK
from torch import nn

from hocket.core.sizing import (
    Distreal,
    FederatedDropout,
    FedRolex,
    Fjord,
    Full,
    HeteroFL,
    Whale,
)
from hocket.errors import TaskError
from hocket.task import ModelRef, load_task
from hocket.task.setup import Setup, set_up

UNTRACEABLE = ModelRef("support.learners:Folded", {})
WHOLE = {"no filters": MLP, "not traceable": UNTRACEABLE}
EXAMPLES = Path(__file__).parents[3] / "examples"


def ready(model: ModelRef, submodel: Any, **fields: Any) -> Setup:
    return set_up(replace(TASK, model=model, submodel=submodel, **fields))


@pytest.mark.parametrize("model", WHOLE.values(), ids=WHOLE)
@pytest.mark.parametrize(
    "rule", [HeteroFL(), FedRolex(), FederatedDropout(), Fjord((0.5,)), Whale((1.0, 0.0625))]
)
def test_a_rule_that_takes_parts_is_refused_where_there_are_none(
    model: ModelRef, rule: Any
) -> None:
    says = rf"submodel\.kind is '{rule.kind}'.* but no part of this model can be left out: "
    with pytest.raises(TaskError, match=says) as refused:
        ready(model, rule)
    if model is UNTRACEABLE:
        assert "cannot be traced" in refused.value.message


@pytest.mark.parametrize("model", WHOLE.values(), ids=WHOLE)
@pytest.mark.parametrize(
    "rule", [Full(), Distreal(), Distreal(rates=(0.5, 0.1)), HeteroFL((1.0,)), Fjord((1.0,))]
)
def test_a_model_without_parts_trains_whole(model: ModelRef, rule: Any) -> None:
    setup = ready(model, rule)
    assert setup.terms.dropout_rows == ()
    assert setup.terms.sizing.kind == rule.kind


def test_a_part_is_taken_where_there_are_some() -> None:
    for rule in (HeteroFL(), FedRolex(), FederatedDropout(), Fjord(), Whale()):
        assert ready(CNN, rule).graph.groups


def test_a_vector_of_wrong_length_is_told_the_groups_in_order() -> None:
    """One for each convolution: that is where a person learns their order."""
    convolutions = [
        name
        for name, layer in replace(TASK, model=CNN).build_model().named_modules()
        if isinstance(layer, nn.Conv2d)
    ]
    with pytest.raises(TaskError) as refused:
        ready(CNN, Distreal(rates=(0.5, (0.1, 0.2), (0.1, 0.2, 0.3))))
    message = refused.value.message
    assert message.startswith("submodel.rates[2] has 3 shares")
    assert f"{len(convolutions)}: {', '.join(convolutions)};" in message
    fitting = Distreal(rates=(0.5, (0.1, 0.2), (0.3,)))
    assert ready(CNN, fitting).terms.dropout_rows == ((0.5,), (0.1, 0.2), (0.3,))


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan"), float("inf")])
def test_a_share_out_of_range_is_refused(share: float) -> None:
    with pytest.raises(TaskError, match=r"submodel\.rates is"):
        Distreal(rates=((0.1, share),))


@pytest.mark.parametrize("model", WHOLE.values(), ids=WHOLE)
def test_a_vector_for_a_model_without_groups_is_refused(model: ModelRef) -> None:
    with pytest.raises(TaskError, match=r"submodel\.rates\[1\] is given, but no part of this"):
        ready(model, Distreal(rates=(0.0, (0.5,))))


def test_a_table_is_read_whatever_the_model() -> None:
    """A file that is not there, and then one of another model, for the example of an own model."""
    task = load_task(EXAMPLES / "own_model.toml")
    assert set_up(task).terms.dropout_rows == ()
    with pytest.raises(TaskError, match=r"there is no dropout table .*no-such-file\.toml"):
        set_up(replace(task, submodel=Distreal(table="no-such-file.toml")))
    with pytest.raises(TaskError, match=r"submodel\.table is given, but no part of this model"):
        set_up(replace(task, submodel=Distreal(table="studies/cifar10-dropout.toml")))
