"""Which levels a device affords: those that it is set to train, and ends in time by its measures.

A level is a width: the share of each layer's channels. HeteroFL's are the halvings of 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, Protocol

from hocket.core.chance import Stream
from hocket.core.ranges import not_negative, one_of, positive, share
from hocket.core.sizing.size import Facts
from hocket.errors import TaskError

HALVINGS = (1.0, 0.5, 0.25, 0.125, 0.0625)
"""HeteroFL's levels a to e."""

Mode = Literal["fixed", "dynamic"]
MODES: tuple[Mode, ...] = ("fixed", "dynamic")
OWNER = "submodel"


class Levelled(Protocol):
    """Settings of a rule that has levels."""

    @property
    def levels(self) -> tuple[float, ...]:
        """Widths, descending."""
        ...

    @property
    def mode(self) -> Mode:
        """The largest level that is afforded, or each time another of those."""
        ...

    @property
    def deadline_s(self) -> float | None:
        """Seconds that a training and its transfers may take; None: no matter."""
        ...

    @property
    def proportions(self) -> tuple[float, ...]:
        """For "dynamic": the weight of each level in the draw; empty: all alike."""
        ...


def check_levels(field: str, levels: Sequence[float], deadline_s: float | None) -> None:
    """Raise TaskError for no level, one outside (0, 1], an order that does not fall, a bad time."""
    if not levels:
        raise TaskError(f"{OWNER}.{field} is empty; name a width. Correct the task file.")
    for level in levels:
        share(OWNER, field, level)
        positive(OWNER, field, level)
    if any(after >= before for before, after in pairwise(levels)):
        raise TaskError(
            f"{OWNER}.{field} is {list(levels)}; name each width once, the largest first. Correct "
            "the task file."
        )
    if deadline_s is not None:
        positive(OWNER, "deadline_s", deadline_s)


def check_draw(rule: Levelled) -> None:
    """Raise TaskError for what `check_levels` does, or proportions that do not go with the rest."""
    check_levels("levels", rule.levels, rule.deadline_s)
    one_of(OWNER, "mode", rule.mode, MODES)
    if not rule.proportions:
        return
    for weight in rule.proportions:
        not_negative(OWNER, "proportions", weight)
    if rule.mode == "fixed":
        raise TaskError(
            f"{OWNER}.proportions weigh a draw, and {OWNER}.mode 'fixed' draws nothing; leave them "
            "out, or take mode 'dynamic'"
        )
    if len(rule.proportions) != len(rule.levels) or sum(rule.proportions) == 0.0:
        raise TaskError(
            f"{OWNER}.proportions is {list(rule.proportions)}; give one weight for each of "
            f"{len(rule.levels)} levels, one of them above 0. Correct the task file."
        )


def affordable(
    levels: Sequence[float], facts: Facts, deadline_s: float | None
) -> tuple[float, ...]:
    """The levels, of `levels` in descending order, that the device affords; never none.

    Those are at most its `keep`, and by its measurements their training and transfers end within
    the deadline; before it has measured its training, `keep` alone decides. Where none is, the
    smallest is taken, or its `keep` if that is smaller yet.
    """
    smallest = min(levels[-1], facts.ability.keep)
    allowed = tuple(level for level in levels if level <= facts.ability.keep)
    if deadline_s is not None:
        allowed = tuple(level for level in allowed if _in_time(level, facts, deadline_s))
    return allowed or (smallest,)


def level_of(rule: Levelled, facts: Facts) -> float:
    """The level at which the device trains next."""
    levels = affordable(rule.levels, facts, rule.deadline_s)
    if rule.mode == "fixed" or len(levels) == 1:
        return levels[0]
    weight_of = dict(zip(rule.levels, rule.proportions or (1.0,) * len(rule.levels), strict=True))
    weights = [weight_of[level] for level in levels]
    if sum(weights) == 0.0:
        return levels[0]
    chance = Stream(facts.seed, "level", facts.device_id, facts.training)
    return chance.weighted(levels, weights, 1)[0]


def reason(level: float, facts: Facts, deadline_s: float | None) -> str:
    """Why this level, for people: what the whole model would cost, and what is allowed."""
    said = f"{named(level)}: {costs(facts)}"
    if deadline_s is not None:
        said += f", {deadline_s:g} s allowed"
    if facts.ability.keep < 1.0:
        said += f", set to keep {facts.ability.keep:g}"
    return said


def costs(facts: Facts) -> str:
    """What a training of the whole model costs this device, as far as it was measured."""
    training_s, transfer_s = facts.training_s(1.0), facts.transfer_s(1.0)
    capability = "speed not measured" if training_s is None else f"{training_s:.3g} s at full width"
    link = f"{transfer_s:.3g} s link" if transfer_s > 0.0 else "link not measured"
    return f"{capability}, {link}"


def named(level: float) -> str:
    """A width for people: "full", "1/4", "0.3"."""
    parts = round(1.0 / level)
    if level >= 1.0:
        return "full"
    return f"1/{parts}" if abs(parts * level - 1.0) < 1e-9 else f"{level:g}"


def _in_time(level: float, facts: Facts, deadline_s: float) -> bool:
    training_s = facts.training_s(level)
    return training_s is None or training_s + facts.transfer_s(level) <= deadline_s
