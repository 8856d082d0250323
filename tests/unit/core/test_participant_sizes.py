"""At which size a device trains: what its rule is told, and what becomes of its answer."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from hocket.core.capability import Capability, CostLine
from hocket.core.ids import DeviceId, Version
from hocket.core.participant import Participant, ParticipantRules
from hocket.core.participant_events import (
    EpochDone,
    Failed,
    Pull,
    Pulled,
    Push,
    PushSettled,
    TrainEpoch,
    Triggered,
)
from hocket.core.sizing import HeteroFL, Whale
from hocket.core.sizing.size import Ability
from hocket.core.terms import Trigger
from hocket.core.update import Applied
from hocket.errors import DataError

ME = DeviceId("d1")
TRIGGER = Trigger("1-1", 1, 0, 60.0)
COSTS = tuple(CostLine(keep, keep, 0.0) for keep in (1.0, 0.5, 0.25))  # seconds of a step
SLOW = Ability(Capability(COSTS, num_examples=40))


def told(sizing: HeteroFL | Whale) -> ParticipantRules:
    return ParticipantRules(2, sizing=sizing, batch_size=16, model_bytes=1000)


def pull_of(device: Participant, ability: Ability = SLOW) -> Pull:
    (pull,) = device.handle(Triggered(TRIGGER, ability), 0.0)
    assert isinstance(pull, Pull)
    return pull


def finish(device: Participant, *fishers: float) -> Push:
    """From the pull to the push, which is settled."""
    (effect,) = device.handle(Pulled(Version(1)), 0.0)
    for fisher in fishers:
        assert isinstance(effect, TrainEpoch)
        (effect,) = device.handle(EpochDone(fisher), 1.0)
    assert isinstance(effect, Push)
    device.handle(PushSettled(Applied(Version(2), 1.0, 0)), 2.0)
    return effect


@pytest.mark.parametrize(("deadline_s", "keep"), [(6.0, ()), (5.9, (0.5,)), (1.6, (0.25,))])
def test_it_pulls_and_pushes_the_part_that_it_affords(
    deadline_s: float, keep: tuple[float, ...]
) -> None:
    """Two epochs of three steps, a second each at full width."""
    device = Participant(told(HeteroFL(deadline_s=deadline_s)), ME)
    pull = pull_of(device)
    assert pull.size.spec.keep == keep
    assert pull.size == device.size
    assert "6 s at full width" in pull.size.why
    assert finish(device, 0.0, 0.0).spec == pull.size.spec


def test_the_link_counts_both_ways() -> None:
    """1000 bytes of the whole model, 250 of half the width, up and down at 100 a second."""
    device = Participant(told(HeteroFL(deadline_s=9.0)), ME)
    linked = replace(SLOW, up_bytes_per_s=100.0, down_bytes_per_s=100.0)
    assert pull_of(device, linked).size.spec.keep == (0.5,)  # 3 s and 5 s, not 6 s and 20 s


def test_its_owners_limit_holds_for_every_rule() -> None:
    limited = replace(SLOW, keep=0.25)
    assert pull_of(Participant(told(HeteroFL()), ME), limited).size.spec.keep == (0.25,)
    eager = Whale(levels=(1.0, 0.5), delay=0, half_window=0, scale=1e-9)
    assert pull_of(Participant(told(eager), ME), limited).size.spec.keep == (0.25,)


def test_a_trigger_that_waits_is_sized_by_what_the_device_could_do_when_it_came() -> None:
    device = Participant(told(HeteroFL(deadline_s=6.0)), ME)
    pull_of(device)
    assert device.handle(Triggered(TRIGGER, replace(SLOW, keep=0.5)), 0.5) == []
    *_, pull = device.handle(Failed(), 1.0)
    assert isinstance(pull, Pull)
    assert pull.size.spec.keep == (0.5,)


def test_what_a_rule_has_learned_is_in_the_state_and_decides_after_a_restart() -> None:
    """The score of a training is its largest one; a window of one score, at no delay."""
    rules = told(Whale(levels=(1.0, 0.5), delay=0, half_window=0, beta=0.0, scale=40.0))
    device = Participant(rules, ME)
    assert pull_of(device).size.spec.keep == (0.5,)  # warming up
    finish(device, 1.0, 0.04)
    state = json.loads(json.dumps(device.to_dict()))
    again = Participant.from_dict(rules, ME, state)
    assert again.learned_sizes == {**device.learned_sizes}
    assert pull_of(again).size.spec.keep == ()  # 40 * sqrt(1) is worth all
    finish(again, 0.04, 0.01)
    assert pull_of(again).size.spec.keep == (0.5,)  # 40 * sqrt(0.04) is worth a fifth
    fresh = Participant(rules, ME)
    assert pull_of(fresh).size.spec.keep == (0.5,)


def test_a_training_that_fails_teaches_nothing() -> None:
    device = Participant(told(Whale(delay=0, half_window=0)), ME)
    pull_of(device)
    device.handle(Pulled(Version(1)), 0.0)
    device.handle(EpochDone(9.0), 1.0)
    device.handle(Failed(), 1.0)
    assert not device.learned_sizes


@pytest.mark.parametrize("damage", [{"sizes": 3}, {"sizes": ["keep"]}])
def test_a_damaged_memory_is_a_typed_error(damage: dict[str, object]) -> None:
    state = Participant(told(Whale()), ME).to_dict() | damage
    with pytest.raises(DataError, match="damaged"):
        Participant.from_dict(told(Whale()), ME, state)


def test_a_memory_of_another_rule_is_as_none() -> None:
    state = Participant(told(Whale()), ME).to_dict() | {"sizes": {"scores": "many", "keep": []}}
    device = Participant.from_dict(told(Whale()), ME, state)
    pull_of(device)
    assert finish(device, 0.5, 0.5).spec.keep == (0.0625,)
