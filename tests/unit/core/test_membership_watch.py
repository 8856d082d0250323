"""What watchers of the registry's rules are told, over restarts too."""

from __future__ import annotations

from support.members import BUSY, IDLE, caller, ids, members

from hocket.core.device import ANY_DEVICE, DeviceState
from hocket.core.membership_events import Expired, Granted, Heartbeat, Join, Leave, Renewed, Tick


def test_a_watcher_gets_every_change_after_its_revision() -> None:
    m = members()
    m.handle(Join("a", IDLE), 0.0)
    m.handle(Join("b", IDLE), 0.0)
    m.handle(Heartbeat(caller("a"), BUSY), 1.0)
    m.handle(Heartbeat(caller("a"), IDLE), 2.0)
    seen = m.changes_since(2, 2.0)
    assert [(d.device_id, d.capability.available) for d in seen] == [("a", False), ("a", True)]
    assert m.changes_since(4, 2.0) == []


def test_a_watcher_from_before_the_log_gets_each_device_that_changed_as_it_is() -> None:
    m = members(log_size=2)
    for name in ("a", "b", "c"):
        m.handle(Join(name, IDLE), 0.0)
    for capability in (BUSY, IDLE, BUSY):
        m.handle(Heartbeat(caller("a"), capability), 1.0)
    assert ids(m.changes_since(4, 1.0)) == ["a", "a"]
    assert [(d.device_id, d.revision) for d in m.changes_since(2, 1.0)] == [("c", 3), ("a", 6)]
    assert ids(m.changes_since(0, 1.0)) == ["b", "c", "a"]
    assert ids(m.changes_since(99, 1.0)) == ["b", "c", "a"]  # from another registry's life


def test_a_restart_keeps_incarnations_and_gives_the_living_a_fresh_lease() -> None:
    old = members()
    for name in ("a", "b", "c"):
        old.handle(Join(name, IDLE), 0.0)
    old.handle(Leave(caller("b")), 1.0)
    m = members()
    m.restore(old.devices(ANY_DEVICE, 1.0), old.revision, now=1000.0)
    assert m.next_deadline() == 1010.0
    assert m.handle(Heartbeat(caller("a")), 1005.0) == [Renewed(caller("a"))]
    assert m.handle(Join("b", IDLE), 1005.0)[0] == Granted(caller("b", 2))
    assert m.handle(Tick(), 1010.0)[0] == Expired(caller("c"))


def test_a_watcher_from_before_a_restart_gets_everything_once() -> None:
    """Revision 3 was shown to the watcher, but the process died before it stored it."""
    old = members()
    old.handle(Join("a", IDLE), 0.0)
    old.handle(Join("b", IDLE), 0.0)
    stored, revision = old.devices(ANY_DEVICE, 0.0), old.revision
    old.handle(Heartbeat(caller("a"), BUSY), 0.0)
    m = members()
    m.restore(stored, revision, now=0.0)
    assert m.revision > old.revision
    assert [d.capability for d in m.changes_since(old.revision, 0.0)] == [IDLE, IDLE]
    m.handle(Heartbeat(caller("b"), BUSY), 1.0)
    assert ids(m.changes_since(m.revision - 1, 1.0)) == ["b"]


def test_a_watcher_who_saw_a_lease_end_that_was_never_stored_learns_that_it_goes_on() -> None:
    old = members()
    old.handle(Join("a", IDLE), 0.0)
    stored, revision = old.devices(ANY_DEVICE, 0.0), old.revision
    old.handle(Tick(), 10.0)
    [seen] = old.changes_since(revision, 10.0)
    m = members()
    m.restore(stored, revision, now=0.0)
    [again] = m.changes_since(seen.revision, 0.0)
    assert (seen.state, again.state) == (DeviceState.EXPIRED, DeviceState.ALIVE)
    assert again.revision > seen.revision  # or a watcher takes it for older news
