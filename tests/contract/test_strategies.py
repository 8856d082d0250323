"""What every aggregation rule must do. A new rule joins by being in RULES.

Long on purpose: whoever adds a rule finds every law that it must keep in one place.
"""

from __future__ import annotations

import copy
import json
import math
import pickle
import random
from itertools import product
from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from support.fuzzing import records
from support.strategies import Arrival, Server, bits, push, server, vector

from hocket.core.ids import Version
from hocket.core.strategy import Exchanging, Global, Memory
from hocket.core.update import Applied, Buffered, Dropped, DropReason
from hocket.errors import CorruptState, InvalidUpdate, TaskError
from hocket.learn.strategies import (
    AnyStrategy,
    AsoFed,
    Ca2fl,
    Fadas,
    FedASMU,
    FedAsync,
    FedAvg,
    FedBuff,
    FedNova,
    FedProx,
    Moon,
    Port,
    Scaffold,
)
from hocket.learn.strategies.parts import Parts
from hocket.learn.strategies.server import Adam, Average, Sgd

RULES: list[Any] = [
    FedAsync(),
    FedAsync(staleness="hinge", hinge_delay=1),
    FedBuff(goal=3),
    FedAvg(cohort=3),
    FedASMU(),
    FedASMU(rule="gated", normalise=False, sigma0=0.5),
    FedASMU(memory="sketch", sketch_size=3),
    Port(minimum=3),
    Ca2fl(goal=3, devices=4),
    Fadas(goal=3, eps=1.0),  # so large that the length of a delta counts, as it does elsewhere
    FedNova(cohort=3),
    FedNova(cohort=3, momentum=0.5),
    Scaffold(cohort=3, devices=4),
    FedProx(cohort=3),
    Moon(cohort=3),
    AsoFed(devices=4),
    FedAvg(cohort=3, parts=Parts(weights="width", damped=True)),
    FedNova(cohort=3, parts=Parts(weights="equal", damped=True)),
    FedBuff(goal=3, denominator="received"),
    FedAsync(staleness_of="entry"),
    FedASMU(staleness_of="entry"),
    FedAvg(cohort=3, parts=Parts(mean="moved")),
    FedAvg(cohort=3, server=Sgd(lr=0.5, momentum=0.9)),
    FedAvg(cohort=3, parts=Parts(mean="moved", damped=True), server=Adam()),
    FedProx(cohort=3, server=Adam()),
    FedNova(cohort=3, parts=Parts("width", mean="moved"), server=Sgd(momentum=0.5)),
    FedNova(cohort=3, server=Adam()),
]

ONE_OF_EACH = {(rule.kind, getattr(rule, "memory", "")): rule for rule in RULES}
"""By what tells whose memory it is: the last of RULES."""
SYNCHRONOUS = ("fedavg", "fednova", "scaffold", "fedprox", "moon")
"""They drop what did not start from the newest version."""
WHOLE_ONLY = ("ca2fl", "fadas", "scaffold", "asofed")  # they refuse updates of submodels
UNDISCOUNTED = ("ca2fl", "fadas", "asofed")  # an update weighs the same, however stale
ONE_BY_ONE = ("fedasync", "fedasmu", "asofed")  # each update makes a version
UNLIKE_FEDAVG = (*ONE_BY_ONE, "fadas")  # the last one's step is Adam's


def is_average(rule: Any) -> bool:
    """Of all that come, zeros too, and without an optimizer on the server."""
    held = getattr(rule, "parts", Parts()).mean == "held"
    plain = isinstance(getattr(rule, "server", Average()), Average)
    return held and plain and rule.kind not in UNLIKE_FEDAVG


def among(rules: list[Any]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        "rule", rules, ids=lambda rule: f"{rule.kind}{RULES.index(rule)}"
    )


every_rule = among(RULES)
every_rule_for_parts = among([rule for rule in RULES if rule.kind not in WHOLE_ONLY])
every_average = among([rule for rule in RULES if is_average(rule)])

