"""Which process is killed where and when, drawn from a seed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum

from hocket.hosting.failpoint import Failpoint


class Target(StrEnum):
    """Whom it hits."""

    AGGREGATOR = "aggregator"
    REGISTRY = "registry"
    DEVICE = "device"


@dataclass(frozen=True, slots=True)
class Trouble:
    """Two kills in a row: of a process at work, and of the next, at a place it comes to."""

    target: Target
    after_s: float  # the first: so long after its recovery was found to be sound
    place: Failpoint  # the second: there, when it is reached for the `count`-th time
    count: int  # from when what the first has left was examined
    in_recovery: bool = False  # the second strikes before it serves, if it comes to the place then


# Places, and the most times that they are passed before: more where they come by often.
PLACES: dict[Target, dict[Failpoint, int]] = {
    Target.AGGREGATOR: {
        Failpoint.BEFORE_JOURNAL_WRITE: 20,
        Failpoint.AFTER_JOURNAL_WRITE: 20,
        Failpoint.BEFORE_JOURNAL_SYNC: 20,
        Failpoint.AFTER_JOURNAL_SYNC: 20,
        Failpoint.MID_STREAM: 40,
        Failpoint.BEFORE_ACKNOWLEDGEMENT: 20,
        Failpoint.AFTER_ACKNOWLEDGEMENT: 20,
        Failpoint.MID_SNAPSHOT: 12,
        Failpoint.BEFORE_MANIFEST: 4,
        Failpoint.BEFORE_RECORDS: 6,
    },
    Target.REGISTRY: {
        Failpoint.BEFORE_REGISTRY_SAVE: 8,
        Failpoint.AFTER_REGISTRY_SAVE: 8,
    },
    Target.DEVICE: {
        Failpoint.OUTBOX_WRITTEN: 3,
        Failpoint.MID_PUSH: 3,
        Failpoint.OUTCOME_KNOWN: 3,
    },
}
# What a start may pass as well: in every other round it is the recovery that is killed there.
PASSED_IN_RECOVERY = {
    Failpoint.MID_SNAPSHOT,
    Failpoint.BEFORE_MANIFEST,
    Failpoint.BEFORE_RECORDS,
    Failpoint.BEFORE_REGISTRY_SAVE,
}
LONGEST_S = 1.0  # until a kill at random


def troubles(target: Target, rounds: int, seed: int) -> list[Trouble]:
    """Every place of the target `rounds` times, in some order."""
    chance = random.Random(f"{seed} {target}")
    plan: list[Trouble] = []
    for number in range(rounds):
        places = list(PLACES[target].items())
        chance.shuffle(places)
        for place, most in places:
            after_s, count = LONGEST_S * chance.random(), chance.randint(1, most)
            in_recovery = number % 2 == 1 and place in PASSED_IN_RECOVERY
            plan.append(Trouble(target, after_s, place, 1 if in_recovery else count, in_recovery))
    return plan
