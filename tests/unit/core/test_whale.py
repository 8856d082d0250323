"""WHALE-FL's utility, window and sizes: the numbers of its device table, and how it behaves."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields, replace
from itertools import pairwise
from statistics import fmean
from typing import Any

import pytest

from hocket.core.capability import Capability, CostLine
from hocket.core.ids import DeviceId, Version
from hocket.core.sizing import Whale
from hocket.core.sizing.affordable import HALVINGS
from hocket.core.sizing.size import Ability, Facts, Lesson, Size, width_of
from hocket.core.sizing.whale import LatencyRef
from hocket.errors import TaskError

# The authors' device table: seconds per example at 1, 1/2, 1/4, 1/8 and 1/16; bytes a second.
MACBOOK = (0.0083647, 0.0038257, 0.0021069, 0.0014589, 0.0009867)
XAVIER = (0.0407037, 0.0127832, 0.0057802, 0.0034918, 0.0025572)
PI = (0.0518206, 0.0168492, 0.0069340, 0.0039392, 0.0025691)
MBIT = 125_000.0
TABLE_BYTES = 1_544_000  # 12,352,000 bits
ROUNDS = Whale(half_window=0, delay=0)  # the newest score decides, as in the numeric examples


def facts(
    costs: tuple[float, ...] = MACBOOK, mbit: float = 80.0, *, examples: int = 3000, keep: float = 1
) -> Facts:
    lines = tuple(CostLine(width, 0.0, s) for width, s in zip(HALVINGS, costs, strict=True))
    ability = Ability(Capability(lines, num_examples=examples), mbit * MBIT, keep=keep)
    return Facts(DeviceId("a"), 1, Version(1), ability, 10, 64, TABLE_BYTES)


def sizes(rule: Whale, scores: list[float], about: Facts, memory: Any = None) -> list[float]:
    """The widths of so many trainings, each of which ends with its score."""
    memory, chosen = memory or {}, []
    for score in scores:
        size = rule.choose(about, memory)
        chosen.append(width_of(size.spec))
        memory = rule.learn(Lesson(size, 1.0, score), about, memory)
        memory = json.loads(json.dumps(memory, allow_nan=False))
    return chosen


@pytest.mark.parametrize(
    ("worth", "level"),
    [
        (math.inf, 1.0),
        (1.0, 1.0),
        (0.8, 1.0),
        (0.79999, 0.5),
        (0.6, 0.5),
        (0.59999, 0.25),
        (0.4, 0.25),
        (0.39999, 0.125),
        (0.2, 0.125),
        (0.19999, 0.0625),
        (0.0, 0.0625),
        (-1.0, 0.0625),
        (-math.inf, 0.0625),
        (math.nan, 0.0625),
    ],
)
def test_the_bins_at_their_edges(worth: float, level: float) -> None:
    assert Whale().level_at(worth) == level


def test_any_number_of_levels_shares_the_range_evenly() -> None:
    two = Whale(levels=(1.0, 0.3))
    assert [two.level_at(worth) for worth in (0.5, 0.49)] == [1.0, 0.3]
    assert Whale(levels=(0.7,)).level_at(0.0) == 0.7


@pytest.mark.parametrize("reference", ["smallest_size", "last_size"])
@pytest.mark.parametrize(
    ("costs", "mbit", "latency_s", "worths", "levels"),
    [
        (MACBOOK, 80, 0.7859, (0.1527, 0.4829, 1.5269, 4.8286), (0.0625, 0.25, 1.0, 1.0)),
        (XAVIER, 40, 1.9454, (0.0617, 0.1951, 0.6168, 1.9506), (0.0625, 0.0625, 0.5, 1.0)),
        (PI, 15, 2.4677, (0.0486, 0.1538, 0.4863, 1.5378), (0.0625, 0.0625, 0.25, 1.0)),
    ],
    ids=["macbook", "xavier", "pi"],
)
def test_the_utilities_of_the_published_device_table(
    costs: tuple[float, ...],
    mbit: float,
    latency_s: float,
    worths: tuple[float, ...],
    levels: tuple[float, ...],
    reference: LatencyRef,
) -> None:
    rule, about = replace(ROUNDS, latency_ref=reference), facts(costs, mbit)
    measured = rule.latency_s(about, {})
    assert measured == pytest.approx(latency_s, abs=6e-5)
    for fisher, worth, level in zip((1e-8, 1e-7, 1e-6, 1e-5), worths, levels, strict=True):
        assert rule.utility(3000, fisher, measured) / rule.scale == pytest.approx(worth, abs=6e-5)
        assert sizes(rule, [fisher, fisher], about) == [0.0625, level]


def test_until_the_window_is_there_the_utility_is_constant_and_small() -> None:
    rule = Whale()
    assert rule.utility(3000, None, 0.7859) / rule.scale == pytest.approx(0.0153, abs=6e-5)
    # o = 2, q = 5: the first window is that of round r = 2 + q + o = 9.
    chosen = sizes(rule, [1e-3] * 10, facts())
    assert chosen == [0.0625] * 8 + [1.0] * 2


def test_the_window_is_the_mean_of_its_own_rounds_delayed() -> None:
    """Round r: scores m - o .. m + o, with m = r - 1 - q; here r = 13, so 5, 6, 7, 8, 9."""
    rule, about = Whale(half_window=2, delay=5), facts()
    memory: Mapping[str, Any] = {}
    scores = [float(n * n) for n in range(1, 13)]
    for score in scores:
        memory = rule.learn(Lesson(Size(), 1.0, score), about, memory)
    assert rule.windowed(memory["scores"]) == pytest.approx((25 + 36 + 49 + 64 + 81) / 5)
    assert len(memory["scores"]) == 8  # m - o to the newest: 5 .. 12
    newest = Whale(half_window=0, delay=0)
    assert newest.windowed(scores) == pytest.approx(144.0)
    even = Whale(half_window=3, delay=3)
    assert even.windowed(scores) == pytest.approx(fmean(scores[-7:]))


def test_a_score_of_one_training_moves_the_mean_by_its_share_only() -> None:
    """Against the public code's sum, in which the newest of 2 o + 1 scores weighs most."""
    rule = Whale(half_window=2, delay=2)
    for at in range(5):
        scores = [0.0] * 5
        scores[at] = 1.0
        assert rule.windowed(scores) == pytest.approx(0.2)


