"""Oort: devices whose updates teach most for the time they take, and a share never seen before.

Lai, Zhu, Madhyastha, Chowdhury. Oort: Efficient Federated Learning via Guided Participant
Selection. OSDI 2021. arXiv:2010.06081. The formulas are those of the authors' code; paper and code
differ in some numbers, and not all could be checked, so each number is a setting.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from hocket.core.chance import Stream
from hocket.core.ids import DeviceId
from hocket.core.ranges import at_least_one, not_negative, percentile, positive, share
from hocket.core.scheduling.selection import Candidate, Pool, Seen, some
from hocket.errors import TaskError

_MOST = 1e300
"""What a utility may be: devices say what they like of their losses, and sums stay finite."""
_LOWEST = 0.999
"""Of the lowest utility: normalised from here up, so that none has weight 0."""


def utility(num_examples: int, loss_rms: float) -> float:
    """|B| sqrt(mean of loss^2): how much there is to learn from a device's examples."""
    return min(num_examples * loss_rms, _MOST)


def slowdown(preferred_s: float, took_s: float, penalty: float) -> float:
    """(T / t)^penalty where a device takes t > T seconds, else 1."""
    return (preferred_s / took_s) ** penalty if took_s > preferred_s else 1.0


def bonus(temporal: float, now: int, seen: int) -> float:
    """sqrt(temporal ln(R) / L) in round R for a device last seen in round L, both from 1."""
    return math.sqrt(temporal * math.log(now) / seen)


def paced(percentile: float, before: float, now: float, *, step: float, change: float) -> float:
    """The percentile of durations after two windows of such utility; more time once it is flat."""
    return min(100.0, percentile + step) if abs(now - before) <= change * before else percentile


def percentile_of(values: Sequence[float], percentile: float) -> float:
    """The value below which so many percent lie; there must be one at least."""
    return sorted(values)[min(int(len(values) * percentile / 100.0), len(values) - 1)]


@dataclass(slots=True)
class Explored:
    """What a device's last accepted update was like."""

    utility: float
    took_s: float
    seen: int  # round


@dataclass(slots=True)
class OortMemory:
    """What was learned since the aggregator started."""

    percentile: float  # of the durations, which T is
    explored: dict[DeviceId, Explored] = field(default_factory=dict)
    order: list[DeviceId] = field(default_factory=list)  # the same, to draw from
    picks: Counter[DeviceId] = field(default_factory=Counter)
    num_picks: int = 0
    windows: int = 0  # that are over
    gained: float = 0.0  # utility of the updates in this window
    gained_before: float = 0.0  # and in the one before


