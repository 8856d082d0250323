"""What a search came to: the front's rows, and the uniform vectors beside them at equal cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from hocket.cli.dropout.jobs import Row
from hocket.cli.dropout.settings import Measure, Settings
from hocket.sim.study.results import LEVEL, Verdict, verdict_of

Sizes = tuple[int, ...]
"""Channels that are kept of each group."""

NOISE = 0.05  # of a step's seconds: what differs less is as fast


@dataclass(frozen=True, slots=True)
class Candidate:
    """A vector that may become a row, or is compared with one."""

    sizes: Sizes
    vector: tuple[float, ...]
    cost: float  # M
    filtered: Row  # its trials when the front was filtered
    proved: Row | None = None  # and, of seeds and examples that chose nothing, when compared
    seconds: float | None = None  # of a step on this machine; None: not measured

    def score(self, measure: Measure) -> float:
        """C, by which it was chosen."""
        return self.filtered.score(measure)

    def proof(self, measure: Measure) -> tuple[float, ...]:
        """C by seed, on what chose nothing; empty if it was not compared."""
        return () if self.proved is None else self.proved.by_seed(measure)


@dataclass(frozen=True, slots=True)
class Beside:
    """A uniform vector, and the row that a device chooses which affords just that."""

    rate: float  # the share dropped of every group
    uniform: Candidate
    row: Candidate
    measure: Measure

    @property
    def same(self) -> bool:
        """Whether the row is this very vector."""
        return self.row.sizes == self.uniform.sizes

    @property
    def differences(self) -> tuple[float, ...]:
        """By how much the row scores higher, by seed: the two saw the same mini-batches."""
        pairs = zip(self.row.proof(self.measure), self.uniform.proof(self.measure), strict=True)
        return tuple(mine - theirs for mine, theirs in pairs)

    @property
    def ahead(self) -> float:
        """The mean of them."""
        return fmean(self.differences)

    @property
    def verdict(self) -> Verdict | None:
        """Of the row, by Student's paired t-test; None: one seed tells nothing."""
        return "ties" if self.same else verdict_of(self.differences)


@dataclass(frozen=True, slots=True)
class Findings:
    """A search that is over."""

    settings: Settings
    front: tuple[Candidate, ...]  # the table's rows, the cheapest first
    uniform: Mapping[float, Candidate]  # by the share dropped of every group
    tried: int  # vectors while searching, each once

    @property
    def besides(self) -> tuple[Beside, ...]:
        """Every uniform vector beside the table, the cheapest first."""
        return tuple(
            Beside(rate, uniform, affordable(self.front, uniform.cost), self.settings.score)
            for rate, uniform in sorted(self.uniform.items(), reverse=True)
        )

    @property
    def outpaced(self) -> tuple[Candidate, ...]:
        """Rows that take as long as a dearer one, which scores higher, or longer; if measured.

        They stay in the table: devices, which may be other machines, go by the counted cost.
        """
        return tuple(
            row
            for at, row in enumerate(self.front)
            if any(
                row.seconds and better.seconds and better.seconds <= (1.0 + NOISE) * row.seconds
                for better in self.front[at + 1 :]
            )
        )

    @property
    def statements(self) -> Iterator[str]:
        """How the table compares, in plain sentences."""
        yield from self._compared
        if outpaced := self.outpaced:
            costs = ", ".join(f"{row.cost:.4f}" for row in outpaced)
            yield (
                f"On this machine {len(outpaced)} of {len(self.front)} rows (cost {costs}) take no "
                f"less time, within {NOISE:.0%}, than a row that scores higher; devices go by the "
                "counted cost, so they stay in the table."
            )

    @property
    def _compared(self) -> Iterator[str]:
        verdicts = [one.verdict for one in self.besides]
        count = len(verdicts)
        seeds = self.settings.final_seeds
        if any(verdict is None for verdict in verdicts):
            yield "With one final seed it cannot be told whether a difference is more than chance."
            return
        lost = [f"{one.rate:.2f}" for one in self.besides if one.verdict == "loses"]
        won, tied = verdicts.count("wins"), verdicts.count("ties")
        if lost:
            yield (
                f"At equal cost the table loses to {len(lost)} of {count} uniform vectors "
                f"({', '.join(lost)}), beats {won} and ties with {tied}."
            )
        else:
            yield (
                f"At equal cost the table beats or equals every uniform vector: {won} wins and "
                f"{tied} ties of {count}."
            )
        tested = sum(not one.same for one in self.besides)
        yield (
            f"Judged by {seeds} seeds and examples that chose nothing; what Student's paired "
            f"t-test cannot tell from no difference at the {LEVEL:.0%} level is a tie. If nothing "
            f"differed, {tested * LEVEL / 2:.2f} losses would be expected by chance."
        )


def affordable(front: Sequence[Candidate], resource: float) -> Candidate:
    """What a device that has so much takes: the dearest row within it, or the cheapest of all."""
    fitting = [row for row in front if row.cost <= resource]
    return fitting[-1] if fitting else front[0]
