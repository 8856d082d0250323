"""CA2FL: a buffer whose step is calibrated by the last update of every device.

Wang, Cao, Wu, Chen, Chen. Tackling the Data Heterogeneity in Asynchronous Federated Learning with
Cached Update Calibration. ICLR 2024.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from hocket.core.ids import DeviceId, Version
from hocket.core.ranges import at_least_one, positive
from hocket.core.strategy import Global, Memory, Step
from hocket.core.update import Applied, Buffered, Update
from hocket.learn.pool import POOL
from hocket.learn.sparse import accumulate, dense
from hocket.learn.strategies import buffers
from hocket.learn.strategies.buffers import Buffer
from hocket.learn.strategies.next_version import closed, moved
from hocket.learn.strategies.recalled import names, tensor

_CACHED, _PENDING = "cached/", "pending/"

Deltas = dict[DeviceId, Tensor]  # (n, float32) each, never changed in place


@dataclass(slots=True)
class Cache:
    """The last update of every device, and the buffer."""

    buffer: Buffer  # sum of delta_i - h_i
    total: Tensor  # float64: sum of all h_i
    cached: Deltas = field(default_factory=dict)  # h_i, as of the newest version
    pending: Deltas = field(default_factory=dict)  # h_i from the next version on

    def known(self) -> int:
        """Devices that have pushed so far."""
        return len(self.cached.keys() | self.pending.keys())

    def renew(self) -> None:
        """What is in the buffer replaces what was cached of those devices."""
        for device_id, delta in self.pending.items():
            before = self.cached.get(device_id)
            self.total.add_(delta)
            if before is not None:
                self.total.sub_(before)
            self.cached[device_id] = delta
        self.pending.clear()


@dataclass(frozen=True, slots=True)
class Ca2fl:
    """x <- x + server_lr v, v = h + 1/K * sum of (delta_i - h_i), once K updates have come.

    h_i is the last update of device i, 0 before its first, as it was when the buffer was empty; h
    is the mean of h_i over all n devices. Then h_i <- delta_i for those in the buffer. If a device
    is in it twice, both count in the sum, and the later one is cached. Staleness discounts nothing.

    A model-sized vector is kept of each device: n * 4 bytes a value. Updates of submodels are
    refused.
    """

    goal: int = 10  # K: updates per version
    devices: int = 100  # n, the size of the fleet; if more have pushed, n is their number
    server_lr: float = 1.0
    kind: Literal["ca2fl"] = "ca2fl"
    waits_for: ClassVar[str] = "goal"

    def __post_init__(self) -> None:
        at_least_one(self.kind, "goal", self.goal)
        at_least_one(self.kind, "devices", self.devices)
        positive(self.kind, "server_lr", self.server_lr)

    def init(self, model: Tensor) -> Cache:
        """An empty buffer, and no device known."""
        return Cache(buffers.empty(model), torch.zeros_like(model, dtype=torch.float64))

    def step(
        self,
        now: Global[Tensor],
        memory: Cache,
        update: Update[Tensor],
        base: Tensor,  # noqa: ARG002 - the protocol's; only mixing rules need the base
    ) -> Step[Tensor, Cache]:
        """Add the update to the buffer (in place); the K-th turns the buffer into a version.

        Raises InvalidUpdate for an update of a submodel.
        """
        buffers.check_whole(self.kind, update)
        header, buffer = update.header, memory.buffer
        tau = now.version - header.base_version
        accumulate(buffer.total, update.delta, 1.0)
        before = memory.cached.get(header.device_id)
        if before is not None:
            accumulate(buffer.total, before, -1.0)
        memory.pending[header.device_id] = _own(update.delta)
        buffer.fill += 1
        version, weight = Version(now.version + 1), self.server_lr / self.goal
        if buffer.fill < self.goal:
            outcome = Buffered(version, weight, tau, buffer.fill, self.goal)
            return Step(now, memory, outcome)
        return Step(self._after(now, memory), memory, Applied(version, weight, tau))

    def close(self, now: Global[Tensor], memory: Cache) -> Step[Tensor, Cache] | None:
        """The version of those that have come, as with a goal of so many: K is their number."""
        return closed(self._after(now, memory), memory) if memory.buffer.fill else None

    def mean(self, memory: Cache) -> Tensor:
        """h, the mean of what is cached over all devices (n, float64)."""
        return memory.total / max(self.devices, memory.known())

    def _after(self, now: Global[Tensor], memory: Cache) -> Global[Tensor]:
        calibrated = memory.buffer.total.div_(memory.buffer.fill).add_(self.mean(memory))
        after = moved(now, calibrated.mul_(self.server_lr))
        memory.renew()
        buffers.clear(memory.buffer)
        return after

    def keep(self, memory: Cache) -> Memory[Tensor]:
        """The sums, copied, and the deltas as they are."""
        kept = buffers.keep(memory.buffer)
        devices, pending = list(memory.cached), list(memory.pending)
        facts = {"kind": self.kind, **kept.facts, "devices": devices, "pending": pending}
        sums = {"sum": memory.total.clone()} if devices else {}
        cached = {f"{_CACHED}{name}": delta for name, delta in memory.cached.items()}
        fresh = {f"{_PENDING}{name}": delta for name, delta in memory.pending.items()}
        return Memory(facts, {**kept.tensors, **sums, **cached, **fresh})

    def recall(self, kept: Memory[Tensor], model: Tensor) -> Cache:
        """Buffer and cache as they were. Raises CorruptState."""
        devices = names(self.kind, kept, "devices")
        pending = names(self.kind, kept, "pending")
        cached_names = [f"{_CACHED}{name}" for name in devices]
        pending_names = [f"{_PENDING}{name}" for name in pending]
        expected = [*(["sum"] if devices else []), *cached_names, *pending_names]
        buffer = buffers.recall(
            self.kind, kept, model, self.goal, facts=("devices", "pending"), tensors=expected
        )
        memory = self.init(model)
        memory.buffer = buffer
        shape = tuple(model.shape)
        if devices:
            memory.total.copy_(tensor(self.kind, kept, "sum", shape, torch.float64))
        for known, deltas, prefix in (
            (devices, memory.cached, _CACHED),
            (pending, memory.pending, _PENDING),
        ):
            for name in known:
                delta = tensor(self.kind, kept, f"{prefix}{name}", shape, torch.float32)
                deltas[DeviceId(name)] = delta
        return memory


def _own(delta: Tensor) -> Tensor:
    """The delta with its zeros, in memory that no received body shares."""
    return dense(delta) if delta.is_sparse else POOL.take(len(delta)).copy_(delta)
