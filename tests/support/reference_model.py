"""The promises of an aggregator in a hundred lines: everything follows from the durable answers.

It shares no code with `hocket.core`: whatever it is told, it works out again from its own list.
"""

from __future__ import annotations

from dataclasses import dataclass

from hocket.core.update import Applied, Buffered, Dropped, DropReason, Outcome, UpdateHeader


class BrokenPromise(AssertionError):
    """An invariant of design.md section 7 does not hold."""


def promise(kept: bool, text: str) -> None:
    """Raise BrokenPromise unless `kept`."""
    if not kept:
        raise BrokenPromise(text)


@dataclass(frozen=True, slots=True)
class Line:
    """One durable answer."""

    header: UpdateHeader
    delta: float
    outcome: Outcome


class ReferenceModel:
    """Told each answer once it is durable, in order; says what must be so from there on."""

    def __init__(self, kind: str, goal: int, staleness_limit: int, remembered: int) -> None:
        self.kind, self.goal, self.limit = kind, goal, staleness_limit
        self.remembered = remembered  # answers that no later ones push out
        self.lines: list[Line] = []
        self.answers: dict[str, Line] = {}
        self.models = [0.0]  # of version 1, 2, ...
        self.made_of: list[tuple[str, ...]] = [()]  # update ids of version 1, 2, ...
        self.slot_mean = 0.0
        self.finished = False
        self._begun_at = 0  # how many answers came before the newest version

    @property
    def newest(self) -> int:
        """Number of the newest version."""
        return len(self.models)

    @property
    def pending(self) -> list[Line]:
        """Accepted since the newest version was made."""
        since = self.lines[self._begun_at :]
        return [line for line in since if isinstance(line.outcome, Buffered)]

    def answered(self, header: UpdateHeader, delta: float, outcome: Outcome) -> None:
        """An answer has become durable."""
        if header.update_id in self.answers:
            # Asked again after the answer was forgotten: never taken, and only then.
            forgotten = self.answers[header.update_id] not in self.lines[-self.remembered :]
            once = forgotten and isinstance(outcome, Dropped)
            promise(once, f"{header.update_id} was settled twice: {outcome}")
        expected = self._expected(header)
        same = outcome == expected
        if isinstance(outcome, Dropped) and isinstance(expected, Dropped):  # whatever it is told
            same = (outcome.reason, outcome.tau) == (expected.reason, expected.tau)
        promise(same, f"{header.update_id} came to {outcome}, it should be {expected}")
        line = Line(header, delta, outcome)
        group = [*self.pending, line]
        if isinstance(outcome, Applied):
            self._make(group, outcome.weight)
            self._begun_at = len(self.lines) + 1
        if header.refresh is not None and not isinstance(outcome, Dropped):
            reward = header.refresh.reward + header.refresh.slot
            self.slot_mean = 0.75 * self.slot_mean + 0.25 * reward
        self.lines.append(line)
        self.answers[header.update_id] = line

    def closed(self, version: int) -> None:
        """A deadline made a version of what had come."""
        promise(not self.finished, f"version {version} was made after the end")
        promise(version == self.newest + 1, f"version {version} follows {self.newest}")
        promise(bool(self.pending), f"version {version} was made of nothing")
        self._make(self.pending, 0.0)
        self._begun_at = len(self.lines)

    def needed(self, oldest: int) -> list[Line]:
        """Answers to updates that would still be taken if they were forgotten."""
        return [line for line in self.lines if line.header.base_version >= oldest]

    def _expected(self, header: UpdateHeader) -> Outcome:
        tau = self.newest - header.base_version
        if self.finished:
            return Dropped(DropReason.TASK_FINISHED, "", max(0, tau))
        promise(tau >= 0, f"{header.update_id} has a base that does not exist yet")
        if tau > self.limit:
            return Dropped(DropReason.TOO_STALE, "", tau)
        if self.kind == "rounds" and tau > 0:
            return Dropped(DropReason.ROUND_OVER, "", tau)
        version, fill = self.newest + 1, len(self.pending) + 1
        weight = self._weight(header, tau)
        if fill < self.goal:
            return Buffered(version, weight, tau, fill, self.goal)  # type: ignore[arg-type] # a plain int on purpose
        return Applied(version, weight, tau)  # type: ignore[arg-type] # a plain int on purpose

    def _weight(self, header: UpdateHeader, tau: int) -> float:
        match self.kind:
            case "mixing":
                return 0.5 / (1 + tau)
            case "controlled":
                mine = [x for x in self.lines if x.header.device_id == header.device_id]
                return 1 / (2 + sum(not isinstance(x.outcome, Dropped) for x in mine))
        return self._discount(tau) / self.goal

    def _make(self, group: list[Line], weight: float) -> None:
        model = self._next_model(group, weight)
        self.made_of.append(tuple(line.header.update_id for line in group))
        self.models.append(model)

    def _next_model(self, group: list[Line], weight: float) -> float:
        newest = self.models[-1]
        if self.goal == 1 and self.kind in {"mixing", "controlled"}:
            trained = self.models[group[0].header.base_version - 1] + group[0].delta
            return (1 - weight) * newest + weight * trained
        total = 0.0
        for line in group:
            total += self._discount(self.newest - line.header.base_version) * line.delta
        return newest + total / len(group)

    def _discount(self, tau: int) -> float:
        discount: float = (1 + tau) ** -0.5
        return discount
