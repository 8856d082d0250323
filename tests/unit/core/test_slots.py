"""The device's Q-table over slots."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hocket.core.slots import ADD, MINUS, STAY, SlotTable
from hocket.errors import DataError, NotFinite, TaskError


class Draws:
    """Chance that explores always, or never, and takes the actions in `script`."""

    def __init__(self, script: list[int] | None = None) -> None:
        self.script = script

    def random(self) -> float:
        return 0.999999 if self.script is None else 0.0

    def below(self, n: int) -> int:
        assert n == 3
        assert self.script is not None
        return self.script.pop(0)


class Dice:
    """Seeded chance."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    def random(self) -> float:
        return self._random.random()

    def below(self, n: int) -> int:
        return self._random.randrange(n)


def test_the_published_step() -> None:
    """Q(3, add) <- 0 + 0.1 * (0.2 + 0.9 * 0 - 0) = 0.02."""
    table = SlotTable(3, 5)
    assert table.choose(Draws([ADD])) == 4
    table.reward(0.2)
    assert table.values[2][ADD] == pytest.approx(0.02)


def test_a_second_step_looks_ahead() -> None:
    """From 3 by add to 4 again, where the best is 0.5: 0.02 + 0.1 (0.2 + 0.45 - 0.02) = 0.083."""
    table = SlotTable(3, 5)
    table.values[2][ADD], table.values[3][MINUS] = 0.02, 0.5
    table.choose(Draws([ADD]))
    table.reward(0.2)
    assert table.values[2][ADD] == pytest.approx(0.083)


def test_actions_move_by_one_and_stop_at_the_ends() -> None:
    table = SlotTable(2, 3)
    script = [ADD, ADD, STAY, MINUS, MINUS, MINUS]
    assert [table.choose(Draws([action])) for action in script] == [3, 3, 3, 2, 1, 1]


@given(st.integers(-3, 12), st.integers(1, 6), st.integers(0, 2**32), st.floats(0, 1))
def test_slots_never_leave_their_range(
    slot: int, last_slot: int, seed: int, epsilon: float
) -> None:
    table, dice = SlotTable(slot, last_slot, epsilon=epsilon), Dice(seed)
    for _ in range(30):
        assert 1 <= table.choose(dice) <= last_slot
        table.reward(dice.random() - 0.5)


def test_without_epsilon_the_choice_is_the_best_action() -> None:
    table = SlotTable(2, 4, epsilon=0.0)
    assert [table.choose(Draws([])) for _ in range(5)] == [2] * 5  # nothing known: stay
    table.values[1] = [0.3, 0.1, 0.2]
    assert table.choose(Draws([])) == 3
    table.values[2] = [-0.3, -0.1, 0.0]
    assert table.choose(Draws([])) == 2


def test_exploring_happens_in_a_share_of_epsilon() -> None:
    table, dice = SlotTable(50, 99, epsilon=0.3), Dice(7)
    moved = 0
    for _ in range(3000):
        before = table.slot
        moved += table.choose(dice) != before
    assert moved / 3000 == pytest.approx(0.3 * 2 / 3, abs=0.03)


@pytest.mark.parametrize("peak", [1, 3, 6])
def test_the_greedy_policy_drifts_to_the_rewarded_slot(peak: int) -> None:
    table, dice, last_slot = SlotTable(2, 6, epsilon=0.5), Dice(3), 6
    for _ in range(4000):
        table.reward(1.0 if table.choose(dice) == peak else 0.0)
    table.epsilon = 0.0
    for start in range(1, last_slot + 1):
        table.slot = start
        path = [table.choose(dice) for _ in range(last_slot)]
        assert path[-1] == peak


def test_a_reward_without_a_move_teaches_nothing() -> None:
    table = SlotTable(3, 5)
    table.choose(Draws([STAY]))
    table.reward(1.0)
    known = [list(row) for row in table.values]
    table.reward(1.0)
    assert table.values == known


@pytest.mark.parametrize("reward", [float("nan"), float("inf")])
def test_a_reward_that_is_no_number_teaches_nothing(reward: float) -> None:
    table = SlotTable(3, 5)
    table.choose(Draws([ADD]))
    with pytest.raises(NotFinite, match="reward"):
        table.reward(reward)
    assert table.values == SlotTable(3, 5).values


@pytest.mark.parametrize("pause", ["after the reward", "before the reward"])
def test_a_restart_loses_nothing(pause: str) -> None:
    table, dice = SlotTable(2, 4, epsilon=0.5), Dice(1)
    for _ in range(50):
        table.reward(float(table.choose(dice)))
    if pause == "before the reward":
        table.choose(dice)
    again = SlotTable.from_dict(json.loads(json.dumps(table.to_dict())), epsilon=0.5)
    assert again == table
    again.reward(1.0)
    table.reward(1.0)
    assert [again.choose(Dice(5)) for _ in range(9)] == [table.choose(Dice(5)) for _ in range(9)]


def test_what_is_kept_is_a_copy() -> None:
    table = SlotTable(1, 1)
    kept = table.to_dict()
    table.choose(Draws([STAY]))
    table.reward(1.0)
    assert kept["values"] == [[0.0, 0.0, 0.0]]


ROWS = [[0.0] * 3] * 2


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"slot": 1, "values": ROWS},
        {"slot": 0, "values": ROWS, "pending": None},
        {"slot": 3, "values": ROWS, "pending": None},
        {"slot": "x", "values": ROWS, "pending": None},
        {"slot": 1, "values": [[0.0, 0.0]], "pending": None},
        {"slot": 1, "values": [[0.0, 0.0, float("nan")]], "pending": None},
        {"slot": 1, "values": [], "pending": None},
        {"slot": 1, "values": 7, "pending": None},
        {"slot": 1, "values": ROWS, "pending": [1]},
        {"slot": 1, "values": ROWS, "pending": [1, 3]},
        {"slot": 1, "values": ROWS, "pending": [3, 0]},
    ],
)
def test_a_damaged_file_says_so(state: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="slot table kept on disk is damaged"):
        SlotTable.from_dict(state)


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"last_slot": 0}, "last_slot"),
        ({"phi_q": 1.5}, "phi_q"),
        ({"psi": -0.1}, "psi"),
        ({"epsilon": 2.0}, "epsilon"),
    ],
)
def test_a_wrong_value_is_named(values: dict[str, Any], name: str) -> None:
    with pytest.raises(TaskError, match=f"slots.{name}"):
        SlotTable(**{"slot": 1, "last_slot": 4, **values})
