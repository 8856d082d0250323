"""What each device is doing for this task, as the aggregator sees it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from hocket.core.device import Caller, Device, DeviceState
from hocket.core.ids import DeviceId, Incarnation, Version
from hocket.core.records import DevicePhase, DeviceStatus
from hocket.core.update import Dropped, Outcome
from hocket.errors import StaleIncarnation, UnknownDevice

IN_FLIGHT = (DevicePhase.TRAINING, DevicePhase.PUSHING)
NO_VERSION = Version(0)


class ByPhase:
    """The members in each phase, so that finding the few in flight does not go through them all."""

    def __init__(self) -> None:
        self._members: dict[DevicePhase, dict[DeviceId, Member]] = {p: {} for p in DevicePhase}

    def __getitem__(self, phase: DevicePhase) -> list[Member]:
        return list(self._members[phase].values())

    def place(self, member: Member, old: DevicePhase) -> None:
        """The member has left `old` for the phase that it is in now."""
        self._members[old].pop(member.device.device_id, None)
        self._members[member.status.phase][member.device.device_id] = member


@dataclass(slots=True)
class Member:
    """One device's part in the task."""

    device: Device
    status: DeviceStatus
    since: float  # when the phase began
    last_triggered: float  # or when it was first seen
    phases: ByPhase = field(repr=False)  # kept up to date here
    stream_of: Incarnation | None = None  # who listens on the open stream, if there is one
    timeout_at: float = 0.0  # when a device in flight is given up

    @property
    def caller(self) -> Caller:
        """The incarnation that may speak now."""
        return Caller(self.device.device_id, self.device.incarnation)

    @property
    def subscribed(self) -> bool:
        """Whether the incarnation that may speak now listens."""
        return self.stream_of == self.device.incarnation

    @property
    def willing(self) -> bool:
        """Whether it can be triggered once it is idle."""
        return self.subscribed and self.device.capability.available

    def enter(self, phase: DevicePhase, now: float, base: Version | None = None) -> None:
        """Begin a phase; entering the same one again changes nothing but the base."""
        if phase != self.status.phase:
            self.since = now
        version = self.status.base_version if base is None else base
        old = self.status.phase
        self.status = replace(self.status, phase=phase, base_version=version)
        self.phases.place(self, old)

    def rest(self, now: float) -> None:
        """Nothing in flight any more."""
        alive = self.device.state is DeviceState.ALIVE
        phase = DevicePhase.IDLE if self.subscribed and alive else DevicePhase.AWAY
        self.enter(phase, now, base=NO_VERSION)

    def count(self, outcome: Outcome, train_loss: float, wire: int, dense: int) -> None:
        """Add a settled update to the tally."""
        if isinstance(outcome, Dropped):
            self.count_refused()
            return
        self.status = replace(
            self.status,
            updates_accepted=self.status.updates_accepted + 1,
            wire_bytes=self.status.wire_bytes + wire,
            dense_bytes=self.status.dense_bytes + dense,
            last_train_loss=train_loss,
            last_weight=outcome.weight,
            last_tau=outcome.tau,
        )

    def count_refused(self) -> None:
        """Add an update that was not used."""
        self.status = replace(self.status, updates_rejected=self.status.updates_rejected + 1)


class Fleet:
    """Every device that the registry has told of."""

    def __init__(self) -> None:
        self._earlier: Mapping[DeviceId, DeviceStatus] = {}
        self._members: dict[DeviceId, Member] = {}
        self._phases = ByPhase()

    def __iter__(self) -> Iterator[Member]:
        return iter(self._members.values())

    def remember(self, earlier: Mapping[DeviceId, DeviceStatus]) -> None:
        """What devices did in an earlier life, for when they are seen again."""
        self._earlier = earlier

    def see(self, device: Device, now: float) -> Member:
        """Take in the registry's newest word on a device."""
        member = self._members.get(device.device_id)
        if member is None:
            status = self._earlier.get(device.device_id)
            status = status or DeviceStatus(device.device_id, DevicePhase.AWAY, NO_VERSION)
            member = Member(device, status, now, last_triggered=now, phases=self._phases)
            self._members[device.device_id] = member
            self._phases.place(member, status.phase)
        member.device = device
        return member

    def find(self, device_id: DeviceId) -> Member | None:
        """The member, if the registry ever told of it."""
        return self._members.get(device_id)

    def member(self, device_id: DeviceId) -> Member:
        """A member that is known to exist."""
        return self._members[device_id]

    def admit(self, caller: Caller) -> Member:
        """The member that speaks; raises UnknownDevice or StaleIncarnation."""
        member = self._members.get(caller.device_id)
        if member is None or caller.incarnation > member.device.incarnation:
            raise UnknownDevice(
                f"device {caller.device_id!r} holds no lease; join the registry first",
                device_id=caller.device_id,
            )
        if caller.incarnation < member.device.incarnation:
            raise StaleIncarnation(
                f"incarnation {caller.incarnation} of {caller.device_id!r} was replaced by "
                f"{member.device.incarnation}; stop this process",
                device_id=caller.device_id,
            )
        if member.device.state is not DeviceState.ALIVE:
            raise UnknownDevice(
                f"the lease of device {caller.device_id!r} has ended; join the registry again",
                device_id=caller.device_id,
            )
        return member

    def in_flight(self) -> list[Member]:
        """Devices that train or push now."""
        return [member for phase in IN_FLIGHT for member in self._phases[phase]]

    def idle(self) -> list[Member]:
        """Devices that can be triggered now, in the order of their ids."""
        willing = (member for member in self._phases[DevicePhase.IDLE] if member.willing)
        return sorted(willing, key=lambda member: member.device.device_id)

    def any_idle(self) -> bool:
        """Whether a device can be triggered now."""
        return any(member.willing for member in self._phases[DevicePhase.IDLE])

    def statuses(self, now: float) -> tuple[DeviceStatus, ...]:
        """Every device's part, in the order of their ids."""
        ordered = sorted(self, key=lambda member: member.device.device_id)
        return tuple(replace(m.status, in_phase_s=max(0.0, now - m.since)) for m in ordered)
