"""What a study came to: every method in numbers, beside the one that is compared.

Spread is the standard deviation over seeds (n - 1). Differences are paired by seed.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev
from typing import Any, Literal

from hocket.sim.study.jobs import Row
from hocket.sim.study.study import Claims, TargetRule

LAST = 10
"""Evaluations whose mean is a run's final accuracy."""
LEVEL = 0.05
"""How often a difference that is none is called one, by T."""
T = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
"""Student's t for 1 to 30 degrees of freedom, two-sided 5 %: NIST/SEMATECH e-Handbook of
Statistical Methods, section 1.3.6.7.2, the column of 0.975."""

Verdict = Literal["wins", "ties", "loses"]
Runs = Mapping[str, Mapping[int, Row]]
"""Of one dataset: by method and seed, in the order in which they are shown."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A mean over seeds, and how far they lie apart."""

    mean: float
    sd: float  # 0 for one
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """None for no values."""
        if not values:
            return None
        return cls(fmean(values), stdev(values) if len(values) > 1 else 0.0, len(values))


@dataclass(frozen=True, slots=True)
class Reached:
    """When a method reached a target."""

    target: float
    at_s: Spread | None  # over the seeds that did; None: none did
    never: int  # seeds that did not
    saving: float | None  # share of time that the compared method saves; None: not both reached it
    verdict: Verdict | None  # of the compared method, in time; None: neither got there, or one seed
    tested: bool  # by the times; not by who gets there with every seed


@dataclass(frozen=True, slots=True)
class Standing:
    """One method on one dataset."""

    method: str
    variant: bool  # of the compared method, not a baseline
    accuracy: Spread
    ahead: Spread | None  # final accuracy of the compared method less this one's; None for itself
    verdict: Verdict | None  # of the compared method; None for itself, or with a single seed
    reached: tuple[Reached, ...]
    bytes_up: Spread
    bytes_down: Spread
    runs: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """All methods on one dataset, in the order in which they are shown."""

    dataset: str
    compared: str  # empty: none
    targets: tuple[float, ...]
    standings: tuple[Standing, ...]
    claims: Claims | None = None  # what is said of the compared method elsewhere


def tabulate(
    dataset: str,
    runs: Runs,
    compared: str,
    targets: Sequence[float],
    variants: Collection[str] = (),
    claims: Claims | None = None,
) -> Table:
    """All methods with at least one run that was evaluated; `variants` are of the compared one."""
    known = {
        method: {seed: row for seed, row in rows.items() if row.curve}
        for method, rows in runs.items()
    }
    known = {method: rows for method, rows in known.items() if rows}
    judge = known.get(compared, {})
    return Table(
        dataset,
        compared if judge else "",
        tuple(targets),
        tuple(
            _standing(
                method,
                rows,
                judge if method != compared else {},
                targets,
                variant=method in variants,
            )
            for method, rows in known.items()
        ),
        claims,
    )


def targets_of(runs: Runs, rule: TargetRule) -> tuple[float, ...]:
    """The rule's shares of the median method's mean final accuracy, rounded down; ascending."""
    finals = [
        fmean(values)
        for rows in runs.values()
        if (values := [final(row) for row in rows.values() if row.curve])
    ]
    if not finals:
        return ()
    middle = median(finals)
    found = {_rounded_down(share * middle, rule.step) for share in rule.shares}
    return tuple(sorted(target for target in found if 0 < target <= 1))


def standard_errors(count: int) -> float:
    """A mean of so many differences (two or more) is a tie below so many standard errors.

    Beyond 31 the last known, which is a little strict.
    """
    return T[min(count - 1, len(T)) - 1]


def comparisons(tables: Iterable[Table]) -> Iterator[tuple[int, Verdict]]:
    """Of every comparison that a test decided: how many seeds it had, and what came out."""
    for table in tables:
        for one in table.standings:
            if one.ahead is None:
                continue
            tested = [one.verdict, *(at.verdict for at in one.reached if at.tested)]
            yield from ((one.ahead.count, verdict) for verdict in tested if verdict is not None)


