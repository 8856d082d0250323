"""The client half of a strategy on the wire: bounded, finite, and absent where there is none."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.learners import terms

from hocket.core.terms import LocalTerms
from hocket.errors import InvalidRequest
from hocket.rpc import convert
from hocket.v1 import aggregator_pb2 as pb


def told(local: pb.LocalRule | None) -> LocalTerms:
    message = convert.task_terms_to_pb(terms())
    message.training.ClearField("local")
    if local is not None:
        message.training.local.CopyFrom(local)
    return convert.task_terms_from_pb(message).training.local


def test_an_aggregator_that_says_nothing_means_plain_gradient_descent() -> None:
    assert told(None) == told(pb.LocalRule()) == LocalTerms() == LocalTerms("plain", ())


def test_settings_come_in_the_order_of_their_names_whatever_the_order_on_the_wire() -> None:
    one = told(pb.LocalRule(kind="x", values={"b": 2.0, "a": 1.0}))
    assert one == told(pb.LocalRule(kind="x", values={"a": 1.0, "b": 2.0}))
    assert one == LocalTerms("x", (("a", 1.0), ("b", 2.0)))


def test_a_kind_of_tomorrow_is_the_devices_to_refuse() -> None:
    before = terms()
    after = replace(
        before, training=replace(before.training, local=LocalTerms("tomorrow", (("q", 0.5),)))
    )
    assert convert.task_terms_from_pb(convert.task_terms_to_pb(after)) == after


@pytest.mark.parametrize(
    ("field", "local"),
    [
        ("training.local.kind", pb.LocalRule(kind="k" * 65)),
        ("training.local.kind", pb.LocalRule(kind="a\nb")),
        ("training.local.values", pb.LocalRule(kind="x", values={"": 1.0})),
        ("training.local.values", pb.LocalRule(kind="x", values={"n" * 65: 1.0})),
        ("training.local.values['mu']", pb.LocalRule(kind="x", values={"mu": float("nan")})),
        ("training.local.values['mu']", pb.LocalRule(kind="x", values={"mu": float("inf")})),
        (
            "the number of training.local.values",
            pb.LocalRule(kind="x", values={str(n): 1.0 for n in range(33)}),
        ),
    ],
)
def test_what_is_out_of_bounds_is_refused_by_the_name_of_its_field(
    field: str, local: pb.LocalRule
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        told(local)
    assert caught.value.details["field"] == field
    assert len(caught.value.message) < 300
