"""Synchronous rounds: who may push for a version, and what has come, already summed.

McMahan, Moore, Ramage, Hampson, Arcas. Communication-Efficient Learning of Deep Networks from
Decentralized Data. AISTATS 2017. arXiv:1602.05629
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from hocket.core.ids import DeviceId, Version
from hocket.core.strategy import Global, Memory, Step
from hocket.core.update import Applied, Buffered, Dropped, DropReason, Update
from hocket.learn.sparse import accumulate
from hocket.learn.strategies import server as servers
from hocket.learn.strategies.holders import Holders, recalled_part
from hocket.learn.strategies.next_version import closed
from hocket.learn.strategies.parts import Parts
from hocket.learn.strategies.recalled import check_names, foreign, names, tensor, whole_number
from hocket.learn.strategies.server import AnyServer, Average, Moments

_PARTS, _SERVER = Parts(), Average()
_MOST_WEIGHT = 1 << 63


@dataclass(slots=True)
class Round:
    """What has come in this round, already summed, and what the server remembers of others."""

    total: Tensor  # float64: sum of weight * delta, the weight being the rule's
    weight: int = 0  # of all updates so far
    holders: Holders = field(default_factory=Holders)  # the same, of those that count at each entry
    counts: Holders | None = None  # how many count at each entry; None where nothing is damped
    devices: set[DeviceId] = field(default_factory=set)
    moments: Moments = field(default_factory=dict)  # of the server's optimizer, after the last


def begin(model: Tensor, parts: Parts = _PARTS, server: AnyServer = _SERVER) -> Round:
    """The first round, in which nothing has come yet."""
    total = torch.zeros_like(model, dtype=torch.float64)
    counts = Holders() if parts.damped else None
    return Round(total, counts=counts, moments=servers.begin(server, model))


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


def add(
    memory: Round,
    update: Update[Tensor],
    where: Tensor | None,
    weight: int,
    times: float | None = None,
) -> None:
    """Take the update into the round (in place), its delta `times` times, `weight` if left out.

    It counts `where` there is a 1, or everywhere (see `Parts.where`).
    """
    accumulate(memory.total, update.delta, weight if times is None else times)
    memory.weight += weight
    memory.devices.add(update.header.device_id)
    memory.holders.add(where, weight, memory.total)
    if memory.counts is not None:
        memory.counts.add(where, 1, memory.total)


def mean(memory: Round) -> Tensor:
    """The sum over the weights of those that count at each entry (n, float64); 0 if nobody does.

    Where the round is damped, times the share of its updates that count there.
    """
    by = memory.total / memory.holders.per_entry()
    if memory.counts is not None:
        by.mul_(memory.counts.per_entry() / len(memory.devices))
    return by


def ended(
    now: Global[Tensor], memory: Round, by: Tensor, server: AnyServer = _SERVER
) -> tuple[Global[Tensor], Round]:
    """The version that the round's difference `by` (n, float64, used up) makes; the next round."""
    after, moments = servers.advance(server, now, by, memory.holders, memory.moments)
    counts = None if memory.counts is None else Holders()
    return after, Round(torch.zeros_like(memory.total), counts=counts, moments=moments)


def fold(
    now: Global[Tensor],
    memory: Round,
    update: Update[Tensor],
    cohort: int,
    parts: Parts = _PARTS,
    server: AnyServer = _SERVER,
) -> Step[Tensor, Round]:
    """The whole step of a plain average: take the update in (in place); the cohort-th closes.

    Dropped as `refusal` says. A buffered update's weight is its share so far. Raises InvalidUpdate
    when `num_examples` is below 1.
    """
    refused = refusal(now, memory, update)
    if refused is not None:
        return Step(now, memory, refused)
    own = parts.weight(update)
    add(memory, update, parts.where(update), own)
    weight, fill = own / memory.weight, len(memory.devices)
    version = Version(now.version + 1)
    if fill < cohort:
        return Step(now, memory, Buffered(version, weight, 0, fill, cohort))
    return Step(*ended(now, memory, mean(memory), server), Applied(version, weight, 0))


def close(
    now: Global[Tensor], memory: Round, server: AnyServer = _SERVER
) -> Step[Tensor, Round] | None:
    """The average of what has come, as if the cohort had been so large; None if nothing has."""
    if not memory.devices:
        return None
    return closed(*ended(now, memory, mean(memory), server))


def keep(memory: Round) -> Memory[Tensor]:
    """The sums, copied, who is in them, and the moments; without devices there are no sums.

    The weights are stored as "examples", whatever they are.
    """
    facts = {"devices": sorted(memory.devices), "examples": memory.weight}
    tensors = {"total": memory.total.clone()} if memory.devices else {}
    tensors |= servers.keep(memory.moments)
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
    parts: Parts = _PARTS,
    server: AnyServer = _SERVER,
    *,
    facts: tuple[str, ...] = (),
    tensors: tuple[str, ...] = (),
) -> Round:
    """The round as it was. Raises CorruptState.

    `facts` and `tensors` name what the rule keeps besides, tensors where there are submodels.
    """
    known = names(kind, kept, "devices")
    if len(known) >= cohort:
        raise foreign(kind, f"{len(known)} devices are in a round of {cohort}")
    weight = whole_number(kind, kept, "examples", len(known), _MOST_WEIGHT)
    full = whole_number(kind, kept, "full_examples", 0, weight)
    expected = servers.stored_names(server) | ({"total"} if known else set())
    counted = {"full_counts"} if parts.damped else set()
    if full < weight:
        expected |= {"part_examples", *tensors, *(["part_counts"] if parts.damped else [])}
    every = ("devices", "examples", "full_examples", *counted, *facts)
    check_names(kind, kept, every, expected)
    counts = None
    if parts.damped:
        whole = whole_number(kind, kept, "full_counts", 0, len(known))
        counts = Holders(whole, recalled_part(kind, kept, "counts", model))
    moments = servers.recall(kind, kept, server, model)
    if not known:
        return replace(begin(model, parts), moments=moments)
    total = tensor(kind, kept, "total", tuple(model.shape), torch.float64).clone()
    holders = Holders(full, recalled_part(kind, kept, "examples", model))
    return Round(total, weight, holders, counts, set(map(DeviceId, known)), moments)
