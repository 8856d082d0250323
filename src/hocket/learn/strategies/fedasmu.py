"""FedASMU: mix each model in on arrival with a weight whose controls are learned per device.

Liu, Che, Zhou, Jin, Dai, Dou, Valduriez. FedASMU: Efficient Asynchronous Federated Learning with
Dynamic Staleness-Aware Model Update. AAAI 2024. Equations 1 to 3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from hocket.core.ids import DeviceId, Version
from hocket.core.ranges import at_least_one, not_negative, one_of, positive
from hocket.core.strategy import Global, Memory, Step
from hocket.core.update import Applied, Dropped, DropReason, Update
from hocket.errors import TaskError
from hocket.learn.sparse import dense, inner_of
from hocket.learn.strategies.controls import Controls, alpha, gradients, learned, xi
from hocket.learn.strategies.displacement import Displacement, vector_of
from hocket.learn.strategies.mixing import make_ready, mix_and_measure, square_of
from hocket.learn.strategies.moves import MOVED_AT, Moves, Weights
from hocket.learn.strategies.recalled import check_names, foreign, names, tensor
from hocket.learn.strategies.sketch import sketch, sketch_length

_NUMBERS = 7  # of a device: lambda, sigma, iota, <D, D>, t, s, produced
_MOVED = "moved/"
IN_PARTS = 16
"""Contributions that may wait to be written down: each may hold two models, and has a snapshot
wait for 10 ms where they are of 44 MB."""


@dataclass(frozen=True, slots=True)
class Contribution:
    """A device's last accepted upload: what its controls are judged by when it comes back."""

    moved: Tensor | Displacement
    """D: its trained model minus the global model it met, 0 where it held nothing; what it is made
    of; or a sketch."""
    moved_square: float  # <D, D>
    t: int  # the version it met
    s: int  # its staleness there; of entries, the mean of theirs, rounded
    produced: Version  # the version it made

    def slope(self, update: Update[Tensor], progress: Tensor, *, normalise: bool) -> float:
        """dF/dalpha as the device's new progress tells it, <g_hat, D>.

        `progress` is the update's delta, or its sketch where `moved` is one.

        g_hat = (w_o - w_i) / (eta L) = -delta / (eta L) estimates the gradient, so a delta that
        goes on in the direction of D gives a negative slope: a larger alpha would have been
        better. (A public replication drops this minus sign and so ascends.) Normalised it is
        minus the cosine between delta and D.
        """
        known = self.moved
        if isinstance(known, Displacement):
            product = known.inner(progress)
        else:
            product = inner_of(progress, known)
        if normalise:
            scale = math.sqrt(square_of(update)) * math.sqrt(self.moved_square)
            cosine = product / scale if scale > 0 else 0.0
            return -max(min(cosine, 1.0), -1.0)  # a sketch may overshoot; NaN stays NaN
        scale = update.header.learning_rate * update.header.num_steps
        return -product / scale if scale > 0 else 0.0


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """What the server remembers of one device."""

    controls: Controls
    last: Contribution


@dataclass(slots=True)
class Fleet:
    """What the server remembers of all devices, and of the model's entries where that counts."""

    devices: dict[DeviceId, DeviceMemory] = field(default_factory=dict)
    in_parts: set[DeviceId] = field(default_factory=set)  # whose contributions wait
    moves: Moves | None = None


