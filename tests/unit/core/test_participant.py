"""A device's rules. One state machine, so one file: its tests share how a training is told."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from hocket.core.ids import DeviceId, Version
from hocket.core.participant import Participant, ParticipantRules, Phase
from hocket.core.participant_events import (
    Effect,
    EpochDone,
    Event,
    Failed,
    FinishedTask,
    ForgetResidual,
    FreshArrived,
    GiveUpFresh,
    Merge,
    Merged,
    Pull,
    Pulled,
    PullFresh,
    Push,
    PushAgain,
    PushRefused,
    PushSettled,
    PutBackResidual,
    Rest,
    Stop,
    TrainEpoch,
    Triggered,
    UnsettledPush,
)
from hocket.core.refresh import RefreshRules
from hocket.core.sizing.size import Size
from hocket.core.terms import RefreshTerms, Trigger
from hocket.core.update import Applied, Buffered, Dropped, DropReason, RefreshReport
from hocket.errors import DataError, NotFinite, TaskError, UnknownVersion

ME = DeviceId("d1")
APPLIED = Applied(Version(5), 0.25, 0)
DROPPED = [Dropped(reason, "pull anew", 100) for reason in DropReason]
REFRESH = RefreshTerms(enabled=True, rules=RefreshRules(upsilon0=1.0))


def trigger(slot: int = 2, version: int = 1, trigger_id: str = "1-1") -> Trigger:
    return Trigger(trigger_id, version, slot, 60.0)


def pull(order: Trigger) -> Pull:
    """Of the whole model, by a device that has measured nothing."""
    why = "full, as the task says: speed not measured, link not measured"
    return Pull(order, Size(why=why))


def device(refresh: RefreshTerms = REFRESH, epochs: int = 4, **rules: Any) -> Participant:
    return Participant(ParticipantRules(epochs, refresh, **rules), ME)


def tell(participant: Participant, *events: Event, now: float = 0.0) -> list[Effect]:
    effects: list[Effect] = []
    for event in events:
        effects = participant.handle(event, now)
    return effects


def train_once(
    participant: Participant,
    *,
    slot: int = 2,
    base: int = 1,
    fresh: int | None = None,
    reward: float = 0.0,
    inner_product: float = 0.0,
) -> list[Effect]:
    """One whole training, its push settled; everything that was asked for."""
    asked = tell(participant, Triggered(trigger(slot)))
    for effect in asked:  # grows while we walk it
        match effect:
            case Pull():
                asked += tell(participant, Pulled(Version(base)))
            case TrainEpoch():
                asked += tell(participant, EpochDone())
            case PullFresh():
                arrived = None if fresh is None else Version(fresh)
                asked += tell(participant, FreshArrived(arrived))
            case Merge():
                asked += tell(participant, Merged(reward, inner_product))
            case Push():
                asked += tell(participant, PushSettled(APPLIED))
    return asked


def test_one_training_with_a_merge_in_its_middle() -> None:
    d = device(epochs=3)
    order = trigger()
    assert d.handle(Triggered(order), 0.0) == [pull(order)]
    assert d.handle(Pulled(Version(1)), 1.0) == [TrainEpoch(1)]
    assert d.handle(EpochDone(), 3.0) == [TrainEpoch(2)]
    assert d.handle(EpochDone(), 5.5) == [PullFresh(Version(1)), TrainEpoch(3)]
    assert d.handle(FreshArrived(Version(4)), 6.0) == []  # it trains on meanwhile
    # fedasmu.md 1.4: g = 4, o = 1, upsilon = 1: phi 0.25, beta 0.2
    [merge] = d.handle(EpochDone(), 7.0)
    assert isinstance(merge, Merge)
    assert merge.version == Version(4)
    assert merge.beta == pytest.approx(0.2)
    # Three epochs of 2, 2.5 and 1.5 seconds; the pulls and the merge are not training.
    report = RefreshReport(2, Version(4), 0.125)
    assert d.handle(Merged(0.125, 0.0), 7.5) == [Push(Version(1), 6.0, report)]
    assert d.handle(PushSettled(APPLIED), 10.0) == [Rest()]
    assert d.phase is Phase.RESTING


def test_a_fresh_model_is_merged_at_the_end_of_the_epoch_in_which_it_comes_once() -> None:
    d = device(epochs=4)
    tell(d, Triggered(trigger(slot=1)), Pulled(Version(1)))
    assert tell(d, EpochDone()) == [PullFresh(Version(1)), TrainEpoch(2)]
    assert tell(d, EpochDone()) == [TrainEpoch(3)]  # still on its way
    assert tell(d, FreshArrived(Version(9))) == []
    assert [type(effect) for effect in tell(d, EpochDone())] == [Merge]
    assert tell(d, Merged(0.0, 0.0)) == [TrainEpoch(4)]
    assert [type(effect) for effect in tell(d, EpochDone())] == [Push]


def test_a_fresh_model_that_comes_too_late_is_given_up_and_means_nothing_afterwards() -> None:
    d = device(epochs=2)
    tell(d, Triggered(trigger(slot=1)), Pulled(Version(1)), EpochDone())
    assert tell(d, EpochDone()) == [GiveUpFresh(), Push(Version(1), 0.0, None)]
    assert tell(d, FreshArrived(Version(9)), PushSettled(APPLIED)) == [Rest()]
    tell(d, Triggered(trigger(slot=1)), Pulled(Version(2)))
    assert tell(d, FreshArrived(Version(9))) == []  # asked for by the training before
    assert tell(d, EpochDone()) == [PullFresh(Version(2)), TrainEpoch(2)]
    assert tell(d, FreshArrived(None), EpochDone()) == [Push(Version(2), 0.0, None)]


def test_a_training_given_up_gives_up_its_fresh_model_too() -> None:
    d = device()
    tell(d, Triggered(trigger(slot=1)), Pulled(Version(1)), EpochDone())
    assert tell(d, Failed()) == [GiveUpFresh(), Rest(gave_up=True)]
    assert tell(d, Triggered(trigger(slot=1)), FinishedTask("over")) == [Stop("over")]


@pytest.mark.parametrize("fresh", [None, 1], ids=["unchanged", "the same version"])
def test_where_nothing_newer_exists_nothing_is_merged_and_nothing_learned(
    fresh: int | None,
) -> None:
    d = device()
    before = d.to_dict() | {"trainings": 1, "last_base": 1}
    asked = train_once(d, fresh=fresh)
    assert not [effect for effect in asked if isinstance(effect, Merge)]
    assert [effect for effect in asked if isinstance(effect, Push)] == [Push(Version(1), 0.0, None)]
    assert d.to_dict() == before


@pytest.mark.parametrize("fresh", [None, 9])
@pytest.mark.parametrize("slot", [1, 2, 3])
def test_a_training_has_exactly_one_extra_download(slot: int, fresh: int | None) -> None:
    # fedasmu.md 1.9 item 8
    asked = train_once(device(), slot=slot, fresh=fresh)
    assert [type(effect) for effect in asked].count(PullFresh) == 1
    assert asked.index(PullFresh(Version(1))) == asked.index(TrainEpoch(slot)) + 1
    assert asked.index(TrainEpoch(slot + 1)) > asked.index(PullFresh(Version(1)))


@pytest.mark.parametrize(
    ("refresh", "epochs", "slot"),
    [
        (REFRESH, 4, 0),
        (RefreshTerms(enabled=False), 4, 2),
        (REFRESH, 1, 1),
        (RefreshTerms(enabled=False, fixed_slot=2), 4, 2),
    ],
    ids=["slot 0", "refresh off", "a single epoch", "off though a slot is fixed"],
)
def test_without_a_slot_there_is_no_extra_download(
    refresh: RefreshTerms, epochs: int, slot: int
) -> None:
    asked = train_once(device(refresh, epochs), slot=slot, fresh=9)
    assert [type(effect) for effect in asked] == [Pull, *[TrainEpoch] * epochs, Push, Rest]


def test_sequential_training_never_merges() -> None:
    # fedasmu.md 1.9 item 9: one device at a time, so g == o in each training
    d = device()
    asked = [effect for base in range(1, 6) for effect in train_once(d, base=base, fresh=base)]
    assert not [effect for effect in asked if isinstance(effect, Merge)]
    assert (d.slots, d.controls) == (None, REFRESH.rules.start())


def test_a_slot_behind_the_last_useful_one_is_moved_to_it() -> None:
    asked = train_once(device(epochs=3), slot=7)
    assert asked.index(PullFresh(Version(1))) == asked.index(TrainEpoch(2)) + 1


def test_a_fixed_slot_beats_the_trigger_and_the_table() -> None:
    d = device(RefreshTerms(enabled=True, fixed_slot=3))
    for base in (1, 2):
        asked = train_once(d, slot=1, base=base, fresh=9, reward=1.0)
        assert asked.index(PullFresh(Version(base))) == asked.index(TrainEpoch(3)) + 1


def test_the_server_names_slots_until_the_first_merge_then_the_own_table_moves_them() -> None:
    d = device(epochs=6, seed=3)
    train_once(d, slot=2)
    train_once(d, slot=4)  # nothing was merged yet: still the server's word
    assert (d.slot, d.slots) == (4, None)
    train_once(d, slot=3, fresh=9, reward=0.2)
    assert d.slots is not None
    visited = []
    for _ in range(40):
        train_once(d, slot=0, fresh=9, reward=0.2)
        visited.append(d.slot)
    assert all(1 <= slot <= 5 for slot in visited)
    steps = [abs(b - a) for a, b in zip([3, *visited], visited, strict=False)]
    assert set(steps) == {0, 1}


def test_rewards_reach_the_own_table() -> None:
    # fedasmu.md 1.9 item 10: reward 0.2 at rate 0.1 on an empty table gives 0.02
    d = device()
    train_once(d, slot=2, fresh=9, reward=0.1)
    train_once(d, slot=0, fresh=9, reward=0.2)
    assert d.slots is not None
    assert max(value for row in d.slots.values for value in row) == pytest.approx(0.02)


def test_controls_follow_the_gradient_of_the_merge() -> None:
    # g = 4, o = 1, gamma = upsilon = mu = 1: phi 0.25, K_b = 0.64 (fedasmu.md 1.4)
    d = device(RefreshTerms(enabled=True, rules=RefreshRules(upsilon0=1.0, eta_gamma=0.1)))
    train_once(d, fresh=4, inner_product=-0.5)
    # dF/dgamma = -0.5 * 0.64 * 1/2 * (1 - 1/2) = -0.08
    assert d.controls.gamma == pytest.approx(1.008)


@pytest.mark.parametrize(
    ("reward", "inner_product"), [(math.nan, 0.1), (math.inf, 0.1), (0.1, math.nan)]
)
def test_a_merge_of_which_nothing_finite_came_teaches_nothing(
    reward: float, inner_product: float
) -> None:
    d = device()
    asked = train_once(d, fresh=9, reward=reward, inner_product=inner_product)
    assert (d.controls, d.slots) == (REFRESH.rules.start(), None)
    assert Push(Version(1), 0.0, None) in asked


@pytest.mark.parametrize(
    "until",
    [
        [],
        [Pulled(Version(1))],
        [Pulled(Version(1)), EpochDone(), EpochDone()],
        [Pulled(Version(1)), EpochDone(), EpochDone(), FreshArrived(Version(9)), EpochDone()],
        [Pulled(Version(1)), *[EpochDone()] * 2, FreshArrived(None), *[EpochDone()] * 2],
    ],
    ids=["pulling", "training", "asking", "merging", "pushing"],
)
def test_a_trigger_while_busy_waits(until: list[Event]) -> None:
    d = device()
    tell(d, Triggered(trigger()), *until)
    phase = d.phase
    assert d.busy
    assert tell(d, Triggered(trigger(trigger_id="2-2"))) == []
    assert (d.phase, d.trainings) == (phase, 1)


PUSHING: list[Event] = [Triggered(trigger(0)), Pulled(Version(1)), *[EpochDone()] * 4]


@pytest.mark.parametrize(
    "answer",
    [*map(PushSettled, DROPPED), PushRefused(UnknownVersion("version 1 is not retained"))],
    ids=lambda answer: str(answer)[:40],
)
def test_an_update_that_was_not_used_goes_back_into_the_residual(answer: Event) -> None:
    assert tell(device(), *PUSHING, answer) == [PutBackResidual(), Rest()]


def test_an_update_too_large_for_the_model_is_not_carried_along_for_ever() -> None:
    refused = PushRefused(NotFinite("the update's squared norm overflows float32"))
    assert tell(device(), *PUSHING, refused) == [ForgetResidual(), Rest()]


@pytest.mark.parametrize("outcome", [APPLIED, Buffered(Version(2), 0.5, 0, 1, 2)])
def test_an_update_that_was_used_does_not(outcome: Any) -> None:
    assert tell(device(), *PUSHING, PushSettled(outcome)) == [Rest()]


def test_a_trigger_that_overtakes_the_outcome_of_the_push_begins_after_it() -> None:
    d = device()
    early = trigger(0, trigger_id="2-2")
    assert tell(d, *PUSHING, Triggered(early)) == []
    assert d.handle(PushSettled(APPLIED), 9.0) == [Rest(), pull(early)]
    assert d.trainings == 2


def test_a_device_with_a_trigger_in_hand_need_not_say_that_it_gave_up() -> None:
    d = device()
    early = trigger(0, trigger_id="2-2")
    assert tell(d, *PUSHING[:2], Triggered(early), Failed()) == [Rest(), pull(early)]


@pytest.mark.parametrize("length", range(1, len(PUSHING) + 1))
def test_a_training_that_fails_anywhere_ends_in_rest_and_the_next_one_works(length: int) -> None:
    d = device()
    assert tell(d, *PUSHING[:length], Failed()) == [Rest(gave_up=True)]
    assert train_once(d)[-1] == Rest()


def test_late_events_of_a_training_given_up_do_nothing() -> None:
    d = device()
    tell(d, Triggered(trigger()), Failed())
    late: list[Event] = [
        Pulled(Version(1)),
        EpochDone(),
        FreshArrived(Version(2)),
        Merged(0.1, 0.1),
        PushSettled(APPLIED),
        Failed(),
    ]
    assert [d.handle(event, 0.0) for event in late] == [[]] * len(late)


@pytest.mark.parametrize("length", range(len(PUSHING)))
def test_the_end_of_the_task_ends_a_training_at_once(length: int) -> None:
    d = device()
    assert tell(d, *PUSHING[:length], FinishedTask("accurate enough")) == [Stop("accurate enough")]
    assert tell(d, EpochDone()) == tell(d, Triggered(trigger())) == []


def test_a_push_on_its_way_is_settled_before_the_device_stops() -> None:
    d = device()
    assert tell(d, *PUSHING, FinishedTask("done")) == []
    assert tell(d, PushSettled(DROPPED[2])) == [PutBackResidual(), Stop("done")]


@pytest.mark.parametrize(
    ("second_base", "forgets"), [(1, False), (10, False), (11, False), (12, True), (0, True)]
)
def test_a_residual_from_long_ago_or_from_the_future_is_forgotten(
    second_base: int, *, forgets: bool
) -> None:
    d = device(staleness_limit=10)
    train_once(d, base=1)
    asked = tell(d, Triggered(trigger()), Pulled(Version(second_base)))
    assert asked == ([ForgetResidual()] if forgets else []) + [TrainEpoch(1)]


def test_a_restarted_device_goes_on_as_one_that_never_stopped() -> None:
    rules = ParticipantRules(6, REFRESH, seed=7)
    steady = Participant(rules, ME)
    restarted = Participant(rules, ME)
    for base in range(1, 12):
        for d in (steady, restarted):
            train_once(d, base=base, fresh=base + 3, reward=0.1 * base, inner_product=-0.2)
        kept = json.loads(json.dumps(restarted.to_dict()))
        restarted = Participant.from_dict(rules, ME, kept)
        assert restarted.to_dict() == steady.to_dict()


def test_a_restarted_device_first_finishes_the_push_of_its_earlier_life() -> None:
    d = Participant.from_dict(ParticipantRules(4, REFRESH), ME, device().to_dict())
    assert d.handle(UnsettledPush(), 0.0) == [PushAgain()]
    assert (d.phase, d.busy) == (Phase.PUSHING, True)
    early = trigger(0, trigger_id="2-2")
    assert d.handle(Triggered(early), 1.0) == []
    assert d.handle(PushSettled(APPLIED), 2.0) == [Rest(), pull(early)]


@pytest.mark.parametrize(
    ("answer", "first"),
    [
        (PushSettled(APPLIED), []),
        (PushSettled(DROPPED[0]), [PutBackResidual()]),
        (PushRefused(UnknownVersion("version 1 is not retained")), [PutBackResidual()]),
        (PushRefused(NotFinite("too large")), [ForgetResidual()]),
    ],
    ids=["applied", "dropped", "forgotten", "not finite"],
)
def test_whatever_comes_of_that_push_the_device_goes_on(answer: Event, first: list[Effect]) -> None:
    d = device()
    assert tell(d, UnsettledPush(), answer) == [*first, Rest()]
    assert train_once(d)[-1] == Rest()


def test_the_end_of_the_task_waits_for_the_push_of_an_earlier_life() -> None:
    d = device()
    assert tell(d, UnsettledPush(), FinishedTask("done")) == []
    assert tell(d, PushSettled(APPLIED)) == [Stop("done")]


def test_a_push_of_an_earlier_life_is_told_of_before_all_else() -> None:
    d = device()
    tell(d, Triggered(trigger()))
    assert tell(d, UnsettledPush()) == []
    assert d.phase is Phase.PULLING


def test_a_table_for_another_number_of_epochs_is_left_out() -> None:
    d = device(epochs=4)
    train_once(d, fresh=9, reward=0.1)
    moved = Participant.from_dict(ParticipantRules(6, REFRESH), ME, d.to_dict())
    assert moved.slots is None
    assert moved.controls.gamma == d.controls.gamma


@pytest.mark.parametrize(
    "damage",
    [{"gamma": "much"}, {"gamma": -1.0}, {"gamma": math.nan}, {"upsilon": 2.0}, {"slots": {}}],
    ids=str,
)
def test_damaged_state_is_a_typed_error(damage: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="delete it"):
        Participant.from_dict(ParticipantRules(4, REFRESH), ME, device().to_dict() | damage)


def test_state_without_a_field_is_a_typed_error() -> None:
    with pytest.raises(DataError, match="delete it"):
        Participant.from_dict(ParticipantRules(4, REFRESH), ME, {})


def test_a_device_trains_at_least_one_epoch() -> None:
    with pytest.raises(TaskError, match="local_epochs"):
        ParticipantRules(0)
