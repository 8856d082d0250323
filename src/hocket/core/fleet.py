"""What each device is doing for this task, as the aggregator sees it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from hocket.core.device import Caller, Device, DeviceState
from hocket.core.idle import IdleOrder
from hocket.core.ids import DeviceId, Incarnation, Version
from hocket.core.records import DevicePhase, DeviceStatus
from hocket.core.round import Round
from hocket.core.submodel import FULL, SubmodelSpec
from hocket.core.timeouts import Timeouts
from hocket.core.update import Dropped, Outcome, UpdateHeader
from hocket.errors import InvalidUpdate, StaleIncarnation, UnknownDevice

IN_FLIGHT = (DevicePhase.TRAINING, DevicePhase.PUSHING)
NO_VERSION = Version(0)
NO_PART = (FULL, "")
BASES_KNOWN = 4  # of each device: the push of an earlier one may still be on its way


@dataclass(slots=True)
class Tally:
    """What became of a device's updates."""

    accepted: int = 0
    rejected: int = 0
    wire_bytes: int = 0
    dense_bytes: int = 0
    train_loss: float = 0.0  # this and the next two: of the last one accepted
    weight: float = 0.0
    tau: int = 0

    @classmethod
    def of(cls, status: DeviceStatus) -> Tally:
        """As a status has it."""
        return cls(
            status.updates_accepted,
            status.updates_rejected,
            status.wire_bytes,
            status.dense_bytes,
            status.last_train_loss,
            status.last_weight,
            status.last_tau,
        )

    def count(self, outcome: Outcome, train_loss: float, wire: int, dense: int) -> None:
        """Add a settled update."""
        if isinstance(outcome, Dropped):
            self.rejected += 1
            return
        self.accepted += 1
        self.wire_bytes += wire
        self.dense_bytes += dense
        self.train_loss = train_loss
        self.weight = outcome.weight
        self.tau = outcome.tau


@dataclass(slots=True, eq=False)
class Member:
    """One device's part in the task. Change it by its methods, so that the fleet keeps count."""

    device: Device
    since: float  # when the phase began
    last_triggered: float  # or when it was first seen
    fleet: Fleet = field(repr=False)  # kept up to date here
    phase: DevicePhase = DevicePhase.AWAY
    base_version: Version = NO_VERSION
    stream_of: Incarnation | None = None  # who listens on the open stream, if there is one
    tally: Tally = field(default_factory=Tally)
    part: tuple[SubmodelSpec, str] = NO_PART  # that it took last, and why
    taken: tuple[tuple[Version, SubmodelSpec], ...] = ()  # the last few bases, newest first
    _status: DeviceStatus | None = field(default=None, repr=False)  # until something changes

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

    @property
    def status(self) -> DeviceStatus:
        """Its part so far; it never changes afterwards."""
        if self._status is None:
            name, tally = self.device.device_id, self.tally
            self._status = DeviceStatus(
                name,
                self.phase,
                self.base_version,
                updates_accepted=tally.accepted,
                updates_rejected=tally.rejected,
                wire_bytes=tally.wire_bytes,
                dense_bytes=tally.dense_bytes,
                last_train_loss=tally.train_loss,
                last_weight=tally.weight,
                last_tau=tally.tau,
                spec=None if self.part is NO_PART else self.part[0],
                why=self.part[1],
            )
        return self._status

    def subscribe(self) -> None:
        """The incarnation that may speak now listens."""
        self.stream_of = self.device.incarnation
        self.fleet.changed(self)

    def unsubscribe(self) -> None:
        """Nobody listens any more."""
        self.stream_of = None
        self.fleet.changed(self)

    def enter(self, phase: DevicePhase, now: float, base: Version | None = None) -> None:
        """Begin a phase; entering the same one again changes nothing but the base."""
        if base is not None:
            self.base_version = base
        self._status = None
        if phase != self.phase:
            self.phase, self.since = phase, now
            self.fleet.changed(self)

    def work(
        self, phase: DevicePhase, now: float, timeout_s: float, base: Version | None = None
    ) -> None:
        """Begin a phase in flight, which is given up after `timeout_s`."""
        self.enter(phase, now, base)
        self.fleet.timeouts.set(self.device.device_id, now + timeout_s)

    def take(self, spec: SubmodelSpec, why: str, version: Version) -> None:
        """It trains this part of a base from now on."""
        self.part, self._status = (spec, why), None
        others = tuple(known for known in self.taken if known[0] != version)
        self.taken = ((version, spec), *others[: BASES_KNOWN - 1])

    def held(self, version: Version) -> None:
        """It took this base in an earlier life of the aggregator; which part, nobody knows."""
        self.taken = ((version, FULL),)  # as good as all of it

    def check_part(self, header: UpdateHeader) -> None:
        """Refuse an update of a part that the device never had: InvalidUpdate.

        Of a base that it is not known to have taken, it may have the part that it took last of
        another: naming a wrong base must not make a claim good. One that took the whole may have
        trained any part.
        """
        base = header.base_version
        known = dict(self.taken)
        took = known.get(base, self.part[0])
        if took.is_full or took == header.spec:
            return
        of = f"version {base}"
        if base not in known:
            of = f"version {self.taken[0][0]}, and {of} is none of the last that it pulled"
        raise InvalidUpdate(
            f"the update is of {header.spec.text}, but the device pulled {took.text} of {of}; "
            "push the part that was pulled and trained",
            device_id=header.device_id,
        )

    def rest(self, now: float) -> None:
        """Nothing in flight any more."""
        alive = self.device.state is DeviceState.ALIVE
        phase = DevicePhase.IDLE if self.subscribed and alive else DevicePhase.AWAY
        self.enter(phase, now, base=NO_VERSION)

    def count(self, outcome: Outcome, train_loss: float, wire: int, dense: int) -> None:
        """Add a settled update to the tally."""
        self.tally.count(outcome, train_loss, wire, dense)
        self._status = None

    def count_refused(self) -> None:
        """Add an update that was not used."""
        self.tally.rejected += 1
        self._status = None