def test_memory_stays_bounded_and_is_json() -> None:
    rule, about = Whale(half_window=2, delay=5), facts()
    memory: Mapping[str, Any] = {}
    for score in range(1, 500):
        memory = rule.learn(Lesson(Size(), 1.0, score * 1e-6), about, memory)
    assert len(memory["scores"]) <= 2 * 2 + 1 + 5
    assert len(json.dumps(memory)) < 500


@pytest.mark.parametrize(("half_window", "times"), [(0, 1.0), (2, 2.0), (5, 3.16)])
def test_of_a_steady_score_utility_is_larger_than_the_public_codes(
    half_window: int, times: float
) -> None:
    """3.5.2: there the newest score over m, the one before over m**2, ... of m = 2 o + 1."""
    rule, m, score = Whale(half_window=half_window, delay=half_window), 2 * half_window + 1, 4e-6
    memory: Mapping[str, Any] = {}
    for _ in range(rule.span):
        memory = rule.learn(Lesson(Size(), 1.0, score), facts(), memory)
    theirs = sum(score / m**n for n in range(1, m + 1))
    ratio = rule.utility(3000, rule.windowed(memory["scores"]), 2.0) / rule.utility(
        3000, theirs, 2.0
    )
    assert ratio == pytest.approx(times, abs=5e-3)


def test_at_its_longest_a_memory_is_still_small() -> None:
    longest = Whale(half_window=1000, delay=1000)
    assert longest.span == 2001
    full: Mapping[str, Any] = {"scores": [1 / 3] * longest.span}
    memory = longest.learn(Lesson(Size(), 1.0, 1 / 7), facts(), full)
    assert len(json.dumps(memory)) < 50_000
    with pytest.raises(TaskError, match="delay is 1001"):
        replace(longest, delay=1001)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -1.0, 0.0])
def test_a_score_that_is_none_is_left_out(bad: float) -> None:
    memory = ROUNDS.learn(Lesson(Size(), 1.0, 1e-6), facts(), {})
    after = ROUNDS.learn(Lesson(Size(), 1.0, bad), facts(), memory)
    assert after["scores"] == [1e-6]


@pytest.mark.parametrize(
    "memory",
    [
        {"scores": "many", "keep": "wide", "latency_s": None},
        {"scores": [1e-6, "x"], "keep": -1.0, "latency_s": math.nan},
        {"scores": {"a": 1}, "keep": True},
        {"slots": 3},
    ],
)
def test_a_memory_that_is_another_rules_or_damaged_counts_as_none(memory: dict[str, Any]) -> None:
    for reference in ("last_size", "smoothed"):
        rule = replace(ROUNDS, latency_ref=reference)
        assert rule.choose(facts(), memory) == rule.choose(facts(), {})
        json.dumps(rule.learn(Lesson(Size(), 1.0, 1e-6), facts(), memory), allow_nan=False)