WIDTH = 4
VALUES = (
    *(0.0, -0.0, 1.0, -1.0, 10.0, -10.0, 0.5, -0.5, 1 / 3, 1e-3, -1e-5, 2.0**-24),
    *(1.0 + 2.0**-23, 10.0 - 2.0**-20, 2.0**-126, -(2.0**-126), 2.0**-149, -(2.0**-149)),
    *(random.Random(7).uniform(-10, 10) for _ in range(110)),
)
"""One byte of a script is one of these: what sums get wrong, and the values between."""


def values_of(script: bytes) -> tuple[float, ...]:
    return tuple(VALUES[byte % len(VALUES)] for byte in script)


def arrival_of(script: bytes) -> Arrival:
    """From whom, how stale, what."""
    return Arrival("abcd"[script[0] % 4], script[1] % 4, values_of(script[2:]))


delta = st.binary(min_size=WIDTH, max_size=WIDTH).map(values_of)
history = records(1, 10, 2 + WIDTH).map(lambda scripts: [arrival_of(each) for each in scripts])
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
        mask = None if rule.kind in WHOLE_ONLY else vector(1, 0, 1, 1)
        update = each.at(aggregator.now, held=mask)
        before = bits(update.delta)
        aggregator.take(update)
        assert bits(update.delta) == before
        assert update.held is None or bits(update.held) == bits(vector(1, 0, 1, 1))
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


@among([rule for rule in RULES if isinstance(rule, Exchanging)])
@given(arrivals=history)
@quick
def test_what_is_exchanged_changes_with_a_version_and_never_in_place(
    rule: Any, arrivals: list[Arrival]
) -> None:
    aggregator = server(rule, 1.0, -2.0, 0.5, 0.0)
    told = {1: (rule.down(aggregator.memory), bits(rule.down(aggregator.memory)))}
    for each in arrivals:
        aggregator.take(each.at(aggregator.now))
        down = rule.down(aggregator.memory)
        assert down.shape == aggregator.now.model.shape
        _, as_bits = told.setdefault(aggregator.now.version, (down, bits(down)))
        assert bits(down) == as_bits
    assert all(bits(known) == as_bits for known, as_bits in told.values())


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
    by_entry = getattr(rule, "staleness_of", "") == "entry"  # of entries that nobody has moved
    assert (weights[-1] == weights[0]) == (rule.kind in UNDISCOUNTED or by_entry)


@every_average
@given(pushed=st.lists(delta, min_size=3, max_size=9), sizes=st.tuples(*[st.integers(1, 99)] * 3))
@quick
def test_with_everything_fresh_and_everyone_taking_part_an_average_is_fedavg(
    rule: Any, pushed: list[tuple[float, ...]], sizes: tuple[int, ...]
) -> None:
    """Some versions of three devices each, all of equally many steps."""
    by_examples = getattr(rule, "parts", Parts()).weights == "examples"
    if rule.kind in ("fedbuff", "ca2fl", "scaffold") or not by_examples:
        sizes = (7, 7, 7)  # every update weighs the same there
    if rule.kind == "ca2fl":
        rule = Ca2fl(goal=3, devices=3)
    one, other = (server(each, 1.0, -2.0, 0.5, 0.0) for each in (rule, FedAvg(cohort=3)))
    for start in range(0, len(pushed) - 2, 3):
        for name, values, size in zip("abc", pushed[start : start + 3], sizes, strict=True):
            for each in (one, other):
                version = each.now.version
                each.take(push(vector(*values), base=version, device=name, examples=size, steps=5))
    assert one.now.version == other.now.version == 1 + len(pushed) // 3
    assert torch.allclose(one.now.model, other.now.model, rtol=1e-6, atol=1e-5)


