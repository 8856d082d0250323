"""What an update's header alone is answered, before any of its body is sent."""

from __future__ import annotations

import pytest
from support.scalar import caller, coordinator, device, update

from hocket.core.coordinator import Coordinator
from hocket.core.events import BaseTaken, DeviceSeen, Pushed, Settled, Subscribed
from hocket.core.update import Dropped, DropReason
from hocket.errors import UnknownDevice, UnknownVersion

Rules = Coordinator[float, None]


def enlisted(*names: str, staleness_limit: int = 99) -> Rules:
    """Devices that have all taken the first version."""
    c = coordinator(staleness_limit=staleness_limit)
    for name in names:
        c.handle(DeviceSeen(device(name)), 0.0)
        c.handle(Subscribed(caller(name)), 0.0)
        c.handle(BaseTaken(caller(name), c.newest.version), 0.0)
    return c


def test_an_update_that_may_count_is_told_nothing_and_nothing_has_changed() -> None:
    c = enlisted("a")
    before = c.statuses(1.0)
    assert c.offered(update("a", 1).header) is None
    assert c.statuses(1.0) == before


def test_an_update_that_was_settled_is_told_the_same_again_even_a_stranger() -> None:
    c = enlisted("a")
    pushed = update("a", 1)
    effects = c.handle(Pushed(pushed), 1.0)
    [settled] = [effect for effect in effects if isinstance(effect, Settled)]
    assert c.offered(pushed.header) == settled.outcome
    assert c.offered(update("a", 1, incarnation=7).header) == settled.outcome


def test_an_update_that_would_be_dropped_is_told_so() -> None:
    c = enlisted("slow", "quick", staleness_limit=0)
    c.handle(Pushed(update("quick", 1)), 1.0)
    answer = c.offered(update("slow", 1).header)
    assert isinstance(answer, Dropped)
    assert (answer.reason, answer.tau) == (DropReason.TOO_STALE, 1)


def test_what_would_be_refused_afterwards_is_refused_before() -> None:
    c = enlisted("a", "b")
    with pytest.raises(UnknownDevice):
        c.offered(update("ghost", 1).header)
    with pytest.raises(UnknownVersion, match="does not exist yet"):
        c.offered(update("a", 9).header)
    for name in ("a", "b"):
        c.handle(Pushed(update(name, 1)), 1.0)
    c.handle(DeviceSeen(device("late")), 2.0)
    with pytest.raises(UnknownVersion, match="pull the newest"):  # nobody holds version 1 now
        c.offered(update("late", 1).header)
