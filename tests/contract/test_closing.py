"""What every rule must do that waits for several updates, when it is made to wait no longer."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.strategies import Server, bits, every_strategy, name_of, push, server, vector

from hocket.core.ids import DeviceId
from hocket.core.strategy import Closing, Memory, Strategy, Waiting
from hocket.learn.strategies import FedNova, FedProx
from hocket.learn.strategies.parts import Parts
from hocket.learn.strategies.server import Adam, Sgd

GOAL = 4
EVERY: list[Any] = [
    *every_strategy(GOAL),
    FedProx(GOAL, server=Adam()),
    FedNova(GOAL, parts=Parts(mean="moved"), server=Sgd(lr=0.5, momentum=0.9)),
]
WAITING: list[Any] = [rule for rule in EVERY if isinstance(rule, Waiting)]

value = st.floats(-10, 10, width=32)
delta = st.tuples(value, value, value)
few = st.lists(delta, min_size=1, max_size=GOAL - 1)
quick = settings(max_examples=25)
every_waiting_rule = pytest.mark.parametrize("rule", WAITING, ids=name_of)


def begun(rule: Strategy[Any, Any]) -> Server:
    """An aggregator that has made two versions of whole updates."""
    aggregator = server(rule, 1.0, -2.0, 0.5)
    for number in range(2 * GOAL):
        name, base = "abcd"[number % GOAL], aggregator.now.version
        aggregator.take(push(vector(1, number, -1), base=base, device=name, examples=2))
    return aggregator


def take(aggregator: Server, pushed: list[tuple[float, ...]]) -> None:
    """Whole updates of different weight and work from devices of their own."""
    base = aggregator.now.version
    for number, values in enumerate(pushed):
        examples, steps, name = 1 + number % 3, 1 + number % 2, "abcd"[number]
        update = push(vector(*values), base=base, device=name, examples=examples, steps=steps)
        aggregator.take(update)


def close(aggregator: Server) -> bool:
    step = aggregator.rule.close(aggregator.now, aggregator.memory)
    if step is None:
        return False
    aggregator.now, aggregator.memory = step.after, step.memory
    aggregator.versions[aggregator.now.version] = aggregator.now.model
    return True


def frozen(kept: Memory[torch.Tensor]) -> tuple[str, dict[str, bytes]]:
    facts = json.dumps(kept.facts, sort_keys=True)
    return facts, {name: bits(tensor) for name, tensor in kept.tensors.items()}


@pytest.mark.parametrize("rule", EVERY, ids=name_of)
def test_whoever_waits_can_be_closed_and_nobody_else(rule: Any) -> None:
    assert isinstance(rule, Closing) == isinstance(rule, Waiting)


@every_waiting_rule
def test_it_waits_for_what_the_field_says_that_it_names(rule: Any) -> None:
    assert getattr(rule, rule.waits_for) == GOAL
    aggregator = server(rule, 1.0, 1.0, 1.0)
    take(aggregator, [(1.0, 1.0, 1.0)] * (GOAL - 1))
    assert aggregator.now.version == 1
    aggregator.take(push(vector(1, 1, 1), device="d"))
    assert aggregator.now.version == 2


@every_waiting_rule
def test_where_nothing_has_come_nothing_is_closed(rule: Any) -> None:
    fresh, aggregator = server(rule, 1.0, -2.0, 0.5), begun(rule)
    for each in (fresh, aggregator):
        before = frozen(rule.keep(each.memory))
        assert not close(each)
        assert frozen(rule.keep(each.memory)) == before
    take(aggregator, [(1.0, 2.0, 3.0)])
    assert close(aggregator)
    assert not close(aggregator)


@every_waiting_rule
@given(pushed=few)
@quick
def test_closing_after_some_is_waiting_for_so_many(
    rule: Any, pushed: list[tuple[float, ...]]
) -> None:
    """Where a sum is divided by the number of updates, it is the number that has come."""
    closed, full = begun(rule), begun(rule)
    full.rule = replace(rule, **{rule.waits_for: len(pushed)})
    versions = {number: bits(model) for number, model in closed.versions.items()}
    take(closed, pushed)
    assert close(closed)
    take(full, pushed)
    assert closed.now.version == full.now.version == 4
    assert bits(closed.now.model) == bits(full.now.model)
    assert frozen(rule.keep(closed.memory)) == frozen(full.rule.keep(full.memory))
    assert {n: bits(closed.versions[n]) for n in versions} == versions  # readers hold them


@every_waiting_rule
@given(pushed=few, more=few)
@quick
def test_a_part_that_was_kept_closes_and_goes_on_bit_for_bit(
    rule: Any, pushed: list[tuple[float, ...]], more: list[tuple[float, ...]]
) -> None:
    straight, resumed = begun(rule), begun(rule)
    for each in (straight, resumed):
        take(each, pushed)
    stored = rule.keep(resumed.memory)
    as_kept = frozen(stored)
    facts = json.loads(as_kept[0])
    copies = {name: tensor.clone() for name, tensor in stored.tensors.items()}
    resumed.memory = rule.recall(Memory(facts, copies), resumed.now.model)
    for each in (straight, resumed):
        assert close(each)
        take(each, more)
        assert close(each)
    assert straight.now.version == resumed.now.version == 5
    assert bits(straight.now.model) == bits(resumed.now.model)
    assert frozen(rule.keep(straight.memory)) == frozen(rule.keep(resumed.memory))
    assert frozen(stored) == as_kept  # closing did not write to what was stored


@pytest.mark.parametrize(
    "rule", [rule for rule in WAITING if rule.waits_for == "cohort"], ids=name_of
)
def test_who_was_in_a_closed_round_may_push_for_the_next(rule: Any) -> None:
    aggregator = begun(rule)
    for _ in range(2):
        take(aggregator, [(1.0, 1.0, 1.0)])
        assert close(aggregator)
    assert aggregator.now.version == 5
    assert DeviceId("a") not in rule.keep(aggregator.memory).facts["devices"]