@among([rule for rule in RULES if rule.kind not in ONE_BY_ONE])
@given(last=st.permutations(range(3)))
@quick
def test_the_order_within_a_version_does_not_matter(rule: Any, last: list[int]) -> None:
    """Of the third version; two came before it, so that there is something to remember."""
    deltas = [vector(1, 2, 3, 4), vector(-2, 1, 0, 8), vector(5, 5, -1, 0.5)]
    ends = []
    for order in (range(3), last):
        aggregator = server(rule, 1.0, -2.0, 0.5, 0.0)
        for numbers in (range(3), range(3), order):
            base = aggregator.now.version
            for n in numbers:
                aggregator.take(push(deltas[n], base=base, device="abc"[n], examples=n + 1))
        ends.append(aggregator.now)
    assert ends[0].version == ends[1].version == 4
    assert torch.allclose(ends[0].model, ends[1].model, rtol=1e-6, atol=1e-6)


@among([rule for rule in RULES if rule.kind in WHOLE_ONLY])
def test_an_update_of_a_submodel_is_refused_and_leaves_no_trace(rule: Any) -> None:
    aggregator = server(rule, 1.0, 2.0)
    aggregator.take(push(vector(1, 1), device="a"))
    memory = pickle.dumps(aggregator.memory)
    with pytest.raises(InvalidUpdate, match=f"{rule.kind} takes updates of the whole model only"):
        aggregator.take(push(vector(1, 0), device="b", held=vector(1, 0)))
    assert pickle.dumps(aggregator.memory) == memory


@every_rule_for_parts
def test_entries_left_out_stay_as_they_were(rule: Any) -> None:
    now = Global(vector(1, -0.0, 3, 4), Version(9))
    stale = rule.kind not in SYNCHRONOUS
    base = vector(5, 6, 7, 8) if stale else now.model
    memory = rule.init(now.model)
    for device in "abc":
        update = push(
            vector(1, 0, 1, 0), base=8 if stale else 9, device=device, held=vector(1, 0, 1, 0)
        )
        step = rule.step(now, memory, update, base)
        memory = step.memory
    assert torch.equal(step.after.model[1::2], now.model[1::2])
    assert (step.after.model[::2] > now.model[::2]).all()


@every_rule_for_parts
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


def through_storage(kept: Memory[torch.Tensor]) -> Memory[torch.Tensor]:
    """What comes back from a disk: other objects of equal bits, which nobody may write to."""
    tensors = {name: torch.from_numpy(t.numpy().copy()) for name, t in kept.tensors.items()}
    return Memory(json.loads(json.dumps(kept.facts, allow_nan=False)), tensors)


def frozen(kept: Memory[torch.Tensor]) -> tuple[str, dict[str, bytes]]:
    facts = json.dumps(kept.facts, sort_keys=True)
    return facts, {name: bits(value) for name, value in kept.tensors.items()}


MASKS = (None, vector(1, 0, 1, 1), vector(1, 1, 1, 1), vector(0, 0, 1, 0))


def mixed(arrivals: list[Arrival], aggregator: Server, start: int) -> list[Any]:
    """Have whole and partial updates folded in, in turn."""
    outcomes = []
    for number, each in enumerate(arrivals, start):
        mask = None if aggregator.rule.kind in WHOLE_ONLY else MASKS[number % len(MASKS)]
        update = each.at(aggregator.now, held=mask, examples=1 + number % 3, steps=1 + number % 4)
        if update.held is not None:
            update.delta.mul_(update.held)
        outcomes.append(aggregator.take(update))
    return outcomes


@every_rule
@given(before=history, after=history)
@settings(max_examples=30)
def test_memory_that_was_kept_goes_on_bit_for_bit(
    rule: Any, before: list[Arrival], after: list[Arrival]
) -> None:
    straight, resumed = server(rule, 1.0, -2.0, 0.5, 0.0), server(rule, 1.0, -2.0, 0.5, 0.0)
    assert mixed(before, straight, 0) == mixed(before, resumed, 0)
    kept = rule.keep(resumed.memory)
    as_kept = frozen(kept)
    stored = through_storage(kept)
    resumed.memory = rule.recall(stored, resumed.now.model)
    assert mixed(after, straight, len(before)) == mixed(after, resumed, len(before))
    assert bits(straight.now.model) == bits(resumed.now.model)
    assert frozen(rule.keep(straight.memory)) == frozen(rule.keep(resumed.memory))
    assert frozen(stored) == as_kept  # going on did not write to what was stored


