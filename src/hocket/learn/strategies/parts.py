"""How updates of parts of the model are averaged, entry by entry.

Diao, Ding, Tarokh. HeteroFL. ICLR 2021. arXiv:2010.01264. Damping of whole layers: Pfeiffer, Rapp,
Khalili, Henkel. CoCoFL. TMLR 2023. arXiv:2203.05468; per entry it is our extension. Weights by
width: Alam, Liu, Yan, Zhang. FedRolex. NeurIPS 2022. arXiv:2212.01548, an option of its code. Over
the updates that moved an entry: Wu, Wang, Wang, Liu, Su, Gao. FIARSE. NeurIPS 2024.
arXiv:2407.19389, as in its code.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import fsum
from typing import Literal

from torch import Tensor

from hocket.core.ranges import one_of
from hocket.core.submodel import SubmodelSpec
from hocket.core.update import Update
from hocket.errors import InvalidUpdate
from hocket.learn.sparse import nonzero

_WHOLE = 1 << 30  # the weight of full width: whole numbers add up exactly, in whatever order


@dataclass(frozen=True, slots=True)
class Parts:
    """An entry x becomes x + sum of w_i delta_i / sum of w_i, over the updates that count there.

    All of it is in differences from the round's model, so an entry at which none counts stays.
    """

    weights: Literal["examples", "equal", "width"] = "examples"
    """w_i: the device's examples (FjORD), 1 (HeteroFL, FedRolex), or its share of channels."""
    damped: bool = False
    """Move an entry by rho times that, rho = updates that count there / updates of the round."""
    mean: Literal["held", "moved"] = "held"
    """An update counts at the entries that it holds, or only at those where it is not 0."""

    def __post_init__(self) -> None:
        one_of("parts", "mean", self.mean, ("held", "moved"))
        one_of("parts", "weights", self.weights, ("examples", "equal", "width"))

    def weight(self, update: Update[Tensor]) -> int:
        """w_i but for a factor, at least 1. Raises InvalidUpdate when `num_examples` is below 1."""
        examples = examples_of(update)
        if self.weights == "examples":
            return examples
        return 1 if self.weights == "equal" else width_of(update.header.spec)

    def where(self, update: Update[Tensor]) -> Tensor | None:
        """The entries at which the update counts: 1 or 0 (n, maybe sparse); None: at all."""
        return update.held if self.mean == "held" else nonzero(update.delta)


def examples_of(update: Update[Tensor]) -> int:
    """The update's weight in an average by examples. Raises InvalidUpdate when it is below 1."""
    examples = update.header.num_examples
    if examples < 1:
        raise InvalidUpdate(f"num_examples is {examples}; an average needs >= 1")
    return examples


def width_of(spec: SubmodelSpec) -> int:
    """The mean of its shares of channels, as so many of 2^30; at least 1."""
    width = fsum(spec.keep) / len(spec.keep) if spec.keep else 1.0
    return max(1, round(width * _WHOLE))
