"""The registry's rules against a simple model, under random schedules."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from support.members import BUSY, IDLE, LEASE_S, caller, changed, members

from hocket.core.device import ANY_DEVICE, Device, DeviceState
from hocket.core.membership_events import Event, Expired, Heartbeat, Join, Leave, Tick
from hocket.errors import InvalidRequest, StaleIncarnation, UnknownDevice

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["join", "heartbeat", "busy", "leave", "tick"]),
        st.sampled_from(["a", "b", "c"]),
        st.integers(0, 2),  # how many incarnations behind the caller is
        st.sampled_from([0.0, 0.5, 3.0, 10.0]),  # seconds until the step
    ),
    max_size=60,
)


class Model:
    """What the rules promise, the slow way: every lease is looked at on every step."""

    def __init__(self) -> None:
        self.incarnation: dict[str, int] = {}
        self.ends_at: dict[str, float] = {}  # of live leases only

    def expire(self, now: float) -> set[str]:
        due = {name for name, ends_at in self.ends_at.items() if now >= ends_at}
        for name in due:
            del self.ends_at[name]
        return due


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_any_schedule_agrees_with_the_model(steps: list[tuple[str, str, int, float]]) -> None:
    m, model, now = members(log_size=8), Model(), 0.0
    revisions, views = [0], {0: list[Device]()}
    for what, name, behind, wait_s in steps:
        now += wait_s
        ended = m.handle(Tick(), now)
        revisions += [device.revision for device in changed(ended)]
        assert {e.caller.device_id for e in ended if isinstance(e, Expired)} == model.expire(now)
        try:
            effects = m.handle(event_of(what, name, model.incarnation.get(name, 1) - behind), now)
        except (UnknownDevice, StaleIncarnation, InvalidRequest):
            assert name not in model.ends_at or behind
        else:
            assert what in {"join", "tick"} or behind == 0
            follow(model, what, name, now)
            revisions += [device.revision for device in changed(effects)]
        views[m.revision] = m.devices(ANY_DEVICE, 0.0)
        alive = {d.device_id for d in m.devices(ANY_DEVICE, now) if d.state is DeviceState.ALIVE}
        assert alive == set(model.ends_at)
        assert {d.device_id: d.incarnation for d in m.devices(ANY_DEVICE, now)} == model.incarnation
        assert m.next_deadline() == min(model.ends_at.values(), default=None)
    assert all(later > earlier for earlier, later in pairwise(revisions))
    for revision, view in views.items():
        assert timeless([*view, *m.changes_since(revision, now)]) == timeless(
            m.devices(ANY_DEVICE, now)
        )


def event_of(what: str, name: str, incarnation: int) -> Event:
    who = caller(name, incarnation)
    match what:
        case "join":
            return Join(name, IDLE)
        case "heartbeat":
            return Heartbeat(who)
        case "busy":
            return Heartbeat(who, BUSY)
        case "leave":
            return Leave(who)
        case _:
            return Tick()


def follow(model: Model, what: str, name: str, now: float) -> None:
    if what == "join":
        model.incarnation[name] = model.incarnation.get(name, 0) + 1
    if what in {"join", "heartbeat", "busy"}:
        model.ends_at[name] = now + LEASE_S
    if what == "leave":
        model.ends_at.pop(name, None)


def timeless(devices: list[Device]) -> dict[str, Device]:
    """The last record of each device, without the running part of its lease."""
    return {device.device_id: replace(device, lease_left_s=0.0) for device in devices}
