"""When each entry of the model was last moved, and how stale an update is there.

An update from version o that meets version t is tau = t - o stale as a whole. At one entry, its own
staleness is max(0, v - o), v being the version that last moved this entry: what other entries went
through in the meantime does not make it stale, and an entry that nobody has moved since o is as
fresh as on the day. An update moves the entries that it holds. Where all updates are of the whole
model, v = t, and both are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import fsum

import torch
from torch import Tensor

from hocket.core.ids import Version
from hocket.core.strategy import Memory
from hocket.core.update import Update
from hocket.learn.strategies.recalled import foreign, tensor

MOVED_AT = "moved_at"  # its tensor in storage
AlphaOf = Callable[[int], float]
"""From a staleness tau to the weight of a model so stale."""


@dataclass(frozen=True, slots=True)
class Weights:
    """How much of an update is mixed in at each entry."""

    alpha: float | Tensor  # (n, float32), or the one of all entries that the update holds
    mean_alpha: float  # over the entries that it holds
    mean_tau: float  # likewise


@dataclass(slots=True)
class Moves:
    """The version that last moved each entry: 4 bytes a value."""

    at: Tensor  # int32 (n), changed in place; 0: nobody has

    @classmethod
    def none_yet(cls, model: Tensor) -> Moves:
        """Of a model that nobody has moved."""
        return cls(torch.zeros(len(model), dtype=torch.int32))

    def weigh(self, update: Update[Tensor], alpha_of: AlphaOf) -> Weights:
        """The weight of each entry by its own staleness."""
        tau = (self.at - update.header.base_version).clamp_(min=0)
        counts = torch.bincount(tau if update.held is None else tau[update.held > 0]).tolist()
        alphas = [alpha_of(each) for each in range(1 + int(tau.max()))]
        held = {each: count for each, count in enumerate(counts) if count} or {0: 1}
        total = sum(held.values())
        mean_tau = sum(each * count for each, count in held.items()) / total
        if len(held) == 1:  # the very steps of a rule that takes the update's staleness
            (only,) = held
            return Weights(alphas[only], alphas[only], mean_tau)
        mean = fsum(alphas[each] * count for each, count in held.items()) / total
        return Weights(torch.tensor(alphas).index_select(0, tau), mean, mean_tau)

    def note(self, held: Tensor | None, version: Version) -> None:
        """`version` was made of an update that holds these entries; None: all of them."""
        if held is None:
            self.at.fill_(version)
        else:
            self.at.masked_fill_(held > 0, version)

    def keep(self) -> dict[str, Tensor]:
        """Fit for storage, copied."""
        return {MOVED_AT: self.at.clone()}

    @classmethod
    def recall(cls, kind: str, kept: Memory[Tensor], model: Tensor) -> Moves:
        """What `keep` kept, in memory of its own. Raises CorruptState."""
        if kept.facts.get("staleness_of") != "entry":
            raise foreign(kind, f"staleness_of is {kept.facts.get('staleness_of')!r}")
        at = tensor(kind, kept, MOVED_AT, tuple(model.shape), torch.int32).clone()
        if bool((at < 0).any()):
            raise foreign(kind, f"{MOVED_AT} holds versions below 0")
        return cls(at)