@dataclass(frozen=True, slots=True)
class Oort:
    """A share of never seen devices, quick ones first; else the most useful of those seen.

    A device's score is its utility, clipped at a percentile and brought to 0..1, plus a bonus that
    grows with the rounds since it was seen, times (T / t)^`round_penalty` if it takes t > T
    seconds. T is a percentile of the durations; it rises when the updates of a window teach as
    much as those of the one before, so that slower devices are worth their time. Devices are drawn
    in proportion to their scores among those that reach `cut_off` of the last score needed.

    The paper counts rounds. Here `round_size` devices chosen make one, whatever the pace. Of more
    than `consider` devices that were seen, so many are drawn with equal chance first, and so of
    those that are idle: what a choice costs does not grow with the fleet. A slow and useless device
    may never be asked again, except where nobody else is idle.
    """

    explore: float = 0.9  # share of never seen devices in the first round
    explore_decay: float = 0.98  # times so much for each round; 0.95 in the published code
    explore_least: float = 0.2  # but never less
    explore_window: float = 5.0  # drawn among the so many times quickest
    cut_off: float = 0.95  # 0.7 in the published code
    round_penalty: float = 2.0  # alpha
    clip_percentile: float = 95.0  # 98 in the published code
    temporal: float = 0.1  # how much it counts not to have been seen for long
    pacer_start: float = 10.0  # percentile
    pacer_step: float = 5.0  # percentiles
    pacer_change: float = 0.1  # share; a smaller change of utility is none
    window: int = 20  # rounds
    round_size: int = 10  # devices
    most_picks: int = 0  # a device chosen so often is a last resort; 0: no limit
    consider: int = 1000  # devices
    kind: Literal["oort"] = "oort"

    def __post_init__(self) -> None:
        for name in ("explore", "explore_decay", "explore_least", "cut_off"):
            share("selection", name, getattr(self, name))
        if self.explore_least > self.explore:
            raise TaskError(
                f"selection.explore_least is {self.explore_least}, above selection.explore, "
                f"{self.explore}: the share of new devices falls from the one to the other"
            )
        for name in ("round_penalty", "temporal", "pacer_step", "pacer_change", "most_picks"):
            not_negative("selection", name, getattr(self, name))
        for name in ("clip_percentile", "pacer_start"):
            percentile("selection", name, getattr(self, name))
        positive("selection", "explore_window", self.explore_window)
        for name in ("window", "round_size", "consider"):
            at_least_one("selection", name, getattr(self, name))

    def begin(self) -> OortMemory:
        """Nobody was seen."""
        return OortMemory(self.pacer_start)

    def learn(self, memory: OortMemory, seen: Seen) -> None:
        """The device is worth what this update was worth."""
        if seen.device_id not in memory.explored:
            memory.order.append(seen.device_id)
        gained = utility(seen.num_examples, seen.loss_rms)
        memory.explored[seen.device_id] = Explored(gained, seen.took_s, self.round_of(memory))
        memory.gained += gained

    def choose(self, pool: Pool, count: int, chance: Stream, memory: OortMemory) -> list[DeviceId]:
        """At most `count` distinct devices, fewer only where fewer are idle."""
        count = min(count, len(pool))
        share_of_new = self.new_share(self.round_of(memory))
        of_known = math.floor(count * (1.0 - share_of_new) + chance.random())
        known = self._useful(pool, chance, memory) if of_known else []
        of_known = min(of_known, len(known))
        new = self._new(pool, count, chance, memory) if of_known < count else []
        of_new = min(count - of_known, len(new))
        if of_new < count and not known:
            known = self._useful(pool, chance, memory)
        chosen = self._exploited(known, min(count - of_new, len(known)), chance)
        chosen += self._explored(new, of_new, chance)
        chosen += _others(pool, count, chosen, chance)
        self._count(memory, chosen)
        return chosen

    def round_of(self, memory: OortMemory) -> int:
        """R, from 1."""
        return 1 + memory.num_picks // self.round_size

    def new_share(self, round_: int) -> float:
        """How many of a round's devices are to be new ones."""
        return max(self.explore_least, self.explore * self.explore_decay ** (round_ - 1))

    def _useful(
        self, pool: Pool, chance: Stream, memory: OortMemory
    ) -> list[tuple[DeviceId, float]]:
        """Idle devices that were seen, with their scores."""
        ranks = some(len(memory.order), self.consider, chance)
        known = {name: memory.explored[name] for name in (memory.order[rank] for rank in ranks)}
        if not known:
            return []
        utilities = [device.utility for device in known.values()]
        low = _LOWEST * min(utilities)
        high = percentile_of(utilities, self.clip_percentile)
        preferred_s = self._preferred_s(known.values(), memory)
        now = self.round_of(memory)

        def score(device: Explored) -> float:
            worth = (min(device.utility, high) - low) / (high - low) if high > low else 1.0
            worth += bonus(self.temporal, now, device.seen)
            return worth * slowdown(preferred_s, device.took_s, self.round_penalty)

        return [
            (name, score(device))
            for name, device in known.items()
            if name in pool and not (0 < self.most_picks <= memory.picks[name])
        ]

    def _preferred_s(self, devices: Iterable[Explored], memory: OortMemory) -> float:
        """T; infinite once the pacer has come to the slowest."""
        if memory.percentile >= 100.0:
            return math.inf
        return percentile_of([device.took_s for device in devices], memory.percentile)

    def _exploited(
        self, useful: list[tuple[DeviceId, float]], count: int, chance: Stream
    ) -> list[DeviceId]:
        """`count` of those that reach `cut_off` of the `count`-th score, by their scores."""
        if count < 1:
            return []
        needed = self.cut_off * sorted(score for _, score in useful)[-count]
        good = [(name, score) for name, score in useful if score >= needed]
        return chance.weighted([name for name, _ in good], [score for _, score in good], count)

    def _new(
        self, pool: Pool, count: int, chance: Stream, memory: OortMemory
    ) -> list[tuple[Candidate, float]]:
        """Idle devices that were never seen, with their speeds as `ByCapability` has them.

        So even a slow one, waiting for ever longer, is the next to be tried in the end.
        """
        ranks = some(len(pool), max(self.consider, count), chance)
        unseen = (rank for rank in ranks if pool.device_id(rank) not in memory.explored)
        return [(device, device.urgency) for device in map(pool.candidate, unseen)]

    def _explored(
        self, new: list[tuple[Candidate, float]], count: int, chance: Stream
    ) -> list[DeviceId]:
        """`count` of the `explore_window` times so many quickest, by their speeds."""
        among = max(count, math.ceil(self.explore_window * count))
        quick = sorted(new, key=lambda one: one[1], reverse=True)[:among]
        names = [device.device_id for device, _ in quick]
        return chance.weighted(names, [speed for _, speed in quick], count)

    def _count(self, memory: OortMemory, chosen: list[DeviceId]) -> None:
        """So many more are chosen; at the end of a window, see whether it taught less."""
        memory.picks.update(chosen)
        memory.num_picks += len(chosen)
        windows = memory.num_picks // (self.round_size * self.window)
        if windows == memory.windows:
            return
        if memory.windows:  # there is one before to compare with
            memory.percentile = paced(
                memory.percentile,
                memory.gained_before,
                memory.gained,
                step=self.pacer_step,
                change=self.pacer_change,
            )
        memory.windows, memory.gained_before, memory.gained = windows, memory.gained, 0.0


def _others(pool: Pool, count: int, chosen: list[DeviceId], chance: Stream) -> list[DeviceId]:
    """Whoever is idle, for what is missing to `count`."""
    missing = count - len(chosen)
    if not missing:
        return []
    ranks = chance.sample(len(pool), count)  # of which at most len(chosen) are chosen already
    taken = set(chosen)
    rest = [name for name in map(pool.device_id, ranks) if name not in taken]
    return rest[:missing]
