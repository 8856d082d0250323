"""A registry that crashes: `Membership` and what of it was stored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from support.reference_model import promise
from support.simulated_world import World

from hocket.core.chance import Stream
from hocket.core.device import Caller, Device, DeviceState
from hocket.core.ids import DeviceId
from hocket.core.membership import Membership
from hocket.core.membership_events import Changed, Event, Granted, Tick
from hocket.errors import HocketError

Answer = Callable[[Caller | HocketError | None], None]
DOWN_S = 8.0
SLACK_S = 1e-3  # so that rounding cannot bring a tick too early, again and again


class SimulatedRegistry:
    """`watch` is told of each change, in no certain order; `lease_s` is every lease's length."""

    def __init__(self, world: World, lease_s: float, watch: Callable[[Device], None]) -> None:
        self._world = world
        self._lease_s = lease_s
        self._watch = watch
        self._stored: dict[DeviceId, Device] = {}
        self._revision = 0
        self._granted: dict[DeviceId, int] = {}  # the newest incarnation that was answered
        self._epoch = 0.0
        self._ticking: float | None = None
        self.rules: Membership | None = None
        self._start()

    def ask(self, event: Event, answer: Answer) -> None:
        """Take a request in; the answer comes when what it changed is stored."""
        if self.rules is None:
            return
        try:
            effects = self.rules.handle(event, self._now)
        except HocketError as error:
            answer(error)
            return
        changed = [effect.device for effect in effects if isinstance(effect, Changed)]
        rate = self._world.rates.crashed * (2 if changed else 0.2)
        if self._world.goes_wrong(rate, "registry crashes"):
            for device in changed[: self._world.chance.randint(0, len(changed))]:
                self._tell(device)  # watchers may know what the disk does not
            self._crash()
            return
        for device in changed:
            promise(device.revision > self._revision, "the registry's revisions do not grow")
            self._revision = device.revision
            self._stored[device.device_id] = device
            self._tell(device)
        granted = next((e.caller for e in effects if isinstance(e, Granted)), None)
        if granted is not None:
            before = self._granted.get(granted.device_id, 0)
            promise(granted.incarnation > before, f"{granted} was granted twice")
            self._granted[granted.device_id] = granted.incarnation
        answer(granted)
        self._arm()

    def changes_since(self, revision: int) -> tuple[list[Device], int] | None:
        """What a watcher lacks, and what it then knows; None while the registry is down."""
        if self.rules is None:
            return None
        return self.rules.changes_since(revision, self._now), self.rules.revision

    def state_of(self, device_id: DeviceId) -> DeviceState | None:
        """What became of a device's lease."""
        device = self._stored.get(device_id)
        return None if device is None else device.state

    @property
    def _now(self) -> float:
        return self._world.now - self._epoch

    def _tell(self, device: Device) -> None:
        self._world.send(f"registry: {device.device_id}", lambda: self._watch(device))

    def _crash(self) -> None:
        self._world.say("registry crashes")
        self.rules = None
        self._world.after(self._world.chance.uniform(0.5, DOWN_S), self._start)

    def _start(self) -> None:
        self._epoch = self._world.now - self._world.chance.uniform(0.0, 100.0)
        self._ticking = None
        self.rules = Membership(self._lease_s, Stream(0, "ids"), log_size=20)
        self.rules.restore(map(_plain, self._stored.values()), self._revision, self._now)
        self._revision = self.rules.revision
        self._arm()

    def _arm(self) -> None:
        deadline = None if self.rules is None else self.rules.next_deadline()
        if deadline is None or (self._ticking is not None and self._ticking <= deadline):
            return
        self._ticking = deadline
        rules = self.rules
        self._world.after(max(0.0, deadline - self._now) + SLACK_S, lambda: self._tick(rules))

    def _tick(self, rules: Membership | None) -> None:
        if rules is self.rules:
            self._ticking = None
            self.ask(Tick(), lambda _: None)


def _plain(device: Device) -> Device:
    """As a store gives it back."""
    return replace(device, lease_left_s=0.0)
