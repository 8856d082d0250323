"""TiFL: devices of like speed train together, and the tiers that lag behind train more often.

Chai, Ali, Zawad, Truex, Anwar, Baracaldo, Zhou, Ludwig, Yan, Cheng. TiFL: A Tier-based Federated
Learning System. HPDC 2020. arXiv:2001.09249. Its adaptive selection, as known from others' code.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from hocket.core.chance import Stream
from hocket.core.ids import DeviceId
from hocket.core.ranges import at_least_one, not_negative
from hocket.core.scheduling.selection import Candidate, Pool, Seen, some


def bounds_of(seconds: Iterable[float], tiers: int) -> tuple[float, ...]:
    """Where the next slower tier begins: the quantiles that cut so many equal parts."""
    ordered = sorted(seconds)
    if not ordered:
        return ()
    return tuple(ordered[len(ordered) * part // tiers] for part in range(1, tiers))


def odds_of(losses: Sequence[float | None]) -> list[float]:
    """Each tier's chance, rank / (n (n + 1) / 2): the one with the highest loss has rank n.

    A tier that nothing is known of ranks before all others, and of two equal ones the quicker. As
    long as nothing is known of any, all have the same chance.
    """
    n = len(losses)
    if all(loss is None for loss in losses):
        return [1.0 / n] * n

    def behind(tier: int) -> tuple[bool, float, int]:
        loss = losses[tier]
        return loss is None, loss or 0.0, -tier

    odds = [0.0] * n
    for rank, tier in enumerate(sorted(range(n), key=behind), start=1):
        odds[tier] = rank / (n * (n + 1) / 2)
    return odds


@dataclass(slots=True)
class TiflMemory:
    """What was learned since the aggregator started."""

    odds: list[float]  # by tier, the quickest first
    credits: list[int]  # choices that are left to each tier
    bounds: tuple[float, ...] = ()  # seconds
    seen: dict[DeviceId, Seen] = field(default_factory=dict)  # the last of each device
    order: list[DeviceId] = field(default_factory=list)  # the same, to draw from
    choices: int = 0


@dataclass(frozen=True, slots=True)
class Tifl:
    """One tier of devices at a time, and within it each with equal chance.

    The tiers are quantiles of the seconds from trigger to update: as measured, or as estimated for
    a device that has pushed nothing yet; without an estimate it counts as quick. Every `every`
    choices the tiers are cut anew, and a tier's chance follows its rank. The paper ranks the tiers
    by their accuracy on test examples of their devices, which no server has; here they are ranked
    by the mean of the training losses that their devices reported last, the highest first.

    A choice costs the tier one of its `credits`; once no tier that could serve has any left, all
    get theirs anew. Where a tier has too few idle devices, another one fills up. Of more than
    `consider` idle devices (or `tiers` times the devices wanted), so many are drawn with equal
    chance first, and so of those that were seen: what a choice costs does not grow with the fleet.
    """

    tiers: int = 5
    every: int = 20  # choices
    credits: int = 0  # choices for each tier; 0: no limit
    drop_beyond_s: float = 0.0  # a device known to take longer is left out; 0: none is
    consider: int = 1000  # devices
    kind: Literal["tifl"] = "tifl"

    def __post_init__(self) -> None:
        for name in ("tiers", "every", "consider"):
            at_least_one("selection", name, getattr(self, name))
        for name in ("credits", "drop_beyond_s"):
            not_negative("selection", name, getattr(self, name))

    def begin(self) -> TiflMemory:
        """Nobody was seen."""
        return TiflMemory(odds_of([None] * self.tiers), [self.credits] * self.tiers)

    def learn(self, memory: TiflMemory, seen: Seen) -> None:
        """The device takes as long, and lags behind as far, as this update says."""
        if seen.device_id not in memory.seen:
            memory.order.append(seen.device_id)
        memory.seen[seen.device_id] = seen

    def choose(self, pool: Pool, count: int, chance: Stream, memory: TiflMemory) -> list[DeviceId]:
        """At most `count` distinct devices, fewer only where fewer are idle and quick enough."""
        idle = _seconds(pool, max(self.consider, self.tiers * count), chance, memory)
        if memory.choices % self.every == 0:
            self._cut(memory, idle, chance)
        memory.choices += 1
        tiers: list[list[DeviceId]] = [[] for _ in range(self.tiers)]
        for name, took_s in idle.items():
            if took_s is None or not 0.0 < self.drop_beyond_s < took_s:
                tiers[_tier(memory, took_s)].append(name)
        chosen: list[DeviceId] = []
        while len(chosen) < count and any(tiers):
            tier = self._draw([at for at, names in enumerate(tiers) if names], chance, memory)
            names, tiers[tier] = tiers[tier], []
            chosen += (names[at] for at in chance.sample(len(names), count - len(chosen)))
        return chosen

    def _draw(self, filled: list[int], chance: Stream, memory: TiflMemory) -> int:
        """One of the tiers that could serve, at the price of a credit."""
        if not self.credits:
            return chance.weighted(filled, [memory.odds[tier] for tier in filled], 1)[0]
        if not any(memory.credits[tier] for tier in filled):
            memory.credits[:] = [self.credits] * self.tiers
        able = [tier for tier in filled if memory.credits[tier]]
        [tier] = chance.weighted(able, [memory.odds[tier] for tier in able], 1)
        memory.credits[tier] -= 1
        return tier

    def _cut(self, memory: TiflMemory, idle: dict[DeviceId, float | None], chance: Stream) -> None:
        """Tiers and their chances from what is known by now, of busy devices too."""
        ranks = some(len(memory.order), self.consider, chance)
        seen = [memory.seen[memory.order[rank]] for rank in ranks]
        known = {name: took_s for name, took_s in idle.items() if took_s is not None}
        known |= {each.device_id: each.took_s for each in seen}
        memory.bounds = bounds_of(known.values(), self.tiers)
        losses: list[list[float]] = [[] for _ in range(self.tiers)]
        for each in seen:
            losses[_tier(memory, each.took_s)].append(each.loss_rms)
        memory.odds = odds_of([sum(of) / len(of) if of else None for of in losses])


def _seconds(
    pool: Pool, most: int, chance: Stream, memory: TiflMemory
) -> dict[DeviceId, float | None]:
    """At most so many idle devices, with the seconds that they take."""

    def took_s(candidate: Candidate) -> float | None:
        seen = memory.seen.get(candidate.device_id)
        return candidate.expected_s if seen is None else seen.took_s

    idle = map(pool.candidate, some(len(pool), most, chance))
    return {candidate.device_id: took_s(candidate) for candidate in idle}


def _tier(memory: TiflMemory, took_s: float | None) -> int:
    return 0 if took_s is None else bisect_right(memory.bounds, took_s)