def test_the_utility_rises_with_data_score_and_reference_and_falls_with_latency() -> None:
    rule = Whale()

    def utility(
        examples: int = 100, fisher: float = 1e-6, latency_s: float = 2.0, rule: Whale = rule
    ) -> float:
        return rule.utility(examples, fisher, latency_s)

    assert utility(200) == pytest.approx(2 * utility())
    assert utility(fisher=4e-6) == pytest.approx(2 * utility())
    assert utility(latency_s=4.0) == pytest.approx(utility() / 2)
    assert utility(rule=replace(rule, reference_s=40.0)) == pytest.approx(2 * utility())
    # Faster devices than T_set are rewarded too: no indicator as in Oort.
    assert utility(latency_s=1.0) == pytest.approx(20 * utility(latency_s=20.0))
    squared = replace(rule, beta=2.0)
    assert utility(latency_s=4.0, rule=squared) == pytest.approx(utility(rule=squared) / 4)
    without = replace(rule, beta=0.0)
    assert utility(rule=without) == utility(latency_s=400.0, rule=without)


def test_extreme_settings_give_a_size_all_the_same() -> None:
    wild = replace(ROUNDS, beta=1000.0)
    assert wild.utility(100, 1e-6, 1e-9) == math.inf
    assert sizes(wild, [1e-6, 1e-6], facts((1e-12,) * 5, 1e9)) == [1.0, 1.0]
    assert sizes(ROUNDS, [1e-6, 1e-6], facts(examples=0)) == [0.0625, 0.0625]
    assert sizes(Whale(half_window=2, delay=2), [1e308] * 6, facts())[-1] == 1.0


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("reference", ["smallest_size", "full_size", "smoothed", "last_size"])
def test_a_slower_link_never_gets_a_larger_size(reference: LatencyRef, scaled: bool) -> None:
    rule = replace(ROUNDS, latency_ref=reference, scaled_link=scaled)
    seen = set()
    for fisher in (1e-7, 1e-6, 1e-5, 1e-3):
        for keep in HALVINGS:
            memory = {"scores": [fisher], "keep": keep, "latency_s": 8.0}
            chosen = [
                width_of(rule.choose(facts(XAVIER, mbit), memory).spec)
                for mbit in (800.0, 80.0, 8.0, 0.8, 0.08, 0.008)
            ]
            assert all(after <= before for before, after in pairwise(chosen))
            seen |= set(chosen)
    assert len(seen) > 2


def test_transfers_count_in_full_or_by_the_square_of_the_width() -> None:
    about = facts(XAVIER, 40)
    training_s, link_s = 0.0025572 * 640, 0.3088
    assert ROUNDS.latency_s(about, {}) == pytest.approx(training_s + link_s)
    scaled = replace(ROUNDS, scaled_link=True)
    assert scaled.latency_s(about, {}) == pytest.approx(training_s + link_s / 256)
    whole = replace(scaled, latency_ref="full_size")
    assert whole.latency_s(about, {}) == pytest.approx(0.0407037 * 640 + link_s)
    last = replace(scaled, latency_ref="last_size")
    assert last.latency_s(about, {"keep": 0.5}) == pytest.approx(0.0127832 * 640 + link_s / 4)


@pytest.mark.parametrize(
    ("costs", "mbit", "fisher", "swings"),
    [
        (XAVIER, 40, 1e-6, [0.0625, 0.5, 0.0625, 0.5, 0.0625]),
        (MACBOOK, 80, 1e-6, [0.0625, 1.0, 0.125, 1.0, 0.125]),
        (PI, 15, 1e-5, [0.0625, 1.0, 0.0625, 1.0, 0.0625]),
        (MACBOOK, 80, 1e-7, [0.0625, 0.25, 0.125, 0.125, 0.125]),
    ],
)
def test_the_size_swings_with_the_last_size_as_reference_and_with_no_other(
    costs: tuple[float, ...], mbit: float, fisher: float, swings: list[float]
) -> None:
    about = facts(costs, mbit)
    assert sizes(replace(ROUNDS, latency_ref="last_size"), [fisher] * 5, about) == swings
    for reference in ("smallest_size", "full_size", "smoothed"):
        for scale in (50.0, 5.0, 1.0):
            rule = replace(ROUNDS, latency_ref=reference, scale=scale)
            settled = sizes(rule, [fisher] * 30, about)[2:]
            assert len(set(settled)) == 1


