"""What every aggregation rule must do. A new rule joins by being in RULES."""

from __future__ import annotations

import copy
import pickle
from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from support.strategies import Arrival, Server, bits, push, server, vector

from hocket.core.ids import Version
from hocket.core.strategy import Global
from hocket.core.update import Applied, Buffered, Dropped, DropReason
from hocket.errors import TaskError
from hocket.learn.strategies import AnyStrategy, FedASMU, FedAsync, FedAvg, FedBuff

RULES = [
    FedAsync(),
    FedAsync(staleness="hinge", hinge_delay=1),
    FedBuff(goal=3),
    FedAvg(cohort=3),
    FedASMU(),
    FedASMU(rule="gated", normalise=False, sigma0=0.5),
]
every_rule = pytest.mark.parametrize(
    "rule", RULES, ids=lambda rule: f"{rule.kind}{RULES.index(rule)}"
)

WIDTH = 4
value = st.floats(-10, 10, width=32)
delta = st.tuples(*[value] * WIDTH)
arrival = st.builds(Arrival, st.sampled_from("abcd"), st.integers(0, 3), delta)
history = st.lists(arrival, min_size=1, max_size=10)
quick = settings(max_examples=20)


def run(rule: Any, arrivals: list[Arrival]) -> tuple[Server, list[Any]]:
    aggregator = server(rule, 1.0, -2.0, 0.5, 0.0)
    return aggregator, [aggregator.take(arrival.at(aggregator.now)) for arrival in arrivals]


def test_the_table_is_what_we_test() -> None:
    assert {type(rule) for rule in RULES} == set(get_args(AnyStrategy))


@every_rule
@given(arrivals=history)
@quick
def test_inputs_are_untouched(rule: Any, arrivals: list[Arrival]) -> None:
    aggregator = server(rule, 1.0, -2.0, 0.5, 0.0)
    known: dict[int, bytes] = {1: bits(aggregator.now.model)}
    for each in arrivals:
        update = each.at(aggregator.now, held=vector(1, 0, 1, 1))
        before = bits(update.delta)
        aggregator.take(update)
        assert bits(update.delta) == before
        assert update.held is not None
        assert bits(update.held) == bits(vector(1, 0, 1, 1))
        known.setdefault(aggregator.now.version, bits(aggregator.now.model))
    assert {v: bits(model) for v, model in aggregator.versions.items()} == known


@every_rule
@given(arrivals=history)
@quick
def test_the_same_history_gives_the_same_bits(rule: Any, arrivals: list[Arrival]) -> None:
    first, first_outcomes = run(rule, arrivals)
    second, second_outcomes = run(rule, arrivals)
    assert bits(first.now.model) == bits(second.now.model)
    assert first_outcomes == second_outcomes


@every_rule
@given(arrivals=history)
@quick
def test_a_version_is_one_server_step(rule: Any, arrivals: list[Arrival]) -> None:
    aggregator = server(rule, 1.0, -2.0, 0.5, 0.0)
    for each in arrivals:
        before = aggregator.now
        outcome = aggregator.take(each.at(before))
        if isinstance(outcome, Applied):
            assert aggregator.now.version == outcome.version == before.version + 1
            assert aggregator.now.model is not before.model
        else:
            assert aggregator.now is before
        if isinstance(outcome, Buffered):
            assert outcome.version == before.version + 1
            assert 1 <= outcome.fill < outcome.goal
        assert outcome.tau == min(each.lag, before.version - 1)


@every_rule
def test_fresh_updates_lead_to_a_version(rule: Any) -> None:
    aggregator = server(rule, 1.0, 1.0)
    outcomes = [
        aggregator.take(push(vector(1, 2), base=aggregator.now.version, device=d)) for d in "abc"
    ]
    assert isinstance(outcomes[-1], Applied)
    assert (aggregator.now.model > 1).all()
    assert aggregator.now.model[1] > aggregator.now.model[0]


@every_rule
@given(model=delta)
@quick
def test_an_update_that_changes_nothing_is_a_fixed_point(
    rule: Any, model: tuple[float, ...]
) -> None:
    aggregator = server(rule, *model)
    for device in "abc":
        update = push(torch.zeros(WIDTH), base=aggregator.now.version, device=device)
        assert not isinstance(aggregator.take(update), Dropped)
    assert aggregator.now.version > 1
    assert torch.equal(aggregator.now.model, vector(*model))


@every_rule
def test_weight_never_rises_with_staleness(rule: Any) -> None:
    weights = []
    for tau in range(12):
        now = Global(vector(1.0), Version(40))
        update = push(vector(1.0), base=40 - tau)
        outcome = rule.step(now, rule.init(now.model), update, vector(1.0)).outcome
        weights.append(0.0 if isinstance(outcome, Dropped) else outcome.weight)
    assert 0 < weights[0] <= 1
    assert weights == sorted(weights, reverse=True)
    assert weights[-1] < weights[0]


