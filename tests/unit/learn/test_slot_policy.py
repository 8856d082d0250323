"""The server's LSTM policy over slots, learned by REINFORCE."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
import torch

from hocket.core.strategy import Memory
from hocket.errors import CorruptState, InvalidUpdate, NotFinite, TaskError
from hocket.learn.slot_policy import SlotPolicy


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def probabilities(policy: SlotPolicy, epochs: int) -> list[float]:
    """P(slot) for slot 1..epochs-1."""
    with torch.no_grad():
        return [policy.log_probability(s, epochs).exp().item() for s in range(1, epochs)]


def always(policy: SlotPolicy, logit: float) -> SlotPolicy:
    """`policy` with every decision at `logit`, whatever came before."""
    with torch.no_grad():
        policy.head.weight.zero_()
        policy.head.bias.fill_(logit)
    return policy


def test_the_same_seed_gives_the_same_policy_and_no_other_chance_is_used() -> None:
    before = torch.random.get_rng_state()
    first, second, other = SlotPolicy(3), SlotPolicy(3), SlotPolicy(4)
    slots = [[p.propose(generator(9), 6) for _ in range(5)] for p in (first, second)]
    first.reinforce(2, 6, 0.5)
    second.reinforce(2, 6, 0.5)
    assert slots[0] == slots[1]
    assert probabilities(first, 6) == probabilities(second, 6) != probabilities(other, 6)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("epochs", [0, 1])
def test_there_is_no_slot_without_an_epoch_to_use_it_in(epochs: int) -> None:
    assert SlotPolicy(0).propose(generator(), epochs) == 0


@pytest.mark.parametrize("epochs", [2, 3, 5, 9])
@pytest.mark.parametrize("epsilon", [0.0, 0.5, 1.0])
def test_slots_never_leave_their_range(epochs: int, epsilon: float) -> None:
    policy, chance = SlotPolicy(1, epsilon=epsilon), generator()
    proposed = {policy.propose(chance, epochs) for _ in range(200)}
    assert proposed <= set(range(1, epochs))
    if epsilon == 1.0:
        assert proposed == set(range(1, epochs))


@pytest.mark.parametrize(("epochs", "middle"), [(2, 1), (3, 2), (4, 2), (5, 3), (8, 4)])
def test_a_sequence_without_a_yes_falls_back_to_the_middle(epochs: int, middle: int) -> None:
    policy = always(SlotPolicy(1, epsilon=0.0), -50.0)
    assert policy.propose(generator(), epochs) == middle


def test_a_certain_yes_is_the_first_slot() -> None:
    policy = always(SlotPolicy(1, epsilon=0.0), 50.0)
    assert policy.propose(generator(), 7) == 1


def test_even_decisions_halve_the_probability_from_slot_to_slot() -> None:
    """With P(yes) = 1/2 throughout: 1/2, 1/4, 1/8, 1/16; the 1/16 left falls back to 3."""
    policy, chance = always(SlotPolicy(1, epsilon=0.0), 0.0), generator()
    expected = [1 / 2, 1 / 4, 1 / 8 + 1 / 16, 1 / 16]
    assert probabilities(policy, 5) == pytest.approx(expected)
    counts = Counter(policy.propose(chance, 5) for _ in range(1500))
    assert [counts[slot] / 1500 for slot in range(1, 5)] == pytest.approx(expected, abs=0.04)


def test_proposals_follow_the_probabilities() -> None:
    policy, chance = SlotPolicy(5, epsilon=0.0), generator(2)
    expected = probabilities(policy, 4)
    counts = Counter(policy.propose(chance, 4) for _ in range(1500))
    assert sum(expected) == pytest.approx(1.0, abs=1e-6)
    assert [counts[slot] / 1500 for slot in (1, 2, 3)] == pytest.approx(expected, abs=0.04)


@pytest.mark.parametrize("slot", [1, 2, 4])
def test_the_rewarded_slot_becomes_likelier_and_the_punished_one_less_so(slot: int) -> None:
    praised, blamed = SlotPolicy(2), SlotPolicy(2)
    before = probabilities(praised, 5)[slot - 1]
    praised.reinforce(slot, 5, 0.5)
    blamed.reinforce(slot, 5, -0.5)
    assert probabilities(praised, 5)[slot - 1] > before > probabilities(blamed, 5)[slot - 1]


@pytest.mark.parametrize(
    ("slot", "slope"),
    [
        (1, 0.5),  # yes at even odds: d log q / db = 1 - q
        (4, -1.0),  # three times no, -1/2 each, and yes, +1/2
        (3, -1.0),  # P = (1-q)^2 q + (1-q)^4 = 3/16 and dP/db = (-1/2 + 1/4 - 1/2) / 4 = -3/16
    ],
)
def test_the_step_is_the_gradient_times_the_advantage(slot: int, slope: float) -> None:
    policy = always(SlotPolicy(1, learning_rate=0.2), 0.0)
    policy.baseline.fill_(0.25)
    policy.reinforce(slot, 5, 0.75)
    assert policy.head.bias.item() == pytest.approx(0.2 * (0.75 - 0.25) * slope)


def test_a_reward_at_the_baseline_changes_nothing() -> None:
    policy = SlotPolicy(2)
    policy.baseline.fill_(0.5)
    before = {name: value.clone() for name, value in policy.state_dict().items()}
    policy.reinforce(2, 5, 0.5)
    for name, value in policy.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_the_baseline_is_a_running_mean() -> None:
    """kappa = 0.85: 0.15 * 0.4 = 0.06, then 0.85 * 0.06 + 0.15 * -0.2 = 0.021."""
    policy = SlotPolicy(2)
    policy.reinforce(1, 5, 0.4)
    assert policy.baseline.item() == pytest.approx(0.06)
    policy.reinforce(3, 5, -0.2)
    assert policy.baseline.item() == pytest.approx(0.021)


@pytest.mark.parametrize("pays", [2, 3])
def test_it_finds_the_slot_that_pays(pays: int) -> None:
    policy, chance = SlotPolicy(0), generator(1)
    for _ in range(600):
        slot = policy.propose(chance, 5)
        policy.reinforce(slot, 5, 0.5 if slot == pays else 0.0)
    found = probabilities(policy, 5)
    assert max(found) == found[pays - 1] > 0.5


def test_the_state_survives_a_restart() -> None:
    policy, again = SlotPolicy(0), SlotPolicy(99)
    policy.reinforce(2, 5, 0.7)
    again.load_state_dict(policy.state_dict())
    policy.reinforce(3, 5, 0.1)
    again.reinforce(3, 5, 0.1)
    assert probabilities(policy, 5) == probabilities(again, 5)
    assert policy.baseline.item() == again.baseline.item()


def test_what_was_kept_goes_on_bit_for_bit_and_is_not_written_to() -> None:
    policy, again = SlotPolicy(0), SlotPolicy(99)
    policy.reinforce(2, 5, 0.7)
    kept = policy.keep()
    before = {name: value.clone() for name, value in kept.tensors.items()}
    again.recall(Memory(json.loads(json.dumps(kept.facts)), kept.tensors))
    for each in (policy, again):
        each.reinforce(3, 5, 0.1)
    assert all(torch.equal(value, before[name]) for name, value in kept.tensors.items())
    first, second = policy.keep(), again.keep()
    assert first.tensors.keys() == second.tensors.keys() == {*before}
    assert all(torch.equal(first.tensors[name], second.tensors[name]) for name in before)
    assert not any(value.requires_grad for value in first.tensors.values())
    chances = [[p.propose(generator(3), 9) for _ in range(5)] for p in (policy, again)]
    assert chances[0] == chances[1]


@pytest.mark.parametrize(
    "other",
    [
        Memory,
        lambda: SlotPolicy(0, hidden=8).keep(),
        lambda: Memory({"kind": "fixed"}, SlotPolicy(0).keep().tensors),
        lambda: Memory({"kind": "learned"}, {**SlotPolicy(0).keep().tensors, "x": torch.ones(1)}),
    ],
)
def test_another_policys_memory_is_refused_and_nothing_taken(other: Any) -> None:
    policy = SlotPolicy(0)
    before = probabilities(policy, 5)
    with pytest.raises(CorruptState, match=r"\[refresh\]"):
        policy.recall(other())
    assert probabilities(policy, 5) == before


@pytest.mark.parametrize("reward", [float("nan"), float("inf"), float("-inf")])
def test_a_reward_that_is_no_number_is_refused(reward: float) -> None:
    policy = SlotPolicy(0)
    before = probabilities(policy, 5)
    with pytest.raises(NotFinite, match="reward"):
        policy.reinforce(2, 5, reward)
    assert probabilities(policy, 5) == before
    assert policy.baseline.item() == 0.0


@pytest.mark.parametrize("slot", [-1, 0, 5])
def test_a_slot_out_of_range_is_refused(slot: int) -> None:
    with pytest.raises(InvalidUpdate, match=r"outside 1\.\.4"):
        SlotPolicy(0).reinforce(slot, 5, 0.5)


def test_a_lying_device_counts_no_more_than_the_clip() -> None:
    liar, honest = SlotPolicy(0), SlotPolicy(0)
    liar.reinforce(2, 5, 1e30)
    honest.reinforce(2, 5, 1.0)
    assert probabilities(liar, 5) == probabilities(honest, 5)


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"hidden": 0}, "hidden"),
        ({"learning_rate": -0.1}, "learning_rate"),
        ({"kappa": 1.5}, "kappa"),
        ({"epsilon": -0.1}, "epsilon"),
        ({"reward_clip": 0.0}, "reward_clip"),
    ],
)
def test_a_wrong_value_is_named(values: dict[str, Any], name: str) -> None:
    with pytest.raises(TaskError, match=f"slot_policy.{name}"):
        SlotPolicy(0, **values)
