"""Which row a mini-batch takes when its device lacks memory: a step that fails trains nothing."""

from __future__ import annotations

import math

import pytest

from hocket.learn.submodels.dropout import DropoutRow, DropoutTable
from hocket.learn.submodels.mini_batch import FromTable

# By cost; late layers hold few values and cost much, so the cheapest row is not the smallest.
CHEAP = DropoutRow(0.2, (0.0, 0.8), memory=0.7)
SMALL = DropoutRow(0.5, (0.6, 0.1), memory=0.3)
LARGE = DropoutRow(0.6, (0.1, 0.3), memory=0.8)
WHOLE = DropoutRow(1.0, (0.0, 0.0), memory=1.0)
TABLE = DropoutTable((CHEAP, SMALL, LARGE, WHOLE))


@pytest.mark.parametrize(
    ("share", "memory", "row"),
    [
        (1.0, 1.0, WHOLE),
        (1.0, 0.9, LARGE),
        (0.55, 0.9, SMALL),  # affords two, of which this is the dearer one
        (0.3, 0.9, CHEAP),
        (0.1, 0.9, CHEAP),  # too slow for any: the cheapest that memory has room for
        (0.1, 0.5, SMALL),  # which is another one here: rather late than out of memory
        (0.1, 0.7, CHEAP),
        (1.0, 0.29, SMALL),  # no room for any: what needs the least, not what costs the least
        (0.1, 0.0, SMALL),
        (1.0, math.nan, SMALL),
    ],
)
def test_memory_goes_before_speed(share: float, memory: float, row: DropoutRow) -> None:
    assert TABLE.choose(share, memory) == row
    assert FromTable(TABLE).part(share, 1, 0, memory).dropout == row.vector


def test_of_rows_that_need_as_little_the_cheapest_is_taken() -> None:
    dear, cheap = DropoutRow(0.5, (0.5,), memory=0.4), DropoutRow(0.3, (0.7,), memory=0.4)
    assert DropoutTable((cheap, dear)).choose(1.0, 0.1) == cheap


def test_what_memory_has_no_room_for_is_skipped_but_for_the_first_of_an_epoch() -> None:
    rows = FromTable(TABLE, skips=True)
    assert rows.part(1.0, 1, 1, memory=0.2).is_skipped
    assert rows.part(0.1, 1, 1, memory=0.5).is_skipped
    assert rows.part(1.0, 1, 0, memory=0.2).dropout == SMALL.vector
    assert not rows.part(0.5, 1, 1, memory=0.3).is_skipped