@every_rule
@given(before=history, after=history)
@quick
def test_what_was_kept_stays_as_it_was(
    rule: Any, before: list[Arrival], after: list[Arrival]
) -> None:
    aggregator = server(rule, 1.0, -2.0, 0.5, 0.0)
    mixed(before, aggregator, 0)
    kept = rule.keep(aggregator.memory)
    as_kept = frozen(kept)
    mixed(after, aggregator, len(before))
    assert frozen(kept) == as_kept


@pytest.mark.parametrize(
    ("rule", "tensors"), [(FedBuff(goal=3), 1), (FedAvg(cohort=3), 2), (FedNova(cohort=3), 3)]
)
def test_a_half_full_buffer_is_kept_and_an_empty_one_takes_no_room(rule: Any, tensors: int) -> None:
    aggregator = server(rule, 1.0, 2.0)
    assert rule.keep(aggregator.memory).tensors == {}
    for device in "abc":
        aggregator.take(push(vector(1, 0), device=device, held=vector(1, 0)))
        expected = 0 if device == "c" else tensors
        assert len(rule.keep(aggregator.memory).tensors) == expected


def test_contributions_are_handed_out_as_they_are() -> None:
    aggregator = server(FedASMU(), 1.0, 2.0)
    aggregator.take(push(vector(1, 1)))
    kept = aggregator.rule.keep(aggregator.memory)
    assert kept.tensors["moved/a"] is aggregator.memory.devices["a"].last.moved
    again = aggregator.rule.recall(kept, aggregator.now.model)
    assert again.devices["a"].last.moved is kept.tensors["moved/a"]


def test_cached_deltas_are_handed_out_as_they_are() -> None:
    aggregator = server(Ca2fl(goal=2, devices=3), 1.0, 2.0)
    for device in "abc":
        aggregator.take(push(vector(1, 1), base=aggregator.now.version, device=device))
    kept = aggregator.rule.keep(aggregator.memory)
    assert kept.facts["devices"] == ["a", "b"]
    assert kept.facts["pending"] == ["c"]
    assert kept.tensors["cached/a"] is aggregator.memory.cached["a"]
    again = aggregator.rule.recall(kept, aggregator.now.model)
    assert again.pending["c"] is kept.tensors["pending/c"]


def some_memory(rule: Any, *values: float) -> Memory[torch.Tensor]:
    aggregator = server(rule, *values)
    for device in "ab":
        aggregator.take(push(vector(*([1.0] * len(values))), base=1, device=device))
    kept: Memory[torch.Tensor] = rule.keep(aggregator.memory)
    return kept


@pytest.mark.parametrize(
    ("rule", "other"),
    [(rule, other) for rule, other in product(ONE_OF_EACH.values(), repeat=2) if rule is not other],
    ids=lambda rule: f"{rule.kind}{RULES.index(rule)}",
)
def test_another_rules_memory_is_refused(rule: Any, other: Any) -> None:
    with pytest.raises(CorruptState, match="begin anew"):
        rule.recall(some_memory(other, 1.0, 2.0), vector(1.0, 2.0))


