"""A whole fleet in numbers: models are floats, so that the rules can be tested without torch."""

from __future__ import annotations

from dataclasses import dataclass

from hocket.core.capability import Capability, CostLine
from hocket.core.coordinator import Coordinator
from hocket.core.device import Caller, Device, DeviceState
from hocket.core.ids import DeviceId, Incarnation, UpdateId, Version
from hocket.core.scheduling import AnyPace, AnySelection, Concurrent, Uniform, Work
from hocket.core.stop import Stop
from hocket.core.strategy import Global, Memory, Step
from hocket.core.triggering import CoordinatorRules, SlotPolicy
from hocket.core.update import Applied, RefreshReport, Update, UpdateHeader

WORK = Work(local_epochs=2, batch_size=10, up_bytes=1_000, down_bytes=4_000)


@dataclass(frozen=True, slots=True)
class Halfway:
    """Moves half of the way to the device's model, whatever its age."""

    kind: str = "halfway"

    def init(self, model: float) -> None:
        """It remembers nothing."""

    def step(
        self, now: Global[float], memory: None, update: Update[float], base: float
    ) -> Step[float, None]:
        tau = now.version - update.header.base_version
        made = Global(0.5 * now.model + 0.5 * (base + update.delta), Version(now.version + 1))
        return Step(made, memory, Applied(made.version, 0.5, tau))

    def keep(self, memory: None) -> Memory[float]:  # noqa: ARG002 -- the protocol's
        return Memory()

    def recall(self, kept: Memory[float], model: float) -> None:
        """It remembers nothing."""


def device(name: str, incarnation: int = 1, *, step_s: float = 0.1, **now: object) -> Device:
    capability = Capability(
        costs=(CostLine(1.0, step_s, 0.0),),
        num_examples=100,
        available=bool(now.get("available", True)),
    )
    state = now.get("state", DeviceState.ALIVE)
    assert isinstance(state, DeviceState)
    return Device(DeviceId(name), Incarnation(incarnation), state, capability)


def caller(name: str, incarnation: int = 1) -> Caller:
    return Caller(DeviceId(name), Incarnation(incarnation))


def update(
    name: str,
    base_version: int,
    delta: float = 1.0,
    *,
    update_id: str | None = None,
    incarnation: int = 1,
    refresh: RefreshReport | None = None,
) -> Update[float]:
    header = UpdateHeader(
        update_id=UpdateId(update_id or f"{name}-{base_version}"),
        device_id=DeviceId(name),
        incarnation=Incarnation(incarnation),
        base_version=Version(base_version),
        num_examples=100,
        num_steps=20,
        learning_rate=0.1,
        train_loss=0.5,
        refresh=refresh,
    )
    return Update(header, delta, wire_bytes=1_000)


def coordinator(
    *,
    pace: AnyPace | None = None,
    selection: AnySelection | None = None,
    stop: Stop | None = None,
    staleness_limit: int = 5,
    train_timeout_s: float = 60.0,
    slots: SlotPolicy | None = None,
) -> Coordinator[float, None]:
    rules = CoordinatorRules(
        pace=pace or Concurrent(devices=100),
        selection=selection or Uniform(),
        work=WORK,
        stop=stop or Stop(),
        staleness_limit=staleness_limit,
        train_timeout_s=train_timeout_s,
        seed=7,
    )
    return Coordinator.begin(rules, Halfway(), Global(0.0), slots)