class Fleet:
    """Every device that the registry has told of, and who of them is idle or in flight.

    All questions that an event asks are answered without going through the members.
    """

    def __init__(self) -> None:
        self.idle = IdleOrder()  # those that can be triggered now
        self.timeouts = Timeouts()  # of those in flight
        self.round = Round()  # those in flight for the newest version
        self._in_flight: set[DeviceId] = set()
        self._earlier: Mapping[DeviceId, DeviceStatus] = {}
        self._members: dict[DeviceId, Member] = {}

    def __iter__(self) -> Iterator[Member]:
        return iter(self._members.values())

    @property
    def num_in_flight(self) -> int:
        """How many devices train or push now."""
        return len(self._in_flight)

    def remember(self, earlier: Mapping[DeviceId, DeviceStatus]) -> None:
        """What devices did in an earlier life, for when they are seen again."""
        self._earlier = earlier

    def see(self, device: Device, now: float) -> Member:
        """Take in the registry's newest word on a device."""
        member = self._members.get(device.device_id)
        if member is None:
            member = self._members[device.device_id] = self._begin(device, now)
        member.device = device
        self.changed(member)
        return member

    def changed(self, member: Member) -> None:
        """Whether the member is idle or in flight may have changed."""
        device_id = member.device.device_id
        if member.phase is DevicePhase.IDLE and member.willing:
            self.idle.put(device_id)
        else:
            self.idle.take_out(device_id)
        if member.phase in IN_FLIGHT:
            self._in_flight.add(device_id)
        else:
            self._in_flight.discard(device_id)
            self.timeouts.clear(device_id)
            self.round.leave(device_id)

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

    def statuses(self, now: float) -> tuple[DeviceStatus, ...]:
        """Every device's part, in the order of their ids."""
        ordered = sorted(self, key=lambda member: member.device.device_id)
        return tuple(replace(m.status, in_phase_s=max(0.0, now - m.since)) for m in ordered)

    def _begin(self, device: Device, now: float) -> Member:
        """Away, whatever it did in an earlier life: nothing was heard of it in this one."""
        member = Member(device, now, now, self)
        earlier = self._earlier.get(device.device_id)
        if earlier is not None:
            member.tally = Tally.of(earlier)
        return member
