"""The order of the idle devices: what a sorted list would answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.steps import count_steps

from hocket.core.idle import IdleOrder
from hocket.core.ids import DeviceId

NAMES = st.sampled_from([DeviceId(f"d{number:02}") for number in range(40)] + [DeviceId("")])


def crowd(count: int) -> IdleOrder:
    order = IdleOrder()
    for number in range(count):
        order.put(DeviceId(f"d{number * 7919 % count}"))  # in no order at all
    return order


@given(st.lists(st.tuples(st.booleans(), NAMES), max_size=120), st.frozensets(NAMES, max_size=9))
def test_it_answers_as_a_sorted_list_does(
    changes: list[tuple[bool, DeviceId]], barred: frozenset[DeviceId]
) -> None:
    order, plain = IdleOrder(block=2), set[DeviceId]()
    for comes, name in changes:
        if comes:
            order.put(name)
            plain.add(name)
        else:
            order.take_out(name)
            plain.discard(name)
        assert len(order) == len(plain)
        assert (name in order) == comes
    assert [order.at(rank) for rank in range(len(order))] == sorted(plain)
    assert [order.rank_of(name) for name in sorted(plain)] == list(range(len(plain)))
    rest = order.ranks_without(barred)
    assert [rest.at(rank) for rank in range(len(rest))] == sorted(plain - barred)


@pytest.mark.parametrize("rank", [-1, 2])
def test_a_rank_that_no_device_has_is_refused(rank: int) -> None:
    order = IdleOrder()
    order.put(DeviceId("a"))
    order.put(DeviceId("b"))
    with pytest.raises(IndexError, match=f"rank {rank} of 2"):
        order.at(rank)
    with pytest.raises(IndexError):
        order.ranks_without([DeviceId("a")]).at(1)


def test_what_an_answer_costs_hardly_grows_with_the_crowd() -> None:
    def visit(order: IdleOrder) -> None:
        for rank in (0, 999, 1_999):
            name = order.at(rank)
            order.take_out(name)
            order.put(name)

    few, many = crowd(2_000), crowd(40_000)
    assert count_steps(lambda: visit(many)) < 3 * count_steps(lambda: visit(few))  # not 20 times
