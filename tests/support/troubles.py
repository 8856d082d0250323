"""Which process is killed where and when: drawn from a seed, every place at least once."""

from __future__ import annotations

import random
from collections.abc import Iterator
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
    """One life: it ends at a place reached for the `count`-th time, or after `after_s` of work."""

    target: Target
    place: Failpoint | None = None
    count: int = 1
    after_s: float = 0.0  # since its recovery was found to be sound

    @property
    def told(self) -> str:
        """For the table."""
        return f"{self.target} {self.place or 'at random'}"


# Places, and how often at most they are passed before: more often where they come by quickly.
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
LONGEST_S = 1.0  # of work before a kill at random


def troubles(target: Target, rounds: int, seed: int) -> Iterator[Trouble]:
    """Every place of the target `rounds` times, in some order, each followed by a random kill.

    Between the two stands a life that is not hurried: in it the recovery is examined.
    """
    chance = random.Random(f"{seed} {target}")
    for _ in range(rounds):
        places = list(PLACES[target].items())
        chance.shuffle(places)
        for place, most in places:
            yield Trouble(target, place, chance.randint(1, most))
            yield Trouble(target, after_s=LONGEST_S * chance.random())
