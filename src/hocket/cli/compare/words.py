"""What a study came to, in words and in the cells of tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from hocket.sim.study.results import (
    LEVEL,
    Reached,
    Spread,
    Standing,
    Table,
    Verdict,
    comparisons,
    standard_errors,
)
from hocket.sim.study.study import Claims

NOTHING = "-"
UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "B"))
VERDICTS: tuple[Verdict, ...] = ("wins", "ties", "loses")
PLUS_MINUS = "\N{PLUS-MINUS SIGN}"
NO_BREAK = "\N{NO-BREAK SPACE}"


def percent(spread: Spread | None) -> str:
    """A share with its spread: 71.30 ± 0.42 %."""
    if spread is None:
        return NOTHING
    return f"{100 * spread.mean:.2f} {PLUS_MINUS} {100 * spread.sd:.2f} %"


def in_points(spread: Spread | None) -> str:
    """A difference of shares in percentage points, with its sign."""
    return NOTHING if spread is None else f"{100 * spread.mean:+.2f}"


def seconds(reached: Reached) -> str:
    """When a target was reached, and how often it was not."""
    count = reached.never + (reached.at_s.count if reached.at_s else 0)
    if reached.at_s is None:
        return f"never ({count} of {count})"
    at_s = f"{reached.at_s.mean:.0f} {PLUS_MINUS} {reached.at_s.sd:.0f} s"
    return f"{at_s}, never {reached.never} of {count}" if reached.never else at_s


def saved(reached: Reached) -> str:
    """Time that the compared method saves, in percent."""
    return NOTHING if reached.saving is None else f"{100 * reached.saving:+.1f} %"


def bytes_of(spread: Spread) -> str:
    """A number of bytes with its spread, in one unit: 5.2 ± 0.3 MiB."""
    size, name = next((size, name) for size, name in UNITS if spread.mean >= size or size == 1)
    return f"{spread.mean / size:.1f} {PLUS_MINUS} {spread.sd / size:.1f} {name}"


def share(target: float) -> str:
    """An accuracy to be reached."""
    return f"{100 * target:g} %"


def header(table: Table) -> list[str]:
    """The columns of a table of standings."""
    against = bool(table.compared)
    times = []
    for target in table.targets:
        times += [f"to {share(target)}", *(["saved"] * against)]
    ahead = ["ahead", "it"] * against
    return ["method", "final accuracy", *ahead, *times, "sent up", "sent down", "versions"]


def cells(table: Table, standing: Standing) -> list[str]:
    """A method's row, as `header` has it."""
    found = [standing.method, percent(standing.accuracy)]
    if table.compared:
        found += [in_points(standing.ahead), standing.verdict or NOTHING]
    for reached in standing.reached:
        found.append(seconds(reached))
        if table.compared:
            found.append(saved(reached))
    versions = sum(row.versions for row in standing.runs) / len(standing.runs)
    return [*found, bytes_of(standing.bytes_up), bytes_of(standing.bytes_down), f"{versions:.0f}"]


def unbroken(row: Sequence[str]) -> list[str]:
    """A row of cells on a page, where a number must stay in one line with its spread and unit."""
    name, *numbers = row
    parts = (cell.split(", ") for cell in numbers)
    return [name, *(", ".join(part.replace(" ", NO_BREAK) for part in cell) for cell in parts)]


def chance(tables: Iterable[Table]) -> Iterator[str]:
    """How many of the verdicts to expect though nothing differs, in one sentence, if any."""
    tested = list(comparisons(tables))
    if not tested:
        return
    counts = sorted({count for count, _ in tested})
    needed = ", ".join(f"{standard_errors(count):.2f} with {count} seeds" for count in counts)
    apart = sum(verdict != "ties" for _, verdict in tested)
    yield (
        f"{len(tested)} comparisons were tested at the {share(LEVEL)} level (a difference needs so "
        f"many standard errors: {needed}); {apart} came out as wins or losses. If no two methods "
        f"differed, {len(tested) * LEVEL:.1f} would be expected to by chance."
    )


