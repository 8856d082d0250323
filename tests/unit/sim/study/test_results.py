"""What a study came to, by numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
from support.fake_jobs import row

from hocket.sim.study.jobs import Row
from hocket.sim.study.results import (
    Spread,
    Standing,
    Table,
    comparisons,
    final,
    rows_of,
    standard_errors,
    tabulate,
    targets_of,
    verdict_of,
)
from hocket.sim.study.study import TargetRule


def steady(accuracy: float) -> Row:
    return row(*[accuracy] * 12)


def of(table: Table, method: str) -> Standing:
    return {standing.method: standing for standing in table.standings}[method]


@pytest.mark.parametrize(
    ("differences", "verdict"),
    [
        ([1.0, 2.0, 3.0], "ties"),  # mean 2, standard error 1 / sqrt(3): 3.46 of them, below 4.30
        ([2.0, 3.0, 4.0], "wins"),  # 5.20 standard errors
        ([-2.0, -3.0, -4.0], "loses"),
        ([1.0, 1.2], "ties"),  # mean 1.1, standard error 0.1: 11 of them, below 12.71
        ([1.0, 1.1], "wins"),  # 21 standard errors
        ([1.0, 2.0, 3.0, 4.0, 5.0], "wins"),  # 3 / sqrt(2.5 / 5) = 4.24, above 2.78
        ([0.5, 0.5], "wins"),  # no spread at all
        ([0.0, 0.0], "ties"),
        ([5.0], None),
        ([], None),
    ],
)
def test_a_difference_that_the_t_test_does_not_tell_is_a_tie(
    differences: list[float], verdict: str | None
) -> None:
    assert verdict_of(differences) == verdict


def within(t: float, freedom: int) -> float:
    """The share of Student's t between -t and t, by Simpson's rule on its density."""
    at = math.gamma((freedom + 1) / 2) / (math.sqrt(freedom * math.pi) * math.gamma(freedom / 2))
    steps = 2000
    heights = [
        (1 + (t * i / steps) ** 2 / freedom) ** (-(freedom + 1) / 2) for i in range(steps + 1)
    ]
    weights = [1, *([4, 2] * (steps // 2))[:-1], 1]
    total: float = sum(w * h for w, h in zip(weights, heights, strict=True))
    return 2 * at * t / steps / 3 * total


@pytest.mark.parametrize("seeds", range(2, 32))
def test_so_many_standard_errors_hold_95_percent_of_what_chance_does(seeds: int) -> None:
    assert within(standard_errors(seeds), seeds - 1) == pytest.approx(0.95, abs=1e-4)


def test_more_seeds_than_the_table_has_are_judged_by_its_last_row() -> None:
    assert standard_errors(500) == standard_errors(31) == 2.042


def test_comparisons_are_those_that_a_test_decided() -> None:
    """Theirs: in accuracy, and at 0.5. At 0.8 we get there always and they never: no test."""
    runs = {
        "ours": {11: row(0.1, 0.9), 12: row(0.1, 0.9)},
        "theirs": {11: row(0.1, 0.6), 12: row(0.1, 0.6)},
    }
    table = tabulate("d", runs, "ours", (0.5, 0.8))
    assert [at.verdict for at in of(table, "theirs").reached] == ["ties", "wins"]
    assert list(comparisons([table])) == [(2, "wins"), (2, "ties")]


def test_one_seed_tells_nothing_in_time_either() -> None:
    runs = {"ours": {11: row(0.9)}, "theirs": {11: row(0.1, 0.9)}, "never": {11: row(0.1)}}
    table = tabulate("d", runs, "ours", (0.5,))
    assert [one.reached[0].verdict for one in table.standings] == [None] * 3
    assert list(comparisons([table])) == []


def test_the_final_accuracy_is_the_mean_of_the_last_ten_evaluations() -> None:
    assert final(row(0.9, 0.9, *[0.5] * 5, *[0.7] * 5)) == pytest.approx(0.6)
    assert final(row(0.2, 0.4)) == pytest.approx(0.3)


def test_a_spread_is_the_sample_standard_deviation() -> None:
    spread = Spread.of([1.0, 2.0, 6.0])
    assert spread is not None
    assert (spread.mean, spread.count) == (3.0, 3)
    assert spread.sd == pytest.approx(7**0.5)
    assert Spread.of([4.0]) == Spread(4.0, 0.0, 1)
    assert Spread.of([]) is None


def test_targets_are_shares_of_the_median_method_rounded_down() -> None:
    """Means over seeds 0.5, 0.613 and 0.9: the median is 0.613, 95 % of it 0.58235."""
    runs = {
        "a": {11: steady(0.4), 12: steady(0.6)},
        "b": {11: steady(0.613)},
        "c": {11: steady(0.9)},
    }
    assert targets_of(runs, TargetRule()) == (0.58, 0.61)
    assert targets_of(runs, TargetRule(shares=(1.0,), step=0.05)) == (0.6,)
    assert targets_of({"a": {11: steady(0.7)}}, TargetRule(shares=(1.0,))) == (0.7,)
    assert targets_of({}, TargetRule()) == ()


def test_differences_are_paired_by_seed() -> None:
    """Both spread by 20 points, yet the compared method is 2, 3 and 4 points ahead."""
    runs = {
        "ours": {11: steady(0.52), 12: steady(0.63), 13: steady(0.74)},
        "theirs": {11: steady(0.50), 12: steady(0.60), 13: steady(0.70)},
    }
    theirs = of(tabulate("d", runs, "ours", ()), "theirs")
    assert theirs.ahead is not None
    assert theirs.ahead.mean == pytest.approx(0.03)
    assert theirs.verdict == "wins"
    ours = of(tabulate("d", runs, "ours", ()), "ours")
    assert (ours.ahead, ours.verdict) == (None, None)


def test_a_saving_is_of_the_time_of_those_seeds_with_which_both_get_there() -> None:
    """0.5 is reached at 10 and 30 s by us, at 40 s and never by them: 1 - 10 / 40."""
    runs = {
        "ours": {11: row(0.5, 0.6, 0.6, 0.6), 12: row(0.1, 0.2, 0.5, 0.5)},
        "theirs": {11: row(0.1, 0.2, 0.3, 0.5), 12: row(0.1, 0.2, 0.3, 0.4)},
    }
    (reached,) = of(tabulate("d", runs, "ours", (0.5,)), "theirs").reached
    assert reached.saving == pytest.approx(0.75)
    assert (reached.at_s, reached.never) == (Spread(40.0, 0.0, 1), 1)
    assert reached.verdict == "wins"  # with every seed, and they with one of two
    (back,) = of(tabulate("d", runs, "theirs", (0.5,)), "ours").reached
    assert back.verdict == "loses"
    assert back.at_s is not None
    assert (back.at_s.mean, back.at_s.count) == (20.0, 2)
    assert back.at_s.sd == pytest.approx(200**0.5)


def test_times_of_methods_that_all_get_there_are_compared_like_accuracies() -> None:
    early, late = row(0.1, 0.9, 0.9, 0.9), row(0.1, 0.1, 0.1, 0.9)
    runs = {
        "ours": {11: early, 12: early},
        "slower": {11: late, 12: late},
        "mixed": {11: late, 12: row(0.9, 0.9, 0.9, 0.9)},
        "neither": {11: row(0.1), 12: row(0.1)},
    }
    table = tabulate("d", runs, "ours", (0.5,))
    verdicts = {one.method: one.reached[0].verdict for one in table.standings}
    assert verdicts == {"ours": None, "slower": "wins", "mixed": "ties", "neither": "wins"}
    nobody = tabulate("d", runs, "ours", (0.99,))
    assert [one.reached[0].verdict for one in nobody.standings] == [None] * 4


def test_variants_of_the_compared_method_are_marked() -> None:
    runs = {"ours": {11: steady(0.5)}, "half": {11: steady(0.4)}, "other": {11: steady(0.3)}}
    table = tabulate("d", runs, "ours", (), ["half"])
    assert [one.variant for one in table.standings] == [False, True, False]


def test_there_is_one_row_for_each_dataset_method_seed_and_target() -> None:
    runs = {"a": {11: row(0.1, 0.6), 12: row(0.1, 0.2)}, "b": {11: row(0.7)}}
    rows = rows_of(tabulate("d", runs, "a", (0.5, 0.6)), runs, {"a": {"x": 1}})
    keys = [(r["dataset"], r["method"], r["seed"], r["target"]) for r in rows]
    assert keys == [
        ("d", method, seed, target)
        for method, seed in [("a", 11), ("a", 12), ("b", 11)]
        for target in (0.5, 0.6)
    ]
    assert [r["virtual_s_to_target"] for r in rows] == [20.0, 20.0, None, None, 10.0, 10.0]
    assert rows[0]["final_accuracy"] == pytest.approx(0.35)
    assert (rows[0]["bytes_up"], rows[0]["bytes_down"]) == (1000, 3000)
    assert (rows[0]["settings"], rows[4]["settings"]) == ({"x": 1}, {})


def test_runs_that_were_never_evaluated_are_left_out() -> None:
    table = tabulate("d", {"a": {11: row(), 12: row(0.5)}, "b": {11: row()}}, "b", ())
    assert [one.method for one in table.standings] == ["a"]
    assert len(of(table, "a").runs) == 1
    assert table.compared == ""
