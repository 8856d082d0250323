"""DISTREAL's other answer to a mini-batch that affords no row: it is left out."""

from __future__ import annotations

from dataclasses import replace

import torch
from support.learners import Ledger, base, delta, examples, model, terms

from hocket.core.sizing import Distreal, terms_of
from hocket.core.sizing.size import WHOLE
from hocket.learn.blueprint import Blueprint
from hocket.learn.local_learner import LocalLearner
from hocket.learn.submodels.dropout import DropoutRow, DropoutTable
from hocket.learn.submodels.mini_batch import FromTable

TABLE = DropoutTable((DropoutRow(0.3, (0.5, 0.5)), DropoutRow(1.0, (0.0, 0.0))))
SKIPPING = replace(terms(), sizing=terms_of(Distreal(none_fits="skip")))  # its cheapest row: 0.3


def learner(granted: float, *, skips: bool) -> tuple[LocalLearner, Ledger]:
    ledger = Ledger(granted=granted)
    told = SKIPPING if skips else replace(SKIPPING, sizing=terms_of(Distreal()))
    one = LocalLearner(Blueprint.of(model(), told), examples(), ledger, name="a")
    one.start(base(), 1)
    return one, ledger


def test_without_skipping_the_cheapest_row_is_taken() -> None:
    rows = FromTable(TABLE)
    assert [rows.part(share, 1, 3).cost for share in (0.1, 0.3, 0.99, 1.0)] == [0.3, 0.3, 0.3, 1.0]
    assert not rows.part(0.1, 1, 3).is_skipped


def test_what_affords_no_row_is_skipped_but_for_the_first_of_an_epoch() -> None:
    rows = FromTable(TABLE, skips=True)
    assert [rows.part(0.1, 1, number).is_skipped for number in range(3)] == [False, True, True]
    assert rows.part(0.1, 2, 0).cost == 0.3
    assert not rows.part(0.1, 1, 1).is_whole
    assert rows.part(0.3, 1, 1).cost == 0.3  # just affords it
    assert rows.part(1.0, 1, 1).is_whole


def test_a_device_that_affords_nothing_takes_one_step_an_epoch() -> None:
    one, ledger = learner(0.01, skips=True)
    result = one.train_epoch(1)
    assert result.steps == 1
    assert len(ledger.charges) == 1
    assert result.seconds == ledger.now_s
    every, charged = learner(0.01, skips=False)
    assert every.train_epoch(1).steps == 3  # 40 examples in batches of 16
    assert len(charged.charges) == 3


def test_skipping_changes_nothing_where_a_row_is_afforded() -> None:
    deltas = []
    for skips in (True, False):
        one, _ = learner(0.6, skips=skips)
        one.train_epoch(1)
        deltas.append(delta(one.encode()))
    assert torch.equal(*deltas)


def test_a_fleet_is_charged_nothing_for_what_is_skipped() -> None:
    """The simulator asks the same parts for their costs before it trains."""
    blueprint = Blueprint.of(model(), SKIPPING)
    parts = blueprint.parts(WHOLE, examples().input_shape, "a", 1)
    costs = [parts.part(0.01, 1, number).cost for number in range(3)]
    assert costs[0] > 0.0
    assert costs[1:] == [0.0, 0.0]
