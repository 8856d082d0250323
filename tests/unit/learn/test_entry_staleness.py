"""An entry is as stale as it was moved since: by hand, and against the staleness of updates."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.strategies import Arrival, bits, push, server, vector

from hocket.core.update import Applied
from hocket.errors import CorruptState, TaskError
from hocket.learn.strategies import FedASMU, FedAsync
from hocket.learn.strategies.mixing import mix, mix_and_measure

LEFT, RIGHT = vector(1, 0), vector(0, 1)

arrivals = st.lists(
    st.builds(
        Arrival,
        st.sampled_from("abc"),
        st.integers(0, 4),
        st.tuples(*[st.floats(-5, 5, width=32)] * 4),
    ),
    min_size=1,
    max_size=12,
)


def test_what_nobody_moved_is_fresh_and_what_somebody_moved_is_not() -> None:
    """Version 2 moves both entries, 3 and 4 the left one; then an update of base 2 comes.

    Left it is 4 - 2 = 2 stale, so alpha = .6 / sqrt(3); right it is fresh, so alpha = .6.
    """
    aggregator = server(FedAsync(staleness_of="entry"), 0.0, 0.0)
    aggregator.take(push(vector(1, 1), base=1))
    for base in (2, 3):
        aggregator.take(push(vector(0, 0), base=base, held=LEFT))
    before = aggregator.now.model.clone()
    outcome = aggregator.take(push(vector(10, 10), base=2))
    left, right = 0.6 / math.sqrt(3), 0.6
    assert (aggregator.now.model - before).tolist() == pytest.approx([10 * left, 10 * right])
    assert isinstance(outcome, Applied)
    assert outcome.weight == pytest.approx((left + right) / 2)
    assert outcome.tau == 2


def test_an_entry_is_stale_up_to_its_last_move_and_not_up_to_now() -> None:
    """Moved by version 3 and not by 4 to 6: an update of base 2 is one stale there, not four."""
    aggregator = server(FedAsync(staleness_of="entry"), 0.0, 0.0)
    aggregator.take(push(vector(0, 0), base=1))
    aggregator.take(push(vector(0, 0), base=2))
    for base in (3, 4, 5):
        aggregator.take(push(vector(0, 0), base=base, held=LEFT))
    outcome = aggregator.take(push(vector(0, 10), base=2, held=RIGHT))
    assert aggregator.now.model.tolist() == pytest.approx([0.0, 10 * 0.6 / math.sqrt(2)])
    assert isinstance(outcome, Applied)
    assert outcome.weight == pytest.approx(0.6 / math.sqrt(2))
    assert outcome.tau == 4


def test_fedasmu_discounts_each_entry_and_remembers_the_mean() -> None:
    """With mu = 1 and lambda = sigma = 1: xi = 1 / (sqrt(t) s), alpha = xi / (1 + xi)."""
    aggregator = server(FedASMU(staleness_of="entry"), 0.0, 0.0)
    aggregator.take(push(vector(0, 0), base=1, device="a"))
    for base in (2, 3):
        aggregator.take(push(vector(0, 0), base=base, device="a", held=LEFT))
    aggregator.take(push(vector(10, 10), base=2, device="b"))
    xi = [1 / (math.sqrt(4) * s) for s in (3, 1)]
    assert aggregator.now.model.tolist() == pytest.approx([10 * x / (1 + x) for x in xi])
    assert aggregator.memory.devices["b"].last.s == 2  # of 3 and 1


@pytest.mark.parametrize("rule", [FedAsync, FedASMU])
@given(pushed=arrivals)
@settings(max_examples=25)
def test_where_all_train_all_it_is_the_staleness_of_the_update_bit_for_bit(
    rule: Any, pushed: list[Arrival]
) -> None:
    by_entry, by_update = (
        server(rule(staleness_of=of), 1.0, -2.0, 0.5, 0.0) for of in ("entry", "update")
    )
    for each in pushed:
        one, other = (of.take(each.at(of.now)) for of in (by_entry, by_update))
        assert one == other
    assert bits(by_entry.now.model) == bits(by_update.now.model)


@given(pushed=arrivals, masks=st.lists(st.sampled_from(range(1, 16)), min_size=12, max_size=12))
@settings(max_examples=50)
def test_a_history_of_parts_against_one_rule_for_each_entry(
    pushed: list[Arrival], masks: list[int]
) -> None:
    """Of each entry alone, counting versions since its last move in plain Python."""
    aggregator = server(FedAsync(staleness_of="entry"), 1.0, -2.0, 0.5, 0.0)
    history, moved = [[1.0, -2.0, 0.5, 0.0]], [0] * 4
    for each, bit_mask in zip(pushed, masks, strict=False):
        base = max(1, len(history) - each.lag)
        held = [bit_mask >> i & 1 for i in range(4)]
        delta = [d * h for d, h in zip(each.delta, held, strict=True)]
        update = push(vector(*delta), base=base, device=each.device, held=vector(*held))
        aggregator.take(update)
        newest = list(history[-1])
        for i in range(4):
            if held[i]:
                alpha = 0.6 / math.sqrt(1 + max(0, moved[i] - base))
                newest[i] += alpha * (history[base - 1][i] + delta[i] - newest[i])
                moved[i] = len(history) + 1
        history.append(newest)
    assert torch.allclose(aggregator.now.model, vector(*history[-1]), rtol=1e-4, atol=1e-4)


def test_large_vectors_are_mixed_by_entries_as_small_ones_are() -> None:
    chance = torch.Generator().manual_seed(1)
    model, base, delta = (torch.randn(600_001, generator=chance) for _ in range(3))
    alphas = torch.rand(600_001, generator=chance)
    mixed = mix_and_measure(model, base, push(delta), alphas)
    exact = model + alphas.double() * (base.double() - model + delta)
    assert torch.allclose(mixed.after.double(), exact, atol=1e-5)
    assert torch.equal(mix(model, base, push(delta), alphas), mixed.after)
    some = slice(524_200, 524_400)  # over the border of two blocks
    alone = mix(model[some].clone(), base[some].clone(), push(delta[some].clone()), alphas[some])
    assert torch.equal(alone, mixed.after[some])


@pytest.mark.parametrize("rule", [FedAsync, FedASMU])
def test_memory_of_the_other_staleness_is_refused(rule: Any) -> None:
    by_entry, by_update = rule(staleness_of="entry"), rule()
    model = vector(1, 2)
    for one, other in ((by_entry, by_update), (by_update, by_entry)):
        with pytest.raises(CorruptState):
            one.recall(other.keep(other.init(model)), model)


@pytest.mark.parametrize("rule", [FedAsync, FedASMU])
def test_a_staleness_that_nobody_knows_is_refused(rule: Any) -> None:
    with pytest.raises(TaskError, match=r"staleness_of is 'layer'; choose 'update'"):
        rule(staleness_of="layer")