@pytest.mark.parametrize("rule", RULES[2:], ids=lambda rule: f"{rule.kind}{RULES.index(rule)}")
@pytest.mark.parametrize("harm", ["shape", "dtype", "missing", "extra", "fact", "no fact"])
def test_damaged_memory_is_refused(rule: Any, harm: str) -> None:
    kept = some_memory(rule, 1.0, 2.0)
    facts, tensors = dict(kept.facts), dict(kept.tensors)
    first = min(tensors)
    name = next(name for name in ("fill", "examples", "devices", "staleness_of") if name in facts)
    match harm:
        case "shape":
            tensors[first] = torch.zeros(9, dtype=tensors[first].dtype)
        case "dtype":
            tensors[first] = tensors[first].to(torch.float16)
        case "missing":
            del tensors[first]
        case "extra":
            tensors["more"] = vector(1.0)
        case "fact":
            facts[name] = -1
        case "no fact":
            del facts[name]
    with pytest.raises(CorruptState):
        rule.recall(Memory(facts, tensors), vector(1.0, 2.0))


ODD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, 2**70, 0.5, 1e308, math.nan, math.inf),
    *("", "a", "\0", [], {}),
)
one_value = st.sampled_from(ODD) | st.integers() | st.floats() | st.text(max_size=8)
anything = (
    one_value
    | st.lists(one_value | st.lists(one_value, max_size=2), max_size=3)
    | st.dictionaries(st.text(max_size=8), one_value, max_size=3)
)


