"""Which output channels of each layer are present. Indices are derived, so a spec costs bytes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class ChannelRule(IntEnum):
    """How the kept channels of a layer follow from the ratio (wire values; never renumber)."""

    LEADING = 1  # the first ceil(keep * K) channels (HeteroFL, ordered dropout)
    RANDOM = 2  # a random subset of that size, drawn from `seed` (Federated Dropout)
    ROLLING = 3  # that many neighbours from channel `seed` mod K on, round the end (FedRolex)


@dataclass(frozen=True, slots=True)
class SubmodelSpec:
    """Part of a model. `keep[l]` in (0, 1] is the share of channels kept in droppable layer l."""

    keep: tuple[float, ...] = ()  # empty: the full model; one value: the same for each layer
    rule: ChannelRule = ChannelRule.LEADING
    seed: int = 0

    @property
    def is_full(self) -> bool:
        """Whether nothing is dropped."""
        return all(share >= 1.0 for share in self.keep)

    @property
    def text(self) -> str:
        """For people; one line of moderate length, however many layers there are."""
        if self.is_full:
            return "the whole model"
        shares = ", ".join(f"{share:g}" for share in self.keep[:8])
        more = ", ..." if len(self.keep) > 8 else ""
        seed = "" if self.rule is ChannelRule.LEADING else f" from seed {self.seed}"
        return f"{shares}{more} of the channels ({self.rule.name.lower()}{seed})"


FULL = SubmodelSpec()
