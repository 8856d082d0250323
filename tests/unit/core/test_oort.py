"""Oort against async-baselines B.6, hand-made scores, and counts over many seeded choices."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.pools import Listed
from support.steps import count_steps

from hocket.core.chance import Stream
from hocket.core.ids import DeviceId, Version
from hocket.core.scheduling import Candidate, Oort, Seen
from hocket.core.scheduling.oort import OortMemory, bonus, paced, percentile_of, slowdown, utility
from hocket.errors import TaskError

PLAIN = Oort(
    explore=0.0,
    explore_least=0.0,
    cut_off=0.0,
    temporal=0.0,
    clip_percentile=100.0,
    window=10**9,
)
"""Only those seen before, drawn by their utilities alone."""


def idle(*names: str, expected_s: float | None = 1.0) -> Listed:
    return Listed(Candidate(DeviceId(name), 0.0, expected_s) for name in names)


def seen(name: str, worth: float, took_s: float = 1.0, num_examples: int = 1) -> Seen:
    return Seen(DeviceId(name), num_examples, worth, took_s, Version(2), 0.0)


@dataclass
class Played:
    """A selection with its memory, which draws from another stream for each choice."""

    oort: Oort
    turn: int = 0
    state: OortMemory = field(init=False)
    picks: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.state = self.oort.begin()

    def saw(self, *updates: Seen) -> Played:
        for update in updates:
            self.oort.learn(self.state, update)
        return self

    def choose(self, pool: Listed, count: int = 1) -> list[DeviceId]:
        self.turn += 1
        chosen = self.oort.choose(pool, count, Stream(7, self.turn), self.state)
        self.picks.update(chosen)
        return chosen

    def shares(self, pool: Listed, choices: int = 6000) -> dict[str, float]:
        """How often each is chosen, one at a time."""
        self.picks.clear()
        for _ in range(choices):
            self.choose(pool)
        return {name: picks / choices for name, picks in self.picks.items()}


def test_utility_is_examples_times_root_mean_square() -> None:
    losses = [1.0, 2.0, 3.0]
    rms = math.sqrt(sum(loss**2 for loss in losses) / 3)
    assert utility(3, rms) == pytest.approx(6.480741, abs=1e-6)  # B.6


def test_who_takes_twice_as_long_is_worth_a_quarter() -> None:
    assert slowdown(50.0, 100.0, 2.0) == 0.25  # B.6
    assert slowdown(50.0, 100.0, 0.0) == 1.0
    assert slowdown(50.0, 49.0, 2.0) == slowdown(50.0, 50.0, 2.0) == 1.0


def test_the_bonus_grows_with_the_rounds_since() -> None:
    assert bonus(0.1, 10, 1) == pytest.approx(0.479853, abs=1e-6)  # sqrt(0.1 * 2.302585)
    assert bonus(0.1, 10, 10) == pytest.approx(0.151743, abs=1e-6)
    assert bonus(0.1, 1, 1) == 0.0


def test_the_pacer_gives_more_time_once_utility_is_flat() -> None:
    assert paced(10.0, 100.0, 110.0, step=5.0, change=0.1) == 15.0
    assert paced(10.0, 100.0, 91.0, step=5.0, change=0.1) == 15.0
    assert paced(10.0, 100.0, 89.0, step=5.0, change=0.1) == 10.0
    assert paced(98.0, 100.0, 100.0, step=5.0, change=0.1) == 100.0


def test_percentiles() -> None:
    hundred = [float(value) for value in range(100, 0, -1)]
    assert [percentile_of(hundred, share) for share in (0, 10, 95, 100)] == [1, 11, 96, 100]
    assert percentile_of([3.0], 95) == 3.0


def test_devices_are_drawn_in_proportion_to_their_scores() -> None:
    played = Played(PLAIN).saw(seen("a", 100.0), seen("b", 50.0), seen("c", 0.0))
    shares = played.shares(idle("a", "b", "c", "never seen"))
    assert shares == pytest.approx({"a": 2 / 3, "b": 1 / 3}, abs=0.02)  # 1 : 0.5 : 0


def test_a_slow_device_is_worth_less_by_the_square() -> None:
    slow = [seen("a", 100.0), seen("b", 50.0, took_s=2.0), seen("c", 0.0)]
    shares = Played(PLAIN).saw(*slow).shares(idle("a", "b"))
    assert shares["b"] == pytest.approx(0.125 / 1.125, abs=0.02)  # T is 1 s: 0.5 * (1 / 2)^2
    patient = replace(PLAIN, pacer_start=100.0)
    assert Played(patient).saw(*slow).shares(idle("a", "b"))["b"] == pytest.approx(1 / 3, abs=0.02)


def test_a_slow_and_useless_device_is_chosen_less() -> None:
    names = [f"d{number}" for number in range(20)]
    played = Played(Oort(explore=0.0, explore_least=0.0, cut_off=0.5))
    played.saw(*(seen(name, 2.0, took_s=10.0) for name in names[1:]))
    played.saw(seen(names[0], 0.1, took_s=100.0))
    for _ in range(400):
        played.choose(idle(*names), 4)
    assert played.picks[names[0]] == 0
    assert min(played.picks[name] for name in names[1:]) > 40  # 84 on the average
    assert played.choose(idle(names[0])) == [names[0]]  # but where nobody else is idle


def test_the_newest_update_is_what_counts() -> None:
    played = Played(PLAIN).saw(seen("a", 100.0), seen("b", 50.0), seen("c", 0.0))
    played.saw(seen("a", 0.0), seen("b", 7.0, num_examples=10))
    assert set(played.shares(idle("a", "b", "c"), 50)) == {"b"}


def test_only_those_near_the_last_one_needed_are_drawn() -> None:
    cut = replace(PLAIN, cut_off=0.95)
    played = Played(cut).saw(
        *(seen("a", 100.0), seen("b", 96.0), seen("c", 94.0), seen("d", 90.0), seen("z", 0.0))
    )
    pool = idle("a", "b", "c", "d", "z")
    assert set(played.shares(pool, 200)) == {"a", "b"}
    played.picks.clear()
    for _ in range(200):
        assert len(played.choose(pool, 2)) == 2
    assert set(played.picks) == {"a", "b", "c"}  # the second needed is b: 0.95 * 96 = 91.2


def test_who_was_not_seen_for_long_gets_a_bonus() -> None:
    oort = replace(PLAIN, temporal=0.1, round_size=1)
    played = Played(oort).saw(seen("old", 0.0))
    played.state.num_picks = 99  # round 100
    played.saw(seen("new", 0.0))
    picks = Counter[DeviceId]()
    for _ in range(6000):
        played.state.num_picks = 99
        picks.update(played.choose(idle("old", "new")))
    # (1 + sqrt(0.1 ln 100)) : (1 + sqrt(0.1 ln 100 / 100)) = 1.678614 : 1.067861
    assert picks[DeviceId("old")] / 6000 == pytest.approx(0.611192, abs=0.02)


def test_new_devices_come_in_the_order_of_their_speeds() -> None:
    new = Listed(Candidate(DeviceId(f"d{n:02}"), 0.0, float(n)) for n in range(1, 21))
    count = Counter(
        name for turn in range(6000) for name in Oort().choose(new, 1, Stream(turn), Oort().begin())
    )
    assert set(count) == {f"d{n:02}" for n in range(1, 6)}  # the five times quickest
    assert count[DeviceId("d01")] / 6000 == pytest.approx(0.344828, abs=0.02)  # 1/2 of 1.45
    unknown = Listed([*(Candidate(DeviceId(f"d{n}"), 0.0, 9.0) for n in range(9))])
    named = Listed([Candidate(DeviceId("x"), 0.0, None), Candidate(DeviceId("y"), 0.0, 1e9)])
    assert Oort().choose(named, 1, Stream(0), Oort().begin()) == ["x"]
    assert len(Oort().choose(unknown, 4, Stream(0), Oort().begin())) == 4


def test_exploration_decays() -> None:
    oort = Oort()
    assert [oort.new_share(round_) for round_ in (1, 2, 3)] == pytest.approx([0.9, 0.882, 0.86436])
    assert oort.new_share(75) == pytest.approx(0.9 * 0.98**74)
    assert oort.new_share(76) == oort.new_share(10**6) == 0.2
    played = Played(oort)
    pool = idle(*(f"d{number:04}" for number in range(3000)))
    new: list[int] = []
    for _ in range(130):
        before = set(played.state.explored)
        chosen = played.choose(pool, 10)
        new.append(len(set(chosen) - before))
        played.saw(*(seen(name, 1.0) for name in chosen))
    assert new[0] == 10  # nobody to exploit yet
    assert sum(new[1:11]) / 100 == pytest.approx(0.815, abs=0.06)
    assert sum(new[80:]) / 500 == pytest.approx(0.2, abs=0.05)


def test_single_choices_explore_as_large_ones_do() -> None:
    known = [f"a{number}" for number in range(50)]
    pool = idle(*known, *(f"b{number}" for number in range(50)))
    new = 0
    for turn in range(2000):
        played = Played(Oort(explore=0.3), turn=turn).saw(*(seen(name, 1.0) for name in known))
        new += played.choose(pool)[0].startswith("b")
    assert new / 2000 == pytest.approx(0.3, abs=0.03)


def test_after_so_many_picks_a_device_is_a_last_resort() -> None:
    limited = replace(PLAIN, most_picks=2)
    played = Played(limited).saw(seen("a", 100.0), seen("b", 0.0), seen("c", 0.0))
    chosen = [played.choose(idle("a", "b", "c"))[0] for _ in range(6)]
    assert chosen[:2] == ["a", "a"]
    assert Counter(chosen) == {"a": 2, "b": 2, "c": 2}
    assert played.choose(idle("a")) == ["a"]


def test_a_flat_utility_lets_slower_devices_in() -> None:
    settled = Oort(round_size=1, window=3)
    flat, falling = Played(settled), Played(settled)
    pool = idle("a", "b")
    percentiles: list[tuple[float, float]] = []
    for turn in range(12):
        flat.saw(*(seen(name, 4.0) for name in flat.choose(pool)))
        falling.saw(*(seen(name, 4.0 * 0.5**turn) for name in falling.choose(pool)))
        percentiles.append((flat.state.percentile, falling.state.percentile))
    # The first window ends before its last update has come, so the second brings more than it.
    assert percentiles[2::3] == [(10.0, 10.0), (10.0, 10.0), (15.0, 10.0), (20.0, 10.0)]


def test_a_boaster_is_no_more_than_the_best() -> None:
    names = [f"d{number:02}" for number in range(40)]
    played = Played(Oort(explore=0.0, explore_least=0.0, cut_off=0.0))
    played.saw(*(seen(name, 1.0 + number) for number, name in enumerate(names)))
    shares = played.shares(idle(*names))
    played.saw(seen(names[0], 1.7e308, num_examples=2**63))
    boasting = played.shares(idle(*names))
    assert all(math.isfinite(share) for share in boasting.values())
    assert boasting[names[0]] == pytest.approx(boasting[names[-1]], abs=0.02)
    assert boasting[names[20]] == pytest.approx(shares[names[20]], abs=0.02)


@given(
    st.lists(st.tuples(st.integers(0, 19), st.floats(0, 1e308), st.floats(0, 1e9)), max_size=30),
    st.sets(st.integers(0, 19)),
    st.integers(0, 25),
    st.integers(1, 8),
    st.integers(0, 2**32),
)
def test_as_many_as_asked_and_each_idle_and_once(
    updates: list[tuple[int, float, float]], ready: set[int], count: int, consider: int, seed: int
) -> None:
    pool = idle(*(f"d{number:02}" for number in sorted(ready)))
    picks: list[list[DeviceId]] = []
    for _ in range(2):
        oort = Oort(consider=consider, most_picks=3, round_size=2, window=1)
        memory = oort.begin()
        for number, worth, took_s in updates:
            oort.learn(memory, seen(f"d{number:02}", worth, took_s))
        for turn in range(3):
            picks.append(oort.choose(pool, count, Stream(seed, turn), memory))
            assert len(picks[-1]) == len(set(picks[-1])) == min(count, len(pool))
            assert all(name in pool for name in picks[-1])
    assert picks[:3] == picks[3:]  # the same chance chooses the same


def test_a_choice_costs_no_more_of_many_seen_devices() -> None:
    few, many = (_choice(count) for count in (300, 6000))
    assert count_steps(many) < 1.3 * count_steps(few)


def _choice(seen_devices: int) -> Callable[[], list[DeviceId]]:
    names = [f"d{number:05}" for number in range(seen_devices)]
    played = Played(Oort(consider=100)).saw(*(seen(name, 1.0) for name in names))
    pool = Listed(Candidate(DeviceId(name), 0.0, 1.0) for name in names)
    return lambda: played.choose(pool, 5)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("explore", 1.5),
        ("explore_least", -0.1),
        ("explore_decay", math.nan),
        ("cut_off", 2.0),
        ("round_penalty", -1.0),
        ("clip_percentile", 101.0),
        ("pacer_start", -5.0),
        ("explore_window", 0.0),
        ("window", 0),
        ("round_size", 0),
        ("consider", 0),
        ("most_picks", -1),
    ],
)
def test_a_bad_setting_is_named(name: str, value: float) -> None:
    named: dict[str, Any] = {name: value}
    with pytest.raises(TaskError, match=rf"selection\.{name}"):
        Oort(**named)


def test_the_share_of_new_devices_cannot_rise() -> None:
    with pytest.raises(TaskError, match=r"selection\.explore_least is 0\.2, above"):
        Oort(explore=0.1)
