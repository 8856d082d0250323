"""A buffer of updates: K of them make one version.

Nguyen, Malik, Zhan, Yousefpour, Rabbat, Malek, Huba. Federated Learning with Buffered
Asynchronous Aggregation. AISTATS 2022. arXiv:2106.06639
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from hocket.core.strategy import Memory
from hocket.core.update import Update
from hocket.errors import InvalidUpdate
from hocket.learn.strategies.recalled import check_names, tensor, whole_number


@dataclass(slots=True)
class Buffer:
    """The updates since the last version, already summed: one vector, whatever the goal."""

    total: Tensor  # float64, so that the order of arrival moves the model by one ulp at most
    fill: int = 0


def empty(model: Tensor) -> Buffer:
    """A buffer for deltas of that model."""
    return Buffer(torch.zeros_like(model, dtype=torch.float64))


def clear(buffer: Buffer) -> None:
    """Empty it in place."""
    buffer.total.zero_()
    buffer.fill = 0


def check_whole(kind: str, update: Update[Tensor]) -> None:
    """Raise InvalidUpdate for an update of a submodel, for rules that give it no meaning."""
    if update.held is not None:
        raise InvalidUpdate(
            f"the update is of a submodel, and {kind} takes updates of the whole model only; "
            "let the device keep all of it (keep = 1), or take another strategy"
        )


def keep(buffer: Buffer) -> Memory[Tensor]:
    """The sum, copied, and how many updates are in it; an empty buffer has no sum."""
    tensors = {"total": buffer.total.clone()} if buffer.fill else {}
    return Memory({"fill": buffer.fill}, tensors)


def recall(
    kind: str,
    kept: Memory[Tensor],
    model: Tensor,
    goal: int,
    *,
    facts: Iterable[str] = (),
    tensors: Iterable[str] = (),
) -> Buffer:
    """The buffer as it was; `facts` and `tensors` name what the rule keeps besides.

    Raises CorruptState.
    """
    buffer = empty(model)
    filled = bool(kept.facts.get("fill"))
    check_names(kind, kept, ("fill", *facts), {"total", *tensors} if filled else set(tensors))
    if filled:
        buffer.fill = whole_number(kind, kept, "fill", 1, goal - 1)
        buffer.total.copy_(tensor(kind, kept, "total", tuple(model.shape), torch.float64))
    else:
        whole_number(kind, kept, "fill", 0, 0)
    return buffer
