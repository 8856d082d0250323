"""A device that claims a part of the model that it did not pull is refused; nothing changes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.scalar import Halfway, caller, coordinator, device, update

from hocket.core.coordinator import Coordinator
from hocket.core.events import BaseTaken, DeviceSeen, Pushed, Subscribed
from hocket.core.ids import Version
from hocket.core.strategy import Global
from hocket.core.submodel import FULL, ChannelRule, SubmodelSpec
from hocket.core.update import Update
from hocket.errors import InvalidUpdate

HALF = SubmodelSpec((0.5,), ChannelRule.RANDOM, seed=3)
OTHERS = {
    "another draw": replace(HALF, seed=4),
    "another width": replace(HALF, keep=(0.25,)),
    "another rule": SubmodelSpec((0.5,)),
    "all of it": FULL,
}


def taken(spec: SubmodelSpec) -> Coordinator[float, None]:
    """Device a trains that part of the first version."""
    c = coordinator()
    c.handle(DeviceSeen(device("a")), 0.0)
    c.handle(Subscribed(caller("a")), 0.0)
    c.handle(BaseTaken(caller("a"), Version(1), spec), 0.0)
    return c


def of(spec: SubmodelSpec, base_version: int = 1) -> Update[float]:
    made = update("a", base_version)
    return replace(made, header=replace(made.header, spec=spec))


@pytest.mark.parametrize("claimed", OTHERS.values(), ids=OTHERS)
def test_a_part_that_was_not_pulled_is_refused_before_and_after_its_body(
    claimed: SubmodelSpec,
) -> None:
    c = taken(HALF)
    before = (c.newest, c.statuses(1.0))
    with pytest.raises(InvalidUpdate, match=r"pulled 0\.5 of the channels \(random from seed 3"):
        c.offered(of(claimed).header)
    with pytest.raises(InvalidUpdate, match="push the part that was pulled"):
        c.handle(Pushed(of(claimed)), 1.0)
    assert (c.newest, c.statuses(1.0)) == before
    c.handle(Pushed(of(HALF)), 2.0)
    assert c.newest == Global(0.5, Version(2))


@pytest.mark.parametrize("trained", [FULL, *OTHERS.values()], ids=["full", *OTHERS])
def test_whoever_pulled_the_whole_model_may_have_trained_any_part(trained: SubmodelSpec) -> None:
    c = taken(FULL)
    c.handle(Pushed(of(trained)), 1.0)
    assert c.newest.version == 2


def test_the_part_that_was_pulled_last_of_a_version_counts() -> None:
    c = taken(HALF)
    again = OTHERS["another draw"]
    c.handle(BaseTaken(caller("a"), Version(1), again), 1.0)
    c.handle(Pushed(of(again)), 2.0)
    assert c.newest.version == 2


def test_of_a_base_that_an_earlier_life_handed_out_nothing_is_held_against_a_device() -> None:
    earlier = taken(HALF)
    c = Coordinator(earlier.rules, Halfway(), earlier.state)
    c.handle(DeviceSeen(device("a")), 0.0)
    c.handle(Pushed(of(OTHERS["another draw"])), 1.0)
    assert c.newest.version == 2


def test_a_spec_of_many_layers_is_told_in_one_short_line() -> None:
    text = SubmodelSpec((0.5,) * 5000, ChannelRule.ROLLING, 2**62).text
    assert len(text) < 120
    assert "\n" not in text