@every_rule
def test_entries_left_out_stay_as_they_were(rule: Any) -> None:
    now = Global(vector(1, -0.0, 3, 4), Version(9))
    fresh = not isinstance(rule, FedAvg)
    base = vector(5, 6, 7, 8) if fresh else now.model
    memory = rule.init(now.model)
    for device in "abc":
        update = push(
            vector(1, 0, 1, 0), base=8 if fresh else 9, device=device, held=vector(1, 0, 1, 0)
        )
        step = rule.step(now, memory, update, base)
        memory = step.memory
    assert torch.equal(step.after.model[1::2], now.model[1::2])
    assert (step.after.model[::2] > now.model[::2]).all()


@every_rule
@given(arrivals=history)
@quick
def test_a_full_mask_is_no_mask_bit_for_bit(rule: Any, arrivals: list[Arrival]) -> None:
    plain, masked = server(rule, 1.0, -2.0, 0.5, 0.0), server(rule, 1.0, -2.0, 0.5, 0.0)
    for each in arrivals:
        plain.take(each.at(plain.now))
        masked.take(each.at(masked.now, held=torch.ones(WIDTH)))
    assert torch.equal(plain.now.model, masked.now.model)


@every_rule
@pytest.mark.parametrize("through", ["pickle", "copy"])
@given(arrivals=history)
@quick
def test_memory_survives_a_restart_after_each_update(
    rule: Any, through: str, arrivals: list[Arrival]
) -> None:
    straight, restarted = server(rule, 1.0, -2.0, 0.5, 0.0), server(rule, 1.0, -2.0, 0.5, 0.0)
    for each in arrivals:
        memory = restarted.memory
        restarted.memory = (
            pickle.loads(pickle.dumps(memory))  # noqa: S301 - our own bytes, one line up
            if through == "pickle"
            else copy.deepcopy(memory)
        )
        assert straight.take(each.at(straight.now)) == restarted.take(each.at(restarted.now))
    assert bits(straight.now.model) == bits(restarted.now.model)


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        (FedAsync(max_tau=2), DropReason.TOO_STALE),
        (FedASMU(staleness_limit=3), DropReason.TOO_STALE),
        (FedAvg(cohort=2), DropReason.ROUND_OVER),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_a_drop_leaves_no_trace(rule: Any, reason: DropReason) -> None:
    aggregator = server(rule, 1.0, 2.0)
    while aggregator.now.version < 4:
        for device in "ab":
            aggregator.take(push(vector(1, -1), base=aggregator.now.version, device=device))
    now, memory = aggregator.now, pickle.dumps(aggregator.memory)
    outcome = aggregator.take(push(vector(9, 9), base=1, device="a"))
    assert isinstance(outcome, Dropped)
    assert outcome.reason is reason
    assert "pull" in outcome.message
    assert outcome.tau == now.version - 1
    assert aggregator.now is now
    assert pickle.dumps(aggregator.memory) == memory


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"kind": "fedasync", "alpha": 0.9}, FedAsync(alpha=0.9)),
        ({"kind": "fedbuff", "goal": 4}, FedBuff(goal=4)),
        ({"kind": "fedavg", "cohort": 5}, FedAvg(cohort=5)),
        ({"kind": "fedasmu", "rule": "gated"}, FedASMU(rule="gated")),
    ],
)
def test_a_task_file_names_the_rule(settings: dict[str, Any], rule: Any) -> None:
    assert TypeAdapter(AnyStrategy).validate_python(settings) == rule


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: FedAsync(alpha=0.0), "fedasync.alpha"),
        (lambda: FedAsync(alpha=1.5), "fedasync.alpha"),
        (lambda: FedAsync(alpha=float("nan")), "fedasync.alpha"),
        (lambda: FedAsync(exponent=-0.5), "fedasync.exponent"),
        (lambda: FedAsync(hinge_slope=-1.0), "fedasync.hinge_slope"),
        (lambda: FedAsync(hinge_delay=-1), "fedasync.hinge_delay"),
        (lambda: FedAsync(max_tau=-1), "fedasync.max_tau"),
        (lambda: FedAsync(staleness="linear"), "fedasync.staleness"),  # type: ignore[arg-type]
        (lambda: FedBuff(goal=0), "fedbuff.goal"),
        (lambda: FedBuff(server_lr=0.0), "fedbuff.server_lr"),
        (lambda: FedAvg(cohort=0), "fedavg.cohort"),
        (lambda: FedASMU(mu_alpha=0.0), "fedasmu.mu_alpha"),
        (lambda: FedASMU(lambda0=-1.0), "fedasmu.lambda0"),
        (lambda: FedASMU(sigma0=float("inf")), "fedasmu.sigma0"),
        (lambda: FedASMU(iota0=-1.0), "fedasmu.iota0"),
        (lambda: FedASMU(eta_lambda=-1.0), "fedasmu.eta_lambda"),
        (lambda: FedASMU(eta_sigma=-1.0), "fedasmu.eta_sigma"),
        (lambda: FedASMU(eta_iota=-1.0), "fedasmu.eta_iota"),
        (lambda: FedASMU(staleness_limit=0), "fedasmu.staleness_limit"),
        (lambda: FedASMU(rule="neither"), "fedasmu.rule"),  # type: ignore[arg-type]
    ],
)
def test_a_wrong_value_is_named(make: Any, field: str) -> None:
    with pytest.raises(TaskError, match=field):
        make()
