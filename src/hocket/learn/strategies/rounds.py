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
from hocket.learn.sparse import accumulate
from hocket.learn.strategies.holders import Holders, recalled_part
from hocket.learn.strategies.next_version import closed, moved
from hocket.learn.strategies.parts import Parts
from hocket.learn.strategies.recalled import check_names, foreign, names, tensor, whole_number

_MOST_WEIGHT = 1 << 63


@dataclass(slots=True)
class Round:
    """What has come in this round, already summed."""

    total: Tensor  # float64: sum of weight * delta, the weight being the rule's
    weight: int = 0  # of all updates so far
    holders: Holders = field(default_factory=Holders)  # the same, at each entry
    counts: Holders | None = None  # how many updates hold each entry; None where nothing is damped
    devices: set[DeviceId] = field(default_factory=set)


def begin(model: Tensor, *, damped: bool = False) -> Round:
    """A round in which nothing has come yet."""
    total = torch.zeros_like(model, dtype=torch.float64)
    return Round(total, counts=Holders() if damped else None)


def begin_next(model: Tensor, memory: Round) -> Round:
    """The round after this one."""
    return begin(model, damped=memory.counts is not None)


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


def add(memory: Round, update: Update[Tensor], weight: int, times: float | None = None) -> None:
    """Take the update into the round (in place), its delta `times` times, `weight` if left out."""
    accumulate(memory.total, update.delta, weight if times is None else times)
    memory.weight += weight
    memory.devices.add(update.header.device_id)
    memory.holders.add(update.held, weight, memory.total)
    if memory.counts is not None:
        memory.counts.add(update.held, 1, memory.total)


def mean(memory: Round) -> Tensor:
    """The sum over the weights of each entry's holders (n, float64); no holder, no change.

    Where the round is damped, times the share of its updates that hold the entry.
    """
    by = memory.total / memory.holders.per_entry()
    if memory.counts is not None:
        by.mul_(memory.counts.per_entry() / len(memory.devices))
    return by


def fold(
    now: Global[Tensor], memory: Round, update: Update[Tensor], cohort: int, parts: Parts
) -> Step[Tensor, Round]:
    """The whole step of a plain average: take the update in (in place); the cohort-th closes.

    Dropped as `refusal` says. A buffered update's weight is its share so far. Raises InvalidUpdate
    when `num_examples` is below 1.
    """
    refused = refusal(now, memory, update)
    if refused is not None:
        return Step(now, memory, refused)
    own = parts.weight(update)
    add(memory, update, own)
    weight, fill = own / memory.weight, len(memory.devices)
    version = Version(now.version + 1)
    if fill < cohort:
        return Step(now, memory, Buffered(version, weight, 0, fill, cohort))
    after = moved(now, mean(memory))
    return Step(after, begin_next(now.model, memory), Applied(version, weight, 0))


def close(now: Global[Tensor], memory: Round) -> Step[Tensor, Round] | None:
    """The average of what has come, as if the cohort had been so large; None if nothing has."""
    if not memory.devices:
        return None
    return closed(moved(now, mean(memory)), begin_next(now.model, memory))


def keep(memory: Round) -> Memory[Tensor]:
    """The sums, copied, and who is in them; a round in which nothing has come has no sums.

    The weights are stored as "examples", whatever they are.
    """
    facts = {"devices": sorted(memory.devices), "examples": memory.weight}
    tensors = {"total": memory.total.clone()} if memory.devices else {}
    sums = [memory.holders.keep("examples")]
    if memory.counts is not None:
        sums.append(memory.counts.keep("counts"))
    for each in sums:
        facts |= each.facts
        tensors |= each.tensors
    return Memory(facts, tensors)


def recall(
    kind: str,
    kept: Memory[Tensor],
    model: Tensor,
    cohort: int,
    parts: Parts | None = None,
    *,
    facts: tuple[str, ...] = (),
    tensors: tuple[str, ...] = (),
) -> Round:
    """The round as it was. Raises CorruptState.

    `facts` and `tensors` name what the rule keeps besides, tensors where there are submodels.
    """
    parts = parts or Parts()
    known = names(kind, kept, "devices")
    if len(known) >= cohort:
        raise foreign(kind, f"{len(known)} devices are in a round of {cohort}")
    weight = whole_number(kind, kept, "examples", len(known), _MOST_WEIGHT)
    full = whole_number(kind, kept, "full_examples", 0, weight)
    expected = {"total"} if known else set()
    counted = {"full_counts"} if parts.damped else set()
    if full < weight:
        expected |= {"part_examples", *tensors, *(["part_counts"] if parts.damped else [])}
    every = ("devices", "examples", "full_examples", *counted, *facts)
    check_names(kind, kept, every, expected)
    counts = None
    if parts.damped:
        whole = whole_number(kind, kept, "full_counts", 0, len(known))
        counts = Holders(whole, recalled_part(kind, kept, "counts", model))
    if not known:
        return begin(model, damped=parts.damped)
    total = tensor(kind, kept, "total", tuple(model.shape), torch.float64).clone()
    holders = Holders(full, recalled_part(kind, kept, "examples", model))
    return Round(total, weight, holders, counts, set(map(DeviceId, known)))
