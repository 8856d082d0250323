"""The registry's rules as a specification."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from support.members import BUSY, IDLE, LEASE_S, caller, changed, ids, members

from hocket.core.capability import CostLine
from hocket.core.device import ANY_DEVICE, Caller, Device, DeviceFilter, DeviceState
from hocket.core.ids import DeviceId, Incarnation
from hocket.core.link import Link
from hocket.core.membership_events import (
    Changed,
    Departed,
    Event,
    Expired,
    Granted,
    Heartbeat,
    Join,
    Leave,
    Renewed,
    ReportLinks,
    Superseded,
    Tick,
)
from hocket.errors import InvalidRequest, NotFound, StaleIncarnation, UnknownDevice


def test_the_first_join_grants_incarnation_one_and_a_full_lease() -> None:
    granted, change = members().handle(Join("pi", IDLE, {"room": "lab"}, 99.0), 5.0)
    assert granted == Granted(caller("pi"))
    assert change == Changed(
        Device(
            DeviceId("pi"),
            Incarnation(1),
            DeviceState.ALIVE,
            IDLE,
            lease_left_s=LEASE_S,
            revision=1,
            joined_unix_s=99.0,
            labels={"room": "lab"},
        )
    )


def test_joining_again_ends_the_earlier_incarnation_and_keeps_the_links() -> None:
    m = members()
    m.handle(Join("pi", IDLE), 0.0)
    m.handle(ReportLinks(caller("pi"), [Link("aggregator", 5.0)]), 0.0)
    effects = m.handle(Join("pi", BUSY), 1.0)
    assert effects[:2] == [Superseded(caller("pi")), Granted(caller("pi", 2))]
    assert m.get("pi", 1.0).links == (Link("aggregator", 5.0),)
    assert m.get("pi", 1.0).capability == BUSY
    with pytest.raises(StaleIncarnation, match="incarnation 2 joined"):
        m.handle(Heartbeat(caller("pi", 1)), 1.0)
    with pytest.raises(StaleIncarnation):
        m.handle(Leave(caller("pi", 1)), 1.0)
    with pytest.raises(StaleIncarnation):
        m.handle(ReportLinks(caller("pi", 1), []), 1.0)
    assert m.handle(Heartbeat(caller("pi", 2)), 1.0) == [Renewed(caller("pi", 2))]


def test_a_lease_ends_at_its_deadline_and_not_before() -> None:
    m = members()
    m.handle(Join("pi", IDLE), 0.0)
    assert m.next_deadline() == 10.0
    assert m.handle(Tick(), math.nextafter(10.0, 0.0)) == []
    expired, change = m.handle(Tick(), 10.0)
    assert expired == Expired(caller("pi"))
    assert isinstance(change, Changed)
    assert (change.device.state, change.device.lease_left_s) == (DeviceState.EXPIRED, 0.0)
    assert m.next_deadline() is None
    assert m.handle(Tick(), 100.0) == []


def test_a_heartbeat_prolongs_the_lease() -> None:
    m = members()
    m.handle(Join("pi", IDLE), 0.0)
    m.handle(Heartbeat(caller("pi")), 9.0)
    assert m.next_deadline() == 19.0
    assert m.handle(Tick(), 10.0) == []
    assert m.get("pi", 12.0).lease_left_s == 7.0
    assert m.handle(Tick(), 19.0)[0] == Expired(caller("pi"))


def test_an_ended_lease_is_refused_even_before_the_tick() -> None:
    m = members()
    m.handle(Join("pi", IDLE), 0.0)
    with pytest.raises(UnknownDevice, match="join again"):
        m.handle(Heartbeat(caller("pi")), 10.0)
    m.handle(Tick(), 10.0)
    with pytest.raises(UnknownDevice, match="join again"):
        m.handle(Heartbeat(caller("pi")), 10.0)
    assert m.handle(Join("pi", IDLE), 11.0)[0] == Granted(caller("pi", 2))
    assert m.next_deadline() == 21.0


@pytest.mark.parametrize("who", [caller("ghost"), caller("pi", 2)])
def test_who_never_joined_is_told_to_join(who: Caller) -> None:
    m = members()
    m.handle(Join("pi", IDLE), 0.0)
    for event in (Heartbeat(who), Leave(who), ReportLinks(who, [])):
        with pytest.raises(UnknownDevice, match="join again"):
            m.handle(event, 1.0)


def test_leaving_ends_the_lease_and_leaving_twice_is_no_error() -> None:
    m = members()
    m.handle(Join("pi", IDLE), 0.0)
    departed, change = m.handle(Leave(caller("pi")), 1.0)
    assert departed == Departed(caller("pi"))
    assert isinstance(change, Changed)
    assert change.device.state is DeviceState.LEFT
    assert m.handle(Leave(caller("pi")), 2.0) == []
    assert m.next_deadline() is None
    with pytest.raises(UnknownDevice):
        m.handle(Heartbeat(caller("pi")), 2.0)


def test_a_device_may_say_goodbye_after_its_lease_ended() -> None:
    m = members()
    m.handle(Join("pi", IDLE), 0.0)
    m.handle(Tick(), 10.0)
    assert [d.state for d in changed(m.handle(Leave(caller("pi")), 11.0))] == [DeviceState.LEFT]


def test_availability_that_changes_is_visible_and_what_stays_the_same_is_no_change() -> None:
    m = members()
    m.handle(Join("pi", IDLE), 0.0)
    assert m.handle(Heartbeat(caller("pi"), IDLE), 1.0) == [Renewed(caller("pi"))]
    assert m.handle(Heartbeat(caller("pi")), 2.0) == [Renewed(caller("pi"))]
    assert m.revision == 1
    (device,) = changed(m.handle(Heartbeat(caller("pi"), BUSY), 3.0))
    assert (device.capability, device.revision) == (BUSY, 2)
    m.handle(Heartbeat(caller("pi")), 4.0)
    assert m.get("pi", 4.0).capability == BUSY


def test_links_are_replaced_peer_by_peer() -> None:
    m = members()
    m.handle(Join("pi", IDLE), 0.0)
    m.handle(ReportLinks(caller("pi"), [Link("b", 1.0), Link("aggregator", 2.0)]), 0.0)
    (device,) = changed(m.handle(ReportLinks(caller("pi"), [Link("b", 3.0)]), 1.0))
    assert device.links == (Link("aggregator", 2.0), Link("b", 3.0))
    assert m.handle(ReportLinks(caller("pi"), [Link("b", 3.0)]), 2.0) == []


def test_a_device_without_a_name_gets_one_that_the_seed_decides() -> None:
    first, second = members(), members()
    names = []
    for m in (first, second):
        for _ in range(2):
            granted = m.handle(Join("", IDLE), 0.0)[0]
            assert isinstance(granted, Granted)
            names.append(granted.caller.device_id)
    assert names[:2] == names[2:]
    assert len(set(names)) == 2
    assert all(name.startswith("device-") and len(name) == 13 for name in names)


def test_a_name_that_is_taken_is_not_given_out() -> None:
    granted = members().handle(Join("", IDLE), 0.0)[0]
    assert isinstance(granted, Granted)
    m = members()
    m.handle(Join(granted.caller.device_id, IDLE), 0.0)
    assert m.handle(Join("", IDLE), 0.0)[0] != Granted(granted.caller)
    assert len(m.devices(ANY_DEVICE, 0.0)) == 2


BAD_EVENTS: list[Event] = [
    Join("a b", IDLE),
    Join("x" * 65, IDLE),
    Join("naïve", IDLE),
    Join("new\n", IDLE),
    Join("new", IDLE, {"": "x"}),
    Join("new", IDLE, {"k": "v" * 65}),
    Join("new", IDLE, {f"k{n}": "" for n in range(17)}),
    Join("new", replace(IDLE, costs=(CostLine(0.0, 0.0, 0.0),))),
    Join("new", replace(IDLE, costs=(CostLine(1.0, -0.1, 0.0),))),
    Join("new", replace(IDLE, costs=(CostLine(1.0, 0.0, math.inf),))),
    Join("new", replace(IDLE, costs=(CostLine(math.nan, 0.0, 0.0),))),
    Join("new", replace(IDLE, costs=(CostLine(1.0, 0.0, 0.0),) * 65)),
    Heartbeat(caller("pi"), replace(IDLE, processor_share=1.1)),
    Heartbeat(caller("pi"), replace(IDLE, processor_share=math.nan)),
    Heartbeat(caller("pi"), replace(IDLE, energy_share=-0.1)),
    Heartbeat(caller("pi"), replace(IDLE, memory_bytes=-1)),
    Heartbeat(caller("pi"), replace(IDLE, num_examples=2**63)),
    Heartbeat(caller("pi", 0)),
    Heartbeat(caller("", 1)),
    Leave(caller("a/b")),
    ReportLinks(caller("pi"), [Link("b", -1.0)]),
    ReportLinks(caller("pi"), [Link("b", 0.0, math.nan)]),
    ReportLinks(caller("pi"), [Link("b", rtt_s=math.inf)]),
    ReportLinks(caller("pi"), [Link("b", loss=1.5)]),
    ReportLinks(caller("pi"), [Link("b", transfers=-1)]),
    ReportLinks(caller("pi"), [Link("not a peer")]),
    ReportLinks(caller("pi"), [Link("b"), Link("b")]),
    ReportLinks(caller("pi"), [Link(f"p{n}") for n in range(1001)]),
]


@pytest.mark.parametrize("event", BAD_EVENTS, ids=lambda event: repr(event)[:60])
def test_bad_input_is_refused_and_leaves_no_trace(event: Event) -> None:
    m = members()
    m.handle(Join("pi", IDLE), 0.0)
    before = m.devices(ANY_DEVICE, 5.0)
    with pytest.raises(InvalidRequest):
        m.handle(event, 5.0)
    assert m.devices(ANY_DEVICE, 5.0) == before
    assert (m.revision, m.next_deadline()) == (1, 10.0)


def test_peers_are_bounded_over_reports_too() -> None:
    m = members()
    m.handle(Join("pi", IDLE), 0.0)
    m.handle(ReportLinks(caller("pi"), [Link(f"p{n}") for n in range(1000)]), 0.0)
    with pytest.raises(InvalidRequest, match="1001 peers"):
        m.handle(ReportLinks(caller("pi"), [Link("one-more")]), 0.0)


def test_devices_come_in_the_order_of_their_ids_filtered_and_paged() -> None:
    m = members()
    for name, capability in [("d", IDLE), ("a", BUSY), ("c", IDLE), ("b", IDLE)]:
        m.handle(Join(name, capability, {"class": "phone" if name < "c" else "board"}), 0.0)
    m.handle(ReportLinks(caller("b"), [Link("aggregator", 1e6, 2e6)]), 0.0)
    m.handle(Leave(caller("d")), 1.0)
    assert ids(m.devices(ANY_DEVICE, 1.0)) == ["a", "b", "c", "d"]
    assert ids(m.devices(ANY_DEVICE, 1.0, limit=2)) == ["a", "b"]
    assert ids(m.devices(ANY_DEVICE, 1.0, after_id="b", limit=2)) == ["c", "d"]
    assert ids(m.devices(DeviceFilter(available_only=True), 1.0, limit=2)) == ["b", "c"]
    assert ids(m.devices(DeviceFilter(states=frozenset({DeviceState.LEFT})), 1.0)) == ["d"]
    assert ids(m.devices(DeviceFilter(min_up_bytes_per_s=1e6), 1.0)) == ["b"]
    assert ids(m.devices(DeviceFilter(labels={"class": "phone"}), 1.0)) == ["a", "b"]
    named = DeviceFilter(device_ids=frozenset(map(DeviceId, ["d", "b", "ghost"])))
    assert ids(m.devices(named, 1.0)) == ["b", "d"]
    assert ids(m.devices(named, 1.0, after_id="b")) == ["d"]
    with pytest.raises(NotFound):
        m.get("ghost", 1.0)