def statements(table: Table) -> Iterator[str]:
    """Where the compared method wins, ties and loses, in plain sentences."""
    others = [one for one in table.standings if one.ahead is not None]
    baselines = [one for one in others if not one.variant]
    variants = [one for one in others if one.variant]
    claims = table.claims
    if baselines:
        yield f"On {table.dataset} {_of_accuracy(table, baselines)}."
        whom = "them" if len(baselines) > 1 else "it"
        yield f"It is ahead of {whom} by {_from_to(baselines, claims)}."
        yield from (f"{_of_time(table, target, baselines, claims)}." for target in table.targets)
        if claims is not None and claims.says:
            yield f"Of {table.compared} {claims.source} claims: {claims.says.rstrip('.')}."
    if variants:
        yield f"Against its own variants on {table.dataset}: {_of_accuracy(table, variants)}."


def _of_accuracy(table: Table, others: Sequence[Standing]) -> str:
    if all(one.verdict is None for one in others):
        return "there is one seed: whether a difference is more than chance cannot be told"
    sides = [[one for one in others if one.verdict == verdict] for verdict in VERDICTS]
    return (
        f"the final accuracy of {table.compared} is higher than that of {_named(sides[0])}, ties "
        f"with that of {_named(sides[1])} (no more apart than chance explains), "
        f"and is lower than that of {_named(sides[2])}"
    )


def _from_to(others: Sequence[Standing], claims: Claims | None) -> str:
    ahead = {one.method: 100 * one.ahead.mean for one in others if one.ahead is not None}
    text = f"{_range(ahead, 2)} points"
    if claims is None or claims.points is None:
        return text
    return f"{text}; {claims.source} claims {claims.points[0]:.2f} to {claims.points[1]:.2f}"


def _of_time(table: Table, target: float, others: Sequence[Standing], claims: Claims | None) -> str:
    if all(one.ahead is None or one.ahead.count < 2 for one in others):
        return (
            f"To {share(target)} on {table.dataset} there is one seed: whether a difference in "
            "time is more than chance cannot be told"
        )
    reached = {one.method: at for one in others for at in one.reached if at.target == target}
    sides = [[name for name, at in reached.items() if at.verdict == one] for one in VERDICTS]
    text = (
        f"To {share(target)} on {table.dataset} {table.compared} is faster than "
        f"{_listed(sides[0])}, ties with {_listed(sides[1])} and is slower than {_listed(sides[2])}"
    )
    if unknown := [name for name, at in reached.items() if at.verdict is None]:
        text += f"; nothing can be told of {_listed(unknown)}"
    saved_by = {name: 100 * at.saving for name, at in reached.items() if at.saving is not None}
    if not saved_by:
        return text
    text += f"; where both get there it saves {_range(saved_by, 1, ' %')} of the time"
    if claims is None or claims.saving is None:
        return text
    return (
        f"{text}, where {claims.source} claims {claims.saving[0]:.2f} to {claims.saving[1]:.2f} %"
    )


def _range(values: Mapping[str, float], digits: int, unit: str = "") -> str:
    """From the least to the most, each with whose it is; of one, that one."""
    least, most = min(values, key=values.__getitem__), max(values, key=values.__getitem__)
    low, high = (f"{values[name]:+.{digits}f}{unit} ({name})" for name in (least, most))
    return low if least == most else f"{low} to {high}"


def _named(standings: Sequence[Standing]) -> str:
    return _listed([one.method for one in standings])


def _listed(names: Sequence[str]) -> str:
    return f"{len(names)} ({', '.join(names)})" if names else "none"


def changes_text(changes: Mapping[str, Any]) -> str:
    """A point of a grid: strategy.alpha = 0.3, training.learning_rate = 0.05."""
    return ", ".join(f"{key} = {value}" for key, value in changes.items()) or "as it stands"