def verdict_of(differences: Sequence[float]) -> Verdict | None:
    """Whether paired differences are above 0, below 0, or too near it to tell; None for one.

    Student's paired t-test, two-sided, at LEVEL.
    """
    if len(differences) < 2:
        return None
    mean = fmean(differences)
    error = stdev(differences) / math.sqrt(len(differences))
    if abs(mean) < standard_errors(len(differences)) * error or mean == 0:
        return "ties"
    return "wins" if mean > 0 else "loses"


def final(row: Row) -> float:
    """A run's final accuracy. The run must have been evaluated."""
    accuracy = row.accuracy(LAST)
    if accuracy is None:
        raise ValueError("a run without evaluations has no final accuracy")
    return accuracy


def rows_of(table: Table, runs: Runs, settings: Mapping[str, Mapping[str, Any]]) -> list[Any]:
    """One JSON row for each run and target; `settings` are each method's changes to the task."""
    return [
        {
            "dataset": table.dataset,
            "method": method,
            "seed": seed,
            "final_accuracy": final(row),
            "target": target,
            "virtual_s_to_target": row.reached_s(target),
            "bytes_up": row.bytes_up,
            "bytes_down": row.bytes_down,
            "settings": dict(settings.get(method, {})),
            "versions": row.versions,
            "trainings": row.trainings,
            "updates_accepted": row.updates_accepted,
            "updates_dropped": row.updates_dropped,
            "mean_tau": row.mean_tau,
            "merges": row.merges,
            "digest": row.digest,
            "virtual_s": row.virtual_s,
            "wall_s": row.wall_s,
            "code": None if row.made is None else row.made.code,
        }
        for method, rows in runs.items()
        for seed, row in rows.items()
        if row.curve
        for target in table.targets
    ]


def _standing(
    method: str,
    rows: Mapping[int, Row],
    judge: Mapping[int, Row],
    targets: Sequence[float],
    *,
    variant: bool,
) -> Standing:
    finals = {seed: final(row) for seed, row in rows.items()}
    ahead = [final(judge[seed]) - value for seed, value in finals.items() if seed in judge]
    runs = tuple(rows.values())
    return Standing(
        method,
        variant,
        _spread([*finals.values()]),
        Spread.of(ahead),
        verdict_of(ahead),
        tuple(_reached(target, rows, judge) for target in targets),
        _spread([float(row.bytes_up) for row in runs]),
        _spread([float(row.bytes_down) for row in runs]),
        runs,
    )


def _spread(values: Sequence[float]) -> Spread:
    spread = Spread.of(values)
    if spread is None:
        raise ValueError("there is no spread of nothing")
    return spread


def _reached(target: float, rows: Mapping[int, Row], judge: Mapping[int, Row]) -> Reached:
    times = {seed: row.reached_s(target) for seed, row in rows.items()}
    theirs = {seed: row.reached_s(target) for seed, row in judge.items() if seed in rows}
    known = [at_s for at_s in times.values() if at_s is not None]
    both = [
        (at_s, ours)
        for seed, ours in theirs.items()
        if ours is not None and (at_s := times[seed]) is not None
    ]
    saving = None
    if both and (slower := sum(at_s for at_s, _ in both)) > 0:
        saving = 1.0 - sum(ours for _, ours in both) / slower
    verdict = _in_time(times, theirs)
    tested = verdict is not None and len(both) == len(theirs)
    return Reached(target, Spread.of(known), len(times) - len(known), saving, verdict, tested)


def _in_time(
    times: Mapping[int, float | None], theirs: Mapping[int, float | None]
) -> Verdict | None:
    """Of the judge. Who gets there with every seed beats who does not; else the times decide.

    None where neither ever gets there, and with a single seed.
    """
    pairs = [(times[seed], ours) for seed, ours in theirs.items()]
    if len(pairs) < 2 or all(at_s is None for pair in pairs for at_s in pair):
        return None
    other_always = all(at_s is not None for at_s, _ in pairs)
    judge_always = all(ours is not None for _, ours in pairs)
    if judge_always != other_always:
        return "wins" if judge_always else "loses"
    if not judge_always:
        return "ties"
    return verdict_of(
        [at_s - ours for at_s, ours in pairs if at_s is not None and ours is not None]
    )


def _rounded_down(value: float, step: float) -> float:
    """To a multiple of the step; what is one within rounding stays."""
    return round(math.floor(value / step + 1e-9) * step, 10)
