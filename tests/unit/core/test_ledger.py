"""The same update_id gets the same answer, within bounded memory."""

from __future__ import annotations

import pytest
from support.scalar import update

from hocket.core.ids import UpdateId, Version
from hocket.core.ledger import Ledger
from hocket.core.update import Applied, Outcome
from hocket.errors import InvalidUpdate


def settle(ledger: Ledger, name: str, base: int, *, oldest: int) -> Outcome:
    outcome = Applied(Version(base + 1), 0.5, 0)
    ledger.settle(update("a", base, update_id=name).header, outcome, Version(oldest))
    return outcome


def known(ledger: Ledger, *names: str) -> list[bool]:
    return [
        ledger.outcome(UpdateId(name), update("a", 1).header.device_id) is not None
        for name in names
    ]


def test_the_first_answer_is_given_again_to_its_own_device_only() -> None:
    ledger = Ledger()
    outcome = settle(ledger, "x", 1, oldest=1)
    header = update("a", 1, update_id="x").header
    assert ledger.outcome(header.update_id, header.device_id) == outcome
    assert ledger.outcome(UpdateId("y"), header.device_id) is None
    with pytest.raises(InvalidUpdate, match="another device"):
        ledger.outcome(header.update_id, update("b", 1).header.device_id)


def test_beyond_its_size_the_oldest_answers_are_forgotten() -> None:
    ledger = Ledger(entries=2)
    for base, name in enumerate("wxyz", start=1):
        settle(ledger, name, base, oldest=base + 1)
    assert (len(ledger), known(ledger, *"wxyz")) == (2, [False, False, True, True])


def test_an_answer_is_kept_while_its_update_could_still_be_applied() -> None:
    ledger = Ledger(entries=1)
    settle(ledger, "slow", 1, oldest=1)
    for base, name in enumerate("xyz", start=2):
        settle(ledger, name, base, oldest=1)  # somebody holds base 1 yet
    assert (len(ledger), known(ledger, "slow", *"xyz")) == (4, [True] * 4)
    settle(ledger, "last", 5, oldest=4)
    assert known(ledger, "slow", *"xyz", "last") == [False, False, False, True, True]


def test_what_an_earlier_life_answered_is_answered_the_same() -> None:
    ledger = Ledger(entries=2)
    header, outcome = update("a", 1, update_id="x").header, Applied(Version(2), 0.5, 0)
    ledger.note(header.update_id, header.device_id, header.base_version, outcome)
    assert ledger.outcome(header.update_id, header.device_id) == outcome