@pytest.mark.parametrize(
    ("reference", "differs"),
    [("smallest_size", True), ("last_size", True), ("full_size", False), ("smoothed", False)],
)
def test_at_what_width_transfers_count_matters_where_the_reference_is_not_the_full_size(
    reference: LatencyRef, differs: bool
) -> None:
    """3.5 no. 4: the utility counts full transfers, as the examples of 3.10 no. 2 do."""
    memory = {"keep": 0.25, "latency_s": 8.0}
    full, scaled = (
        replace(ROUNDS, latency_ref=reference, scaled_link=link).latency_s(facts(), memory)
        for link in (False, True)
    )
    assert (full != scaled) is differs
    assert not Whale().scaled_link


def test_settings_of_the_script_that_was_not_published_do_not_exist() -> None:
    """3.5 no. 6; `beta` is that of 3.3, an exponent of 1."""
    known = {field.name for field in fields(Whale)}
    assert known.isdisjoint({"alpha", "gama", "losstarget", "deltalossth"})
    assert Whale().beta == 1.0


def test_the_default_does_not_swing() -> None:
    assert Whale().latency_ref != "last_size"


def test_a_smoothed_latency_follows_a_link_that_breaks_down_over_several_trainings() -> None:
    rule = replace(ROUNDS, latency_ref="smoothed")
    good, bad = facts(XAVIER, 80.0), facts(XAVIER, 0.1)
    memory = rule.learn(Lesson(Size(), 1.0, 1e-6), good, {})
    before, alone = rule.latency_s(good, memory), rule.latency_s(bad, {})
    assert before is not None
    assert alone is not None
    felt = rule.latency_s(bad, memory)
    assert felt == pytest.approx(before + 0.3 * (alone - before))
    for _ in range(40):
        memory = rule.learn(Lesson(Size(), 1.0, 1e-6), bad, memory)
    assert rule.latency_s(bad, memory) == pytest.approx(alone, rel=1e-4)


def test_sizes_rise_and_fall_with_the_phase_of_training() -> None:
    """3.10.8: a Fisher score that rises to a critical period and falls again."""
    curve = [1e-8 + 1e-6 * math.exp(-(((n - 30) / 8) ** 2)) for n in range(70)]
    fleet = [(MACBOOK, 80.0), (XAVIER, 40.0), (XAVIER, 20.0), (PI, 15.0)]
    rule = Whale(half_window=2, delay=5)
    chosen = [sizes(rule, curve, facts(*device)) for device in fleet]
    mean = [fmean(widths) for widths in zip(*chosen, strict=True)]
    peak = mean.index(max(mean))
    assert 30 <= peak <= 40  # the delay follows the curve
    assert all(after >= before for before, after in pairwise(mean[: peak + 1]))
    assert all(after <= before for before, after in pairwise(mean[peak:]))
    assert mean[0] == mean[-1] == 0.0625
    assert max(mean) >= 0.5


def test_without_any_measurement_speed_and_link_leave_the_utility_alone() -> None:
    bare = replace(facts(), ability=Ability(Capability(num_examples=3000)))
    for reference in ("smallest_size", "full_size", "smoothed", "last_size"):
        rule = replace(ROUNDS, latency_ref=reference)
        assert rule.latency_s(bare, {}) is None
        assert sizes(rule, [1e-4] * 2, bare) == [0.0625, 0.5]  # 3000 * 1e-2 / 50 = 0.6
        assert "latency_s" not in rule.learn(Lesson(Size(), 1.0, 1e-4), bare, {})


def test_keep_bounds_the_size_at_a_level() -> None:
    assert sizes(ROUNDS, [1.0, 1.0], facts(keep=0.3)) == [0.0625, 0.25]
    assert sizes(ROUNDS, [1.0, 1.0], facts(keep=0.05)) == [0.05, 0.05]


def test_the_reason_names_capability_link_and_phase() -> None:
    rule, about = Whale(half_window=1, delay=1), facts(XAVIER, 40)
    assert rule.choose(about, {}).why == (
        "1/16: 26.1 s at full width, 0.309 s link, warming up (0 of 3 Fisher scores)"
    )
    for newest, phase in ((5e-7, "rising"), (1e-7, "falling"), (2e-7, "steady")):
        scores = [2e-7, 2e-7, newest]
        windowed = fmean(scores)
        why = rule.choose(about, {"scores": scores}).why
        assert f"0.309 s link, Fisher {windowed:.1e} ({phase})" in why


def test_it_asks_for_its_own_form_of_the_score() -> None:
    assert Whale().watches_fisher == "proxy"
    assert Whale(fisher="per_sample").watches_fisher == "per_sample"
