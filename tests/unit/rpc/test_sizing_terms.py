"""The sizing rule on the wire: every one comes back, bounded and finite; none means full size."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.learners import terms

from hocket.core.sizing import KINDS, AnySizing, Full, HeteroFL, Whale, sizing_of, terms_of
from hocket.core.terms import SizingTerms
from hocket.errors import InvalidRequest
from hocket.rpc import convert
from hocket.v1 import aggregator_pb2 as pb

Setting = pb.Sizing.Setting


def told(sizing: pb.Sizing | None) -> SizingTerms:
    message = convert.task_terms_to_pb(terms())
    message.ClearField("sizing")
    if sizing is not None:
        message.sizing.CopyFrom(sizing)
    return convert.task_terms_from_pb(message).sizing


@pytest.mark.parametrize(
    "rule",
    [
        *(kind() for kind in KINDS.values()),
        HeteroFL((1.0, 0.3), "dynamic", 0.1, (1.0, 3.0)),
        Whale(reference_s=1e-9, latency_ref="last_size", scaled_link=True, fisher="per_sample"),
    ],
)
def test_every_rule_arrives_as_it_was_sent(rule: AnySizing) -> None:
    sent = convert.task_terms_to_pb(replace(terms(), sizing=terms_of(rule)))
    arrived = pb.GetTaskResponse.FromString(sent.SerializeToString())
    assert sizing_of(convert.task_terms_from_pb(arrived).sizing) == rule


def test_a_searched_table_costs_kilobytes() -> None:
    """distreal.md 2.5: 64 vectors of 39 layers are 10 kB as float32; here they are doubles."""
    rows = tuple((n / 64,) * 39 for n in range(64))
    sizes = [
        convert.task_terms_to_pb(replace(terms(), dropout_rows=each)).ByteSize()
        for each in (rows, ())
    ]
    assert 0 < sizes[0] - sizes[1] - 64 * 39 * 8 < 64 * 8  # a few bytes a row besides


def test_an_aggregator_that_says_nothing_means_the_whole_model() -> None:
    assert told(None) == told(pb.Sizing()) == SizingTerms()
    assert sizing_of(told(None)) == Full()


def test_a_kind_of_tomorrow_is_the_devices_to_refuse() -> None:
    before = SizingTerms("tomorrow", (("q", (0.5, 1.0)), ("r", ())))
    after = convert.task_terms_to_pb(replace(terms(), sizing=before))
    assert convert.task_terms_from_pb(after).sizing == before


@pytest.mark.parametrize(
    ("field", "sizing"),
    [
        ("sizing.kind", pb.Sizing(kind="k" * 65)),
        ("sizing.kind", pb.Sizing(kind="a\nb")),
        ("sizing.settings", pb.Sizing(kind="x", settings={"": Setting()})),
        ("sizing.settings['a']", pb.Sizing(settings={"a": Setting(values=[float("nan")])})),
        ("sizing.settings['a']", pb.Sizing(settings={"a": Setting(values=[float("inf")])})),
        (
            "the length of sizing.settings['a']",
            pb.Sizing(settings={"a": Setting(values=[0] * 10_001)}),
        ),
        (
            "the number of sizing.settings",
            pb.Sizing(settings={str(n): Setting() for n in range(33)}),
        ),
    ],
)
def test_what_is_out_of_bounds_is_refused_by_the_name_of_its_field(
    field: str, sizing: pb.Sizing
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        told(sizing)
    assert caught.value.details["field"] == field