@every_rule
@given(data=st.data())
@settings(max_examples=60)
def test_any_facts_give_memory_or_corrupt_state(rule: Any, data: st.DataObject) -> None:
    kept = some_memory(rule, 1.0, 2.0)
    facts = dict(kept.facts)
    facts[data.draw(st.sampled_from(sorted(facts)))] = data.draw(anything)
    try:
        memory = rule.recall(Memory(facts, kept.tensors), vector(1.0, 2.0))
    except CorruptState:
        return
    now = Global(vector(1.0, 2.0), Version(4))
    update = push(vector(1.0, 1.0), base=4, device="c")
    assert isinstance(rule.step(now, memory, update, now.model).outcome, Applied | Buffered)


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        (FedAsync(max_tau=2), DropReason.TOO_STALE),
        (FedASMU(staleness_limit=3), DropReason.TOO_STALE),
        (FedAvg(cohort=2), DropReason.ROUND_OVER),
        (FedAvg(cohort=2, server=Adam()), DropReason.ROUND_OVER),
        (FedNova(cohort=2), DropReason.ROUND_OVER),
        (Scaffold(cohort=2), DropReason.ROUND_OVER),
        (FedProx(cohort=2), DropReason.ROUND_OVER),
        (Moon(cohort=2), DropReason.ROUND_OVER),
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
        ({"kind": "port", "minimum": 5, "alpha": 1}, Port(minimum=5, alpha=1.0)),
        ({"kind": "ca2fl", "goal": 5, "devices": 20}, Ca2fl(goal=5, devices=20)),
        ({"kind": "fadas", "server_lr": 0.003}, Fadas(server_lr=0.003)),
        ({"kind": "fednova", "momentum": 0.9}, FedNova(momentum=0.9)),
        ({"kind": "scaffold", "devices": 50}, Scaffold(devices=50)),
        ({"kind": "fedasync", "rho": 0.005}, FedAsync(rho=0.005)),
        ({"kind": "fedprox", "mu": 0.1}, FedProx(mu=0.1)),
        ({"kind": "fedprox", "server": {"kind": "mean"}}, FedProx()),
        ({"kind": "fednova", "server": {"kind": "sgd"}}, FedNova(server=Sgd())),
        (
            {"kind": "fedavg", "parts": {"mean": "moved"}, "server": {"kind": "adam", "lr": 1}},
            FedAvg(parts=Parts(mean="moved"), server=Adam(lr=1.0)),
        ),
        ({"kind": "moon", "mu": 5, "temperature": 1}, Moon(mu=5.0, temperature=1.0)),
        ({"kind": "asofed", "lambda_": 0.1}, AsoFed(lambda_=0.1)),
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
        (lambda: Sgd(lr=0.0), "server.lr"),
        (lambda: Sgd(lr=float("nan")), "server.lr"),
        (lambda: Sgd(momentum=1.0), "server.momentum"),
        (lambda: Sgd(momentum=-0.1), "server.momentum"),
        (lambda: Adam(lr=-0.01), "server.lr"),
        (lambda: Adam(beta1=1.0), "server.beta1"),
        (lambda: Adam(beta2=-0.1), "server.beta2"),
        (lambda: Adam(tau=0.0), "server.tau"),
        (lambda: FedASMU(mu_alpha=0.0), "fedasmu.mu_alpha"),
        (lambda: FedASMU(lambda0=-1.0), "fedasmu.lambda0"),
        (lambda: FedASMU(sigma0=float("inf")), "fedasmu.sigma0"),
        (lambda: FedASMU(iota0=-1.0), "fedasmu.iota0"),
        (lambda: FedASMU(eta_lambda=-1.0), "fedasmu.eta_lambda"),
        (lambda: FedASMU(eta_sigma=-1.0), "fedasmu.eta_sigma"),
        (lambda: FedASMU(eta_iota=-1.0), "fedasmu.eta_iota"),
        (lambda: FedASMU(staleness_limit=0), "fedasmu.staleness_limit"),
        (lambda: FedASMU(rule="neither"), "fedasmu.rule"),  # type: ignore[arg-type]
        (lambda: FedASMU(memory="none"), "fedasmu.memory"),  # type: ignore[arg-type]
        (lambda: FedASMU(sketch_size=0), "fedasmu.sketch_size"),
        (lambda: Port(minimum=0), "port.minimum"),
        (lambda: Port(bound=0), "port.bound"),
        (lambda: Port(alpha=0.0), "port.alpha"),
        (lambda: Port(beta=-1.0), "port.beta"),
        (lambda: Ca2fl(goal=0), "ca2fl.goal"),
        (lambda: Ca2fl(devices=0), "ca2fl.devices"),
        (lambda: Ca2fl(server_lr=0.0), "ca2fl.server_lr"),
        (lambda: Fadas(goal=0), "fadas.goal"),
        (lambda: Fadas(server_lr=-1.0), "fadas.server_lr"),
        (lambda: Fadas(beta1=1.0), "fadas.beta1"),
        (lambda: Fadas(beta2=-0.1), "fadas.beta2"),
        (lambda: Fadas(eps=0.0), "fadas.eps"),
        (lambda: Fadas(tau_limit=-1), "fadas.tau_limit"),
        (lambda: FedNova(cohort=0), "fednova.cohort"),
        (lambda: FedNova(momentum=1.0), "fednova.momentum"),
        (lambda: FedNova(mu=-1.0), "fednova.mu"),
        (lambda: FedNova(momentum=0.5, mu=0.1), "set the other to 0"),
        (lambda: FedAsync(rho=-0.1), "fedasync.rho"),
        (lambda: FedProx(cohort=0), "fedprox.cohort"),
        (lambda: FedProx(mu=-0.1), "fedprox.mu"),
        (lambda: Moon(cohort=0), "moon.cohort"),
        (lambda: Moon(mu=-1.0), "moon.mu"),
        (lambda: Moon(temperature=0.0), "moon.temperature"),
        (lambda: AsoFed(devices=0), "asofed.devices"),
        (lambda: AsoFed(lambda_=-1.0), "asofed.lambda_"),
        (lambda: AsoFed(beta=1.0), "asofed.beta"),
        (lambda: Scaffold(cohort=0), "scaffold.cohort"),
        (lambda: Scaffold(devices=0), "scaffold.devices"),
        (lambda: Scaffold(server_lr=0.0), "scaffold.server_lr"),
        (lambda: Scaffold(cohort=5, devices=4), "scaffold.devices is 4, but scaffold.cohort is 5"),
    ],
)
def test_a_wrong_value_is_named(make: Any, field: str) -> None:
    with pytest.raises(TaskError, match=field):
        make()
