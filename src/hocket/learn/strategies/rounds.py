"""Synchronous rounds: who may push for a version, and what has come, already summed.

McMahan, Moore, Ramage, Hampson, Arcas. Communication-Efficient Learning of Deep Networks from
Decentralized Data. AISTATS 2017. arXiv:1602.05629
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from hocket.core.ids import DeviceId, Version
from hocket.core.strategy import Global, Memory, Step
from hocket.core.update import Applied, Buffered, Dropped, DropReason, Update
from hocket.errors import InvalidUpdate
from hocket.learn.sparse import accumulate
from hocket.learn.strategies.holders import Holders, recalled_part
from hocket.learn.strategies.next_version import closed, moved
from hocket.learn.strategies.recalled import check_names, foreign, names, tensor, whole_number

_MOST_EXAMPLES = 1 << 63


@dataclass(slots=True)
class Round:
    """What has come in this round, already summed."""

    total: Tensor  # float64: sum of weight * delta, the weight being the rule's
    examples: int = 0  # of all updates so far
    holders: Holders = field(default_factory=Holders)  # their examples, at each entry
    devices: set[DeviceId] = field(default_factory=set)


def begin(model: Tensor) -> Round:
    """A round in which nothing has come yet."""
    return Round(torch.zeros_like(model, dtype=torch.float64))


def refusal(now: Global[Tensor], memory: Round, update: Update[Tensor]) -> Dropped | None:
    """ROUND_OVER for an update from another base than the current version, or a device's second."""
    header = update.header
    message = None
    if header.base_version != now.version:
        message = (
            f"the round of version {header.base_version} is over; "
            f"pull version {now.version} and train anew"
        )
    elif header.device_id in memory.devices:
        message = (
            f"{header.device_id} has already pushed for version {now.version}; "
            "wait for the next version"
        )
    if message is None:
        return None
    return Dropped(DropReason.ROUND_OVER, message, now.version - header.base_version)


def examples_of(update: Update[Tensor]) -> int:
    """The update's weight in an average. Raises InvalidUpdate when it is below 1."""
    examples = update.header.num_examples
    if examples < 1:
        raise InvalidUpdate(f"num_examples is {examples}; an average needs >= 1")
    return examples


def add(memory: Round, update: Update[Tensor], weight: float) -> None:
    """Take the update into the round (in place), its delta `weight` times."""
    examples = update.header.num_examples
    accumulate(memory.total, update.delta, weight)
    memory.examples += examples
    memory.devices.add(update.header.device_id)
    memory.holders.add(update.held, examples, memory.total)


def mean(memory: Round) -> Tensor:
    """The sum over the examples of each entry's holders (n, float64); no holder, no change."""
    return memory.total / memory.holders.per_entry()


def fold(
    now: Global[Tensor], memory: Round, update: Update[Tensor], cohort: int
) -> Step[Tensor, Round]:
    """The whole step of a plain average: take the update in (in place); the cohort-th closes.

    Dropped as `refusal` says. A buffered update's weight is its share so far. Raises InvalidUpdate
    when `num_examples` is below 1.
    """
    refused = refusal(now, memory, update)
    if refused is not None:
        return Step(now, memory, refused)
    examples = examples_of(update)
    add(memory, update, examples)
    weight, fill = examples / memory.examples, len(memory.devices)
    version = Version(now.version + 1)
    if fill < cohort:
        return Step(now, memory, Buffered(version, weight, 0, fill, cohort))
    return Step(moved(now, mean(memory)), begin(now.model), Applied(version, weight, 0))


def close(now: Global[Tensor], memory: Round) -> Step[Tensor, Round] | None:
    """The average of what has come, as if the cohort had been so large; None if nothing has."""
    if not memory.devices:
        return None
    return closed(moved(now, mean(memory)), begin(now.model))


def keep(memory: Round) -> Memory[Tensor]:
    """The sums, copied, and who is in them; a round in which nothing has come has no sums."""
    holders = memory.holders.keep("examples")
    facts = {"devices": sorted(memory.devices), "examples": memory.examples, **holders.facts}
    total = {"total": memory.total.clone()} if memory.devices else {}
    return Memory(facts, {**total, **holders.tensors})


def recall(
    kind: str,
    kept: Memory[Tensor],
    model: Tensor,
    cohort: int,
    *,
    facts: tuple[str, ...] = (),
    parts: tuple[str, ...] = (),
) -> Round:
    """The round as it was. Raises CorruptState.

    `facts` and `parts` name what the rule keeps besides, parts where there are submodels.
    """
    known = names(kind, kept, "devices")
    if len(known) >= cohort:
        raise foreign(kind, f"{len(known)} devices are in a round of {cohort}")
    examples = whole_number(kind, kept, "examples", len(known), _MOST_EXAMPLES)
    full = whole_number(kind, kept, "full_examples", 0, examples)
    expected = {"total"} if known else set()
    if full < examples:
        expected |= {"part_examples", *parts}
    check_names(kind, kept, ("devices", "examples", "full_examples", *facts), expected)
    if not known:
        return begin(model)
    total = tensor(kind, kept, "total", tuple(model.shape), torch.float64).clone()
    holders = Holders(full, recalled_part(kind, kept, "examples", model))
    return Round(total, examples, holders, set(map(DeviceId, known)))
