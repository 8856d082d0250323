"""TiFL against async-baselines B.12, and counts over many seeded choices."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.pools import Listed

from hocket.core.chance import Stream
from hocket.core.ids import DeviceId, Version
from hocket.core.scheduling import Candidate, Seen, Tifl
from hocket.core.scheduling.tifl import TiflMemory, bounds_of, odds_of
from hocket.errors import TaskError


def fleet(*seconds: float | None, of_each: int = 1) -> Listed:
    """Devices "0a", "0b", ... of the first seconds given, and so on."""
    return Listed(
        Candidate(DeviceId(f"{place}{letter}"), 0.0, expected_s)
        for place, expected_s in enumerate(seconds)
        for letter in "abcdefghij"[:of_each]
    )


def seen(name: str, loss: float, took_s: float) -> Seen:
    return Seen(DeviceId(name), 10, loss, took_s, Version(2), 0.0)


def taught(tifl: Tifl, *updates: Seen) -> TiflMemory:
    memory = tifl.begin()
    for update in updates:
        tifl.learn(memory, update)
    return memory


def places(
    tifl: Tifl, memory: TiflMemory, pool: Listed, choices: int, count: int = 1
) -> Counter[str]:
    """How often devices of each place are chosen."""
    return Counter(
        name[0]
        for turn in range(choices)
        for name in tifl.choose(pool, count, Stream(3, turn), memory)
    )


def test_the_chance_is_the_rank_of_the_loss() -> None:
    odds = odds_of([0.3, 0.9, 0.1, 0.7, 0.5])
    assert odds == pytest.approx([2 / 15, 5 / 15, 1 / 15, 4 / 15, 3 / 15])
    assert sum(odds) == pytest.approx(1.0)
    assert odds_of([None, None]) == [0.5, 0.5]
    assert odds_of([4.0, None, 5.0]) == pytest.approx([1 / 6, 3 / 6, 2 / 6])
    assert odds_of([1.0, 1.0]) == pytest.approx([2 / 3, 1 / 3])
    assert odds_of([1e308, 0.0]) == pytest.approx([2 / 3, 1 / 3])


def test_tiers_are_equal_parts_of_the_fleet() -> None:
    assert bounds_of([7, 3, 1, 9, 5, 2, 10, 4, 8, 6], 5) == (3, 5, 7, 9)
    assert bounds_of([], 5) == ()
    assert bounds_of([1.0, math.inf], 2) == (math.inf,)


def test_the_tier_that_lags_behind_most_is_chosen_most() -> None:
    tifl = Tifl(every=1)
    losses = [0.1, 0.2, 0.3, 0.4, 0.5]  # the slowest know least
    memory = taught(tifl, *(seen(f"{at}a", loss, 1.0 + at) for at, loss in enumerate(losses)))
    count = places(tifl, memory, fleet(1.0, 2.0, 3.0, 4.0, 5.0), 15_000)
    shares = [count[str(at)] / 15_000 for at in range(5)]
    assert shares == pytest.approx([1 / 15, 2 / 15, 3 / 15, 4 / 15, 5 / 15], abs=0.015)


def test_with_nothing_learned_all_tiers_have_the_same_chance() -> None:
    tifl = Tifl(tiers=4)
    count = places(tifl, tifl.begin(), fleet(1.0, 2.0, 3.0, 4.0), 8000)
    assert {tier: picks / 8000 for tier, picks in count.items()} == pytest.approx(
        dict.fromkeys("0123", 0.25), abs=0.02
    )


def test_one_choice_is_of_one_tier_and_within_it_by_equal_chance() -> None:
    tifl, chosen = Tifl(), Counter[str]()
    pool, memory = fleet(1.0, 2.0, 3.0, 4.0, 5.0, of_each=6), tifl.begin()
    for turn in range(3000):
        names = tifl.choose(pool, 3, Stream(turn), memory)
        assert len(set(names)) == 3
        assert len({name[0] for name in names}) == 1
        chosen.update(names)
    assert len(chosen) == 30
    assert min(chosen.values()) > 230  # 300 on the average
    more = tifl.choose(pool, 8, Stream(0), memory)  # one tier of six, and two of another
    assert sorted(Counter(name[0] for name in more).values()) == [2, 6]


def test_a_tier_without_credits_waits_until_all_are_spent() -> None:
    tifl = Tifl(credits=2, every=1)
    updates = [seen(f"{at}a", 0.1 + at, 1.0 + at) for at in range(5)]
    memory = taught(tifl, *updates)
    pool = fleet(1.0, 2.0, 3.0, 4.0, 5.0)
    everyone = [tifl.choose(pool, 1, Stream(turn), memory)[0][0] for turn in range(30)]
    for begin in (0, 10, 20):
        assert Counter(everyone[begin : begin + 10]) == dict.fromkeys("01234", 2)


def test_a_device_that_takes_too_long_is_left_out() -> None:
    tifl = Tifl(drop_beyond_s=50.0)
    pool = fleet(1.0, 50.0, 51.0, None)
    assert set(places(tifl, tifl.begin(), pool, 200)) == {"0", "1", "3"}
    late = taught(tifl, seen("0a", 1.0, 60.0), seen("2a", 1.0, 40.0))  # measured, not estimated
    assert set(places(tifl, late, pool, 200)) == {"1", "2", "3"}
    assert len(tifl.choose(pool, 9, Stream(0), late)) == 3
    assert tifl.choose(fleet(99.0), 1, Stream(0), tifl.begin()) == []


def test_what_was_measured_counts_before_the_estimate() -> None:
    tifl = Tifl(tiers=2)
    memory = taught(tifl, seen("0a", 1.0, 100.0))
    pool = fleet(1.0, 2.0, 3.0, 90.0)
    for turn in range(50):
        pair = tifl.choose(pool, 2, Stream(turn), memory)
        assert {name[0] for name in pair} in ({"1", "2"}, {"0", "3"})


def test_tiers_are_cut_anew_every_so_many_choices() -> None:
    tifl = Tifl(tiers=2, every=4)
    memory, pool = tifl.begin(), fleet(1.0, 2.0)
    odds: list[list[float]] = []
    for turn in range(9):
        tifl.choose(pool, 1, Stream(turn), memory)
        odds.append(list(memory.odds))
        tifl.learn(memory, seen("1a", 5.0, 2.0))
        tifl.learn(memory, seen("0a", 1.0, 2.0 if turn > 4 else 1.0))
    assert odds[:4] == [[0.5, 0.5]] * 4
    assert odds[4:8] == [pytest.approx([1 / 3, 2 / 3])] * 4
    # Both take 2 s now, so nothing is left in the quicker tier: nothing is known of it.
    assert odds[8] == pytest.approx([2 / 3, 1 / 3])


def test_a_choice_looks_at_no_more_than_it_considers() -> None:
    tifl = Tifl(consider=12)
    pool, memory, chosen = fleet(*range(10), of_each=10), tifl.begin(), Counter[str]()
    for turn in range(1000):
        chosen.update(tifl.choose(pool, 2, Stream(turn), memory))
    assert pool.looked_at == 12_000
    assert len(chosen) == 100


@given(
    st.lists(st.tuples(st.integers(0, 19), st.floats(0, 1e308), st.floats(0, 1e9)), max_size=30),
    st.lists(st.none() | st.floats(0, math.inf), max_size=9),
    st.integers(0, 25),
    st.integers(1, 8),
    st.integers(0, 2),
    st.integers(0, 2**32),
)
def test_as_many_as_asked_and_each_idle_and_once(
    updates: list[tuple[int, float, float]],
    seconds: list[float | None],
    count: int,
    tiers: int,
    credit: int,
    seed: int,
) -> None:
    pool = fleet(*seconds, of_each=2)
    tifl = Tifl(tiers=tiers, every=2, credits=credit, consider=3)
    picks: list[list[DeviceId]] = []
    for _ in range(2):
        memory = taught(tifl, *(seen(f"{n % 9}a", loss, took) for n, loss, took in updates))
        for turn in range(4):
            picks.append(tifl.choose(pool, count, Stream(seed, turn), memory))
            assert len(picks[-1]) == len(set(picks[-1])) == min(count, len(pool))
            assert all(name in pool for name in picks[-1])
    assert picks[:4] == picks[4:]  # the same chance chooses the same


@pytest.mark.parametrize(
    ("name", "value"),
    [("tiers", 0), ("every", 0), ("consider", 0), ("credits", -1), ("drop_beyond_s", math.nan)],
)
def test_a_bad_setting_is_named(name: str, value: float) -> None:
    named: dict[str, Any] = {name: value}
    with pytest.raises(TaskError, match=rf"selection\.{name}"):
        Tifl(**named)
