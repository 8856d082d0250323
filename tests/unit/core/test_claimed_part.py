"""A device that claims a part of the model that it did not pull is refused; nothing changes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.scalar import Halfway, caller, coordinator, device, update

from hocket.core.coordinator import Coordinator
from hocket.core.events import BaseTaken, DeviceSeen, Pushed, Settled, Subscribed
from hocket.core.ids import Version
from hocket.core.strategy import Global
from hocket.core.submodel import FULL, ChannelRule, SubmodelSpec
from hocket.core.update import Dropped, DropReason, RefreshReport, Update
from hocket.errors import InvalidUpdate, UnknownVersion

HALF = SubmodelSpec((0.5,), ChannelRule.RANDOM, seed=3)
QUARTER = replace(HALF, keep=(0.25,))
OTHERS = {
    "another draw": replace(HALF, seed=4),
    "another width": QUARTER,
    "another rule": SubmodelSpec((0.5,)),
    "all of it": FULL,
}
Rules = Coordinator[float, None]


def at_version(newest: int) -> Rules:
    """One device holds version 1, so that it stays a base; another made the versions since."""
    c = coordinator(staleness_limit=5)
    for name in ("a", "keeper", "pusher"):
        c.handle(DeviceSeen(device(name)), 0.0)
        c.handle(Subscribed(caller(name)), 0.0)
    take(c, FULL, 1, "keeper")
    make_versions(c, newest)
    return c


def make_versions(c: Rules, newest: int) -> None:
    for version in range(c.newest.version, newest):
        c.handle(Pushed(update("pusher", version)), 0.0)


def take(c: Rules, spec: SubmodelSpec, version: int = 1, name: str = "a") -> None:
    c.handle(BaseTaken(caller(name), Version(version), spec), 0.0)


def taken(spec: SubmodelSpec) -> Rules:
    """Device a trains that part of the first version."""
    c = at_version(1)
    take(c, spec)
    return c


def of(spec: SubmodelSpec, base_version: int = 1, *, incarnation: int = 1) -> Update[float]:
    made = update("a", base_version, update_id=f"{spec} {base_version}", incarnation=incarnation)
    return replace(made, header=replace(made.header, spec=spec))


def restarted(c: Rules) -> Rules:
    """The aggregator in its next life, with what it keeps; device a is seen again."""
    c = Coordinator(c.rules, Halfway(), c.state)
    c.handle(DeviceSeen(device("a")), 0.0)
    return c


def refuses(c: Rules, claimed: Update[float], match: str) -> None:
    """Before and after its body, and nothing changes."""
    before = (c.newest, c.statuses(1.0))
    with pytest.raises(InvalidUpdate, match=match):
        c.offered(claimed.header)
    with pytest.raises(InvalidUpdate, match=f"{match}; push the part that was pulled"):
        c.handle(Pushed(claimed), 1.0)
    assert (c.newest, c.statuses(1.0)) == before


def accepts(c: Rules, pushed: Update[float]) -> None:
    version = c.newest.version
    assert c.offered(pushed.header) is None
    c.handle(Pushed(pushed), 2.0)
    assert c.newest.version == version + 1


@pytest.mark.parametrize("claimed", OTHERS.values(), ids=OTHERS)
def test_a_part_that_was_not_pulled_is_refused_before_and_after_its_body(
    claimed: SubmodelSpec,
) -> None:
    c = taken(HALF)
    refuses(c, of(claimed), r"pulled 0\.5 of the channels \(random from seed 3\) of version 1")
    c.handle(Pushed(of(HALF)), 2.0)
    assert c.newest == Global(0.5, Version(2))


@pytest.mark.parametrize("trained", [FULL, *OTHERS.values()], ids=["full", *OTHERS])
def test_whoever_pulled_the_whole_model_may_have_trained_any_part(trained: SubmodelSpec) -> None:
    accepts(taken(FULL), of(trained))


def test_the_part_that_was_pulled_last_of_a_version_counts() -> None:
    c = taken(HALF)
    take(c, QUARTER)
    refuses(c, of(HALF), r"pulled 0\.25 .* of version 1")
    accepts(c, of(QUARTER))


def test_naming_the_base_before_makes_no_claim_good() -> None:
    c = taken(HALF)
    make_versions(c, 2)
    take(c, QUARTER, 2)
    for claimed in (FULL, QUARTER):
        refuses(c, of(claimed), r"pulled 0\.5 .* of version 1")
    for claimed in (FULL, HALF):
        refuses(c, of(claimed, 2), r"pulled 0\.25 .* of version 2")


def test_naming_a_base_that_was_never_pulled_makes_no_claim_good() -> None:
    c = at_version(2)
    take(c, HALF, 2)
    refuses(c, of(FULL), "of version 2, and version 1 is none of the last that it pulled")
    accepts(c, of(HALF))


def test_an_update_that_was_on_its_way_when_its_device_pulled_anew_is_accepted() -> None:
    """A device that was restarted in mid-push, for one, and has it in its outbox."""
    c = taken(HALF)
    make_versions(c, 2)
    c.handle(DeviceSeen(device("a", incarnation=2)), 1.0)
    c.handle(BaseTaken(caller("a", 2), Version(2), QUARTER), 1.0)
    assert c.offered(of(QUARTER, 2, incarnation=2).header) is None
    accepts(c, of(HALF, incarnation=2))


def test_a_fresh_model_that_was_pulled_to_train_does_not_replace_the_base() -> None:
    """Devices pull it to read; a client that says otherwise may still push what it trained."""
    c = taken(HALF)
    make_versions(c, 2)
    take(c, FULL, 2)
    refuses(c, of(FULL), r"pulled 0\.5 .* of version 1")
    merged = of(HALF)
    refresh = RefreshReport(slot=1, version=Version(2), reward=0.1)
    accepts(c, replace(merged, header=replace(merged.header, refresh=refresh)))


def test_the_last_four_bases_of_a_device_are_known() -> None:
    c = taken(HALF)
    for version in (2, 3, 4):
        make_versions(c, version)
        take(c, QUARTER, version)
    refuses(c, of(QUARTER), r"pulled 0\.5 .* of version 1")
    make_versions(c, 5)
    take(c, QUARTER, 5)
    for claimed in (HALF, FULL):
        refuses(c, of(claimed), "of version 5, and version 1 is none of the last that it pulled")


def test_pulling_one_base_again_and_again_pushes_no_other_out() -> None:
    c = taken(HALF)
    make_versions(c, 2)
    for _ in range(5):
        take(c, QUARTER, 2)
    accepts(c, of(HALF))


def test_of_a_base_that_an_earlier_life_handed_out_nothing_is_held_against_a_device() -> None:
    accepts(restarted(taken(HALF)), of(QUARTER))


def test_nor_is_it_once_another_base_was_pulled_in_this_life() -> None:
    earlier = taken(HALF)
    make_versions(earlier, 2)
    c = restarted(earlier)
    take(c, QUARTER, 2)
    refuses(c, of(FULL, 2), r"pulled 0\.25 .* of version 2")
    accepts(c, of(HALF))


def test_but_once_that_base_was_pulled_again() -> None:
    c = restarted(taken(HALF))
    take(c, QUARTER)
    refuses(c, of(HALF), r"pulled 0\.25 .* of version 1")


def test_a_base_that_is_gone_or_too_old_is_told_whatever_the_part() -> None:
    """The outcome of an update that was settled long ago may still be on record."""
    c = at_version(3)
    take(c, HALF, 3)
    with pytest.raises(UnknownVersion, match="not retained"):
        c.offered(of(FULL, 2).header)
    make_versions(c, 7)
    claimed = of(FULL, 1)
    answer = c.offered(claimed.header)
    assert isinstance(answer, Dropped)
    assert (answer.reason, answer.tau) == (DropReason.TOO_STALE, 6)
    [settled] = [e for e in c.handle(Pushed(claimed), 2.0) if isinstance(e, Settled)]
    assert settled.outcome == answer


def test_a_spec_of_many_layers_is_told_in_one_short_line() -> None:
    text = SubmodelSpec((0.5,) * 5000, ChannelRule.ROLLING, 2**62).text
    assert len(text) < 120
    assert "\n" not in text