@dataclass(frozen=True, slots=True)
class FedASMU:
    """w <- (1 - alpha) w + alpha w_i, alpha = mu xi / (1 + mu xi), one version per update.

    xi = lambda_i / (sqrt(t) s^sigma_i) + iota_i with s = t - o + 1. The defaults of lambda0,
    sigma0, iota0 and mu_alpha are those of public replications, the paper's are unknown to us:
    with them alpha falls like 1 / sqrt(t), so tune them per task.
    """

    mu_alpha: float = 1.0
    lambda0: float = 1.0  # first controls of a device
    sigma0: float = 1.0
    iota0: float = 0.0
    eta_lambda: float = 1e-3  # learning rates of the controls
    eta_sigma: float = 1e-3
    eta_iota: float = 1e-3
    staleness_limit: int = 99  # largest s that is accepted (tau in the paper)
    rule: Literal["gated", "approximate"] = "approximate"
    """gated: controls learn only when the device restarted from the very version it had made.
    approximate: they learn at each upload, its gradient standing in for that at that version."""
    normalise: bool = True  # divide the inner product by both norms; false: the paper's, unbounded
    memory: Literal["exact", "sketch"] = "exact"
    """What is remembered of a device. exact: its last contribution, as large as the model. sketch:
    a random projection of that, which gives inner products within about 1 / sqrt(sketch_size) of
    the product of the lengths (see `sketch.py`)."""
    sketch_size: int = 16384  # values in a sketch, 4 bytes each
    staleness_of: Literal["update", "entry"] = "update"
    """entry: alpha is one for each entry, its s counted to the version that last moved that entry
    (see `moves.py`), not to the newest; for fleets that train parts of the model."""
    kind: Literal["fedasmu"] = "fedasmu"

    def __post_init__(self) -> None:
        positive(self.kind, "mu_alpha", self.mu_alpha)
        for name in ("lambda0", "sigma0", "iota0", "eta_lambda", "eta_sigma", "eta_iota"):
            not_negative(self.kind, name, getattr(self, name))
        at_least_one(self.kind, "staleness_limit", self.staleness_limit)
        if self.rule not in ("gated", "approximate"):
            raise TaskError(f"fedasmu.rule is {self.rule!r}; take gated or approximate")
        if self.memory not in ("exact", "sketch"):
            raise TaskError(f"fedasmu.memory is {self.memory!r}; take exact or sketch")
        at_least_one(self.kind, "sketch_size", self.sketch_size)
        one_of(self.kind, "staleness_of", self.staleness_of, ("update", "entry"))

    def init(self, model: Tensor) -> Fleet:
        """No device is remembered yet."""
        make_ready(model.numel())
        return Fleet(moves=Moves.none_yet(model) if self.staleness_of == "entry" else None)

    def step(
        self, now: Global[Tensor], memory: Fleet, update: Update[Tensor], base: Tensor
    ) -> Step[Tensor, Fleet]:
        """Learn the device's controls, then mix its model in with them; or drop it, s too large.

        The weight that is told is the mean over the entries that the update holds.
        """
        header = update.header
        t, tau = now.version, now.version - header.base_version
        s = tau + 1
        if s > self.staleness_limit:
            message = (
                f"staleness {s} exceeds {self.staleness_limit}; pull version {t} and train anew"
            )
            return Step(now, memory, Dropped(DropReason.TOO_STALE, message, tau))
        controls = self._controls(memory.devices.get(header.device_id), update)
        version = Version(t + 1)
        weights = self._weights(controls, memory.moves, update, t)
        s = 1 + round(weights.mean_tau)
        waits = memory.in_parts - {header.device_id}
        in_parts = self.memory == "exact" and len(waits) < IN_PARTS
        mixed = mix_and_measure(now.model, base, update, weights.alpha, in_parts=in_parts)
        last = Contribution(self._remembered(mixed.moved), mixed.moved_square, t, s, version)
        memory.devices[header.device_id] = DeviceMemory(controls, last)
        memory.in_parts = waits | ({header.device_id} if _is_in_parts(last) else set())
        if memory.moves is not None:
            memory.moves.note(update.held, version)
        outcome = Applied(version, weights.mean_alpha, tau)
        return Step(Global(mixed.after, version), memory, outcome)

    def keep(self, memory: Fleet) -> Memory[Tensor]:
        """Contributions as vectors, and one row of numbers (float64) for each device.

        `memory` has them as these very vectors from then on: what is the same tensor in the next
        snapshot is not stored again.
        """
        devices = memory.devices
        for name in memory.in_parts:
            device = devices[name]
            last = replace(device.last, moved=vector_of(device.last.moved))
            devices[name] = replace(device, last=last)
        memory.in_parts = set()
        moved = {
            f"{_MOVED}{name}": vector_of(device.last.moved) for name, device in devices.items()
        }
        rows = [
            (c.lambda_, c.sigma, c.iota, last.moved_square, last.t, last.s, last.produced)
            for c, last in ((device.controls, device.last) for device in devices.values())
        ]
        numbers = torch.tensor(rows, dtype=torch.float64).reshape(-1, _NUMBERS)
        facts: dict[str, object] = {
            "kind": self.kind,
            "memory": self.memory,
            "devices": list(devices),
        }
        tensors = {"numbers": numbers, **moved}
        if memory.moves is not None:
            facts["staleness_of"] = self.staleness_of
            tensors |= memory.moves.keep()
        return Memory(facts, tensors)

    def recall(self, kept: Memory[Tensor], model: Tensor) -> Fleet:
        """Every device as it was. Raises CorruptState."""
        make_ready(model.numel())
        by_entry = self.staleness_of == "entry"
        devices = names(self.kind, kept, "devices")
        expected = {"numbers", *(f"{_MOVED}{name}" for name in devices)}
        facts = ("memory", "devices", *(["staleness_of"] if by_entry else []))
        check_names(self.kind, kept, facts, expected | ({MOVED_AT} if by_entry else set()))
        if kept.facts["memory"] != self.memory:
            raise foreign(self.kind, f"its memory is {kept.facts['memory']!r}")
        rows = tensor(self.kind, kept, "numbers", (len(devices), _NUMBERS), torch.float64)
        exact, size = self.memory == "exact", model.numel()
        shape = (size if exact else sketch_length(size, self.sketch_size),)
        known = {
            DeviceId(name): _recalled(
                row, tensor(self.kind, kept, f"{_MOVED}{name}", shape, torch.float32)
            )
            for name, row in zip(devices, rows.tolist(), strict=True)
        }
        return Fleet(known, moves=Moves.recall(self.kind, kept, model) if by_entry else None)

    def _weights(
        self, controls: Controls, moves: Moves | None, update: Update[Tensor], t: int
    ) -> Weights:
        """How much of it is mixed in, by the staleness of the whole or of each entry."""

        def alpha_of(tau: int) -> float:
            return alpha(self.mu_alpha, xi(controls, t, tau + 1))

        if moves is not None:
            return moves.weigh(update, alpha_of)
        tau = t - update.header.base_version
        return Weights(alpha_of(tau), alpha_of(tau), tau)

    def _remembered(self, moved: Tensor | Displacement) -> Tensor | Displacement:
        """Of a contribution, for inner products to come."""
        return moved if self.memory == "exact" else sketch(vector_of(moved), self.sketch_size)

    def _progress(self, delta: Tensor) -> Tensor:
        """A delta, fit for inner products with what is remembered."""
        return delta if self.memory == "exact" else sketch(dense(delta), self.sketch_size)

    def _controls(self, known: DeviceMemory | None, update: Update[Tensor]) -> Controls:
        """The device's controls after learning from its last contribution, if it may."""
        if known is None:
            return Controls(self.lambda0, self.sigma0, self.iota0)
        last = known.last
        if self.rule == "gated" and last.produced != update.header.base_version:
            return known.controls
        slope = last.slope(update, self._progress(update.delta), normalise=self.normalise)
        gradient = gradients(known.controls, self.mu_alpha, slope, last.t, last.s)
        rates = Controls(self.eta_lambda, self.eta_sigma, self.eta_iota)
        return learned(known.controls, gradient, rates)


def _is_in_parts(contribution: Contribution) -> bool:
    return isinstance(contribution.moved, Displacement)


def _recalled(row: list[float], moved: Tensor) -> DeviceMemory:
    lambda_, sigma, iota, moved_square, *counts = row
    if not all(count.is_integer() and count >= 1 for count in counts):
        raise foreign("fedasmu", f"its versions are {counts}")
    t, s, produced = map(int, counts)
    last = Contribution(moved, moved_square, t, s, Version(produced))
    return DeviceMemory(Controls(lambda_, sigma, iota), last)
