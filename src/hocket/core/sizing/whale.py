"""WHALE-FL: the width follows the device's speed, its link, and the phase of its training.

Su, Li, Zhang, Pan. WHALE-FL: Wireless and Heterogeneity Aware Latency Efficient Federated Learning
over Mobile Devices via Adaptive Subnetwork Scheduling. AAAI 2025. arXiv:2405.00885. Rounds are this
device's own trainings, so nothing here waits for others: it suits asynchronous pushes.

Of the public code's defects (whale-fl.md 3.5; docs/tasks.md has more) the window (1, 2), the round
clock (3) and settings without code (6) have no counterpart here, and its `scale` does not carry
over for half windows above 0. Transfers at full width (4) are the default, as `scale` was chosen
with them: `scaled_link` counts them at the width of `latency_ref`, which for `full_size` and
`smoothed` is the same. The reference that swings (5) is on offer, but not the default: `last_size`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hocket.core.ranges import not_negative, one_of, positive, whole
from hocket.core.sizing.affordable import HALVINGS, OWNER, affordable, check_levels, costs, named
from hocket.core.sizing.size import Facts, FisherForm, Lesson, Size, part_of, width_of
from hocket.errors import TaskError

LatencyRef = Literal["smallest_size", "full_size", "smoothed", "last_size"]
REFERENCES: tuple[LatencyRef, ...] = ("smallest_size", "full_size", "smoothed", "last_size")
FORMS: tuple[FisherForm, ...] = ("proxy", "per_sample")

WARM_UP = 1e-5  # stands for the root of the windowed score until there is one
SMOOTHING = 0.3  # weight of the newest latency
LONGEST_DELAY = 1000  # trainings; on its disk a device then keeps at most 2,001 scores
TREND = 0.1  # by which the newest score must differ from the window to be called a change


@dataclass(frozen=True, slots=True)
class Whale:
    """U = D * sqrt(F) * (T_set / t)^beta, and the level is that of U / A among equal bins.

    D are the device's examples, F is its mean Fisher score over a window of its earlier trainings,
    t the seconds that a training takes it at the width of `latency_ref`, and its transfers.
    With `last_size`, as in the public code, the size depends on the size before and can swing for
    ever; the other references do not depend on it.
    """

    levels: tuple[float, ...] = HALVINGS
    half_window: int = 2  # o: the mean is over 2 o + 1 scores
    delay: int = 5  # q: trainings between the middle of the window and the newest score
    reference_s: float = 20.0  # T_set
    beta: float = 1.0  # of the system's part; 0: no matter how fast the device is
    scale: float = 50.0  # A: a utility of A is worth the full size
    latency_ref: LatencyRef = "smallest_size"  # "smoothed": of the full size, over trainings
    scaled_link: bool = False  # transfers at the width of `latency_ref` instead of the full one
    fisher: FisherForm = "proxy"
    kind: Literal["whale"] = "whale"

    def __post_init__(self) -> None:
        check_levels("levels", self.levels, None)
        whole(OWNER, "half_window", self.half_window)
        whole(OWNER, "delay", self.delay, LONGEST_DELAY)
        positive(OWNER, "reference_s", self.reference_s)
        not_negative(OWNER, "beta", self.beta)
        positive(OWNER, "scale", self.scale)
        one_of(OWNER, "latency_ref", self.latency_ref, REFERENCES)
        one_of(OWNER, "fisher", self.fisher, FORMS)
        if self.half_window > self.delay:
            raise TaskError(
                f"{OWNER}.half_window is {self.half_window} and {OWNER}.delay is {self.delay}: the "
                "window would reach past the newest score; make the delay at least as large"
            )

    @property
    def watches_fisher(self) -> FisherForm:
        """Its own form of the score."""
        return self.fisher

    @property
    def span(self) -> int:
        """Scores from the oldest of the window to the newest: what is remembered."""
        return self.delay + self.half_window + 1

    def choose(self, facts: Facts, memory: Mapping[str, Any]) -> Size:
        """The leading channels of the level that the utility is worth, at most `keep`."""
        scores = self._scores(memory)
        utility = self.utility(
            facts.ability.capability.num_examples,
            self.windowed(scores),
            self.latency_s(facts, memory),
        )
        level = min(self.level_at(utility / self.scale), affordable(self.levels, facts, None)[0])
        return Size(part_of(level), why=f"{named(level)}: {costs(facts)}, {self._phase(scores)}")

    def learn(self, lesson: Lesson, facts: Facts, memory: Mapping[str, Any]) -> Mapping[str, Any]:
        """The newest scores, the last width and the smoothed latency. A bad score is left out."""
        scores = self._scores(memory)
        if 0.0 < lesson.fisher < math.inf:
            scores = [*scores, lesson.fisher][-self.span :]
        learned: dict[str, Any] = {"scores": scores, "keep": width_of(lesson.size.spec)}
        latency_s = self._smoothed_s(facts, memory)
        return learned if latency_s is None else learned | {"latency_s": latency_s}

    def windowed(self, scores: Sequence[float]) -> float | None:
        """The mean over the window, given the last `span` scores; None before they are there.

        Of rounds counted from 1, round r sees those from r - 1 - q - o to r - 1 - q + o.
        """
        if len(scores) < self.span:
            return None
        window = scores[-self.span :][: 2 * self.half_window + 1]
        return math.fsum(score / len(window) for score in window)  # their sum might overflow

    def utility(self, num_examples: int, windowed: float | None, latency_s: float | None) -> float:
        """U, infinite where that overflows. What was not measured yet changes nothing."""
        training = WARM_UP if windowed is None else math.sqrt(windowed)
        try:
            system = 1.0 if not latency_s else (self.reference_s / latency_s) ** self.beta
        except OverflowError:
            return math.inf
        return num_examples * training * system

    def level_at(self, worth: float) -> float:
        """The level of x = U / A: n levels share [0, 1) in n equal bins; NaN is worth nothing."""
        steps = len(self.levels)
        for at, level in enumerate(self.levels[:-1]):
            if worth >= (steps - 1 - at) / steps:
                return level
        return self.levels[-1]

    def latency_s(self, facts: Facts, memory: Mapping[str, Any]) -> float | None:
        """t, by what the device measured of itself and its link; None if that is nothing."""
        match self.latency_ref:
            case "smoothed":
                return self._smoothed_s(facts, memory)
            case "last_size":
                width = _number(memory.get("keep"), self.levels[-1])
            case "full_size":
                width = 1.0
            case "smallest_size":
                width = self.levels[-1]
        return self._latency_at(width, facts)

    def _latency_at(self, width: float, facts: Facts) -> float | None:
        training_s = facts.training_s(width)
        if training_s is None:
            return None
        return training_s + facts.transfer_s(width if self.scaled_link else 1.0)

    def _smoothed_s(self, facts: Facts, memory: Mapping[str, Any]) -> float | None:
        now_s = self._latency_at(1.0, facts)
        if now_s is None:
            return None
        before_s = _number(memory.get("latency_s"), now_s)
        return before_s + SMOOTHING * (now_s - before_s)

    def _scores(self, memory: Mapping[str, Any]) -> list[float]:
        """The remembered ones; none if the memory is another rule's or damaged."""
        match memory.get("scores"):
            case [*stored]:
                scores = [_number(score, math.nan) for score in stored[-self.span :]]
                return [] if any(map(math.isnan, scores)) else scores
        return []

    def _phase(self, scores: Sequence[float]) -> str:
        windowed = self.windowed(scores)
        if windowed is None:
            return f"warming up ({len(scores)} of {self.span} Fisher scores)"
        trend = "steady"
        if abs(scores[-1] - windowed) > TREND * windowed:
            trend = "rising" if scores[-1] > windowed else "falling"
        return f"Fisher {windowed:.1e} ({trend})"


def _number(value: object, otherwise: float) -> float:
    """A finite number above 0, else the other one."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0.0 < value < math.inf:
        return float(value)
    return otherwise
