"""The slot policies of an aggregator, kept and given back."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hocket.core.triggering import FixedSlot, SlotPolicy
from hocket.errors import CorruptState
from hocket.task.setup import LearnedSlots


def learned() -> LearnedSlots:
    slots = LearnedSlots(seed=3, epochs=6)
    for _ in range(20):
        slots.reinforce(4, 0.8)
    return slots


@pytest.mark.parametrize("make", [learned, lambda: FixedSlot(2)])
def test_a_policy_goes_on_where_it_was(make: Callable[[], SlotPolicy]) -> None:
    policy = make()
    again = LearnedSlots(seed=9, epochs=6) if isinstance(policy, LearnedSlots) else FixedSlot(2)
    again.recall(policy.keep())
    for slots in (policy, again):
        slots.reinforce(2, 0.3)
    proposals = [[slots.propose(seed) for seed in range(40)] for slots in (policy, again)]
    assert proposals[0] == proposals[1]


def test_a_policy_of_another_kind_is_refused() -> None:
    with pytest.raises(CorruptState, match=r"has a fixed slot: restore `kind` of \[refresh\]"):
        FixedSlot(2).recall(learned().keep())
    with pytest.raises(CorruptState, match=r"restore `kind` of \[refresh\]"):
        learned().recall(FixedSlot(2).keep())
