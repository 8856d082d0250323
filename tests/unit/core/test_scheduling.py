"""Pace, selection and the estimate behind it."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.pools import Listed
from support.scalar import WORK, device
from support.steps import count_steps

from hocket.core.capability import Capability, CostLine, fit_cost_line
from hocket.core.chance import Stream, stream_seed
from hocket.core.device import Device, DeviceState
from hocket.core.ids import DeviceId, Incarnation
from hocket.core.link import Link
from hocket.core.scheduling import (
    AnySelection,
    ByCapability,
    Candidate,
    Concurrent,
    Estimates,
    InTime,
    Oort,
    Periodic,
    Pool,
    Progress,
    Rounds,
    Tifl,
    Uniform,
    expected_s,
)
from hocket.errors import TaskError


def candidates(*waits: float, expected: float | None = 1.0) -> Listed:
    return Listed(Candidate(DeviceId(f"d{i}"), wait, expected) for i, wait in enumerate(waits))


def choose(selection: AnySelection, pool: Pool, count: int, chance: Stream) -> list[DeviceId]:
    """At the very start, with nothing learned."""
    memory: Any = selection.begin()
    return selection.choose(pool, count, chance, memory)


@pytest.mark.parametrize(
    "selection", [Uniform(), ByCapability(), InTime(1e6), Oort(), Tifl()], ids=lambda s: s.kind
)
class TestEverySelection:
    def test_never_chooses_more_than_asked_or_one_twice(self, selection: AnySelection) -> None:
        for seed in range(50):
            chosen = choose(selection, candidates(0, 1, 2, 3), 3, Stream(seed))
            assert len(set(chosen)) == len(chosen) == 3
        assert len(choose(selection, candidates(0, 1), 9, Stream(0))) == 2
        assert choose(selection, Listed([]), 3, Stream(0)) == []

    def test_the_same_chance_chooses_the_same(self, selection: AnySelection) -> None:
        pick = [choose(selection, candidates(0, 5, 9), 2, Stream(3, "x")) for _ in range(2)]
        assert pick[0] == pick[1]

    def test_every_device_is_chosen_in_the_end(self, selection: AnySelection) -> None:
        waited = {DeviceId("quick"): 0.0, DeviceId("slow"): 0.0}
        seen: set[DeviceId] = set()
        memory: Any = selection.begin()
        for turn in range(400):
            idle = [
                Candidate(DeviceId("quick"), waited[DeviceId("quick")], 0.0),
                Candidate(DeviceId("slow"), waited[DeviceId("slow")], 500.0),
            ]
            [chosen] = selection.choose(Listed(idle), 1, Stream(turn), memory)
            seen.add(chosen)
            waited = {name: wait + 1.0 for name, wait in waited.items()} | {chosen: 0.0}
        assert seen == set(waited)


def test_by_capability_prefers_the_quick_in_proportion() -> None:
    idle = [Candidate(DeviceId("quick"), 0.0, 1.0), Candidate(DeviceId("slow"), 0.0, 9.0)]
    count = Counter(ByCapability().choose(Listed(idle), 1, Stream(i), None)[0] for i in range(4000))
    assert count[DeviceId("quick")] / 4000 == pytest.approx(5 / 6, abs=0.02)  # 1/2 to 1/10


@given(st.integers(0, 60), st.integers(0, 70), st.integers(0, 2**40))
def test_equal_chances_are_drawn_as_equal_weights_were(n: int, count: int, seed: int) -> None:
    quick, plain = Stream(seed), Stream(seed)
    assert quick.sample(n, count) == plain.weighted(range(n), [1.0] * n, count)
    assert quick.random() == plain.random()  # and as many draws were made


def test_drawing_a_few_of_very_many_costs_what_it_costs_of_few() -> None:
    few, many = count_steps(lambda: Stream(1).sample(40, 10)), 0
    for seed in range(20):
        many = max(many, count_steps(lambda: Stream(seed).sample(10**12, 10)))  # noqa: B023 -- called at once
    assert many < 2 * few


def test_by_capability_looks_at_no_more_than_it_considers() -> None:
    idle = candidates(*[5.0] * 12, expected=2.0)
    chosen = Counter[DeviceId]()
    for seed in range(600):
        chosen.update(ByCapability(consider=4).choose(idle, 2, Stream(seed), None))
    assert idle.looked_at == 600 * 4
    assert len(chosen) == 12
    assert min(chosen.values()) > 60  # 100 on the average: all have the same chance
    assert len(set(ByCapability(consider=1).choose(idle, 3, Stream(0), None))) == 3
    with pytest.raises(TaskError, match=r"selection\.consider"):
        ByCapability(consider=0)


def test_who_would_be_late_is_never_asked_and_who_was_never_measured_is() -> None:
    expected = (9.0, 10.0, 10.1, None, 60.0)
    idle = Listed(Candidate(DeviceId(f"d{i}"), 5.0, s) for i, s in enumerate(expected))
    chosen = Counter[DeviceId]()
    for seed in range(300):
        chosen.update(InTime(deadline_s=10.0).choose(idle, 1, Stream(seed), None))
    assert set(chosen) == {"d0", "d1", "d3"}
    assert min(chosen.values()) > 70  # 100 on the average
    assert len(InTime(deadline_s=10.0).choose(idle, 5, Stream(0), None)) == 3
    assert InTime(deadline_s=1.0).choose(candidates(1, 2, expected=2.0), 2, Stream(0), None) == []
    with pytest.raises(TaskError, match=r"selection\.deadline_s"):
        InTime(deadline_s=0.0)


def test_by_capability_goes_through_all_of_no_more_than_it_considers() -> None:
    for seed in range(20):
        idle = [Candidate(DeviceId(f"d{i}"), float(i), 3.0) for i in range(12)]
        weights = [(1.0 + c.waited_s) / 4.0 for c in idle]
        plain = [c.device_id for c in Stream(seed).weighted(idle, weights, 5)]
        assert ByCapability(consider=12).choose(Listed(idle), 5, Stream(seed), None) == plain


def test_expected_seconds_are_training_plus_transfer() -> None:
    known = device("a", step_s=0.1)
    assert expected_s(known, WORK) == pytest.approx(2.0)  # 2 epochs of 10 batches
    link = Link(up_bytes_per_s=500.0, down_bytes_per_s=2_000.0, rtt_s=0.05)
    linked = type(known)(
        known.device_id, known.incarnation, known.state, known.capability, links=(link,)
    )
    assert expected_s(linked, WORK) == pytest.approx(2.0 + 2.0 + 2.0 + 0.1)


def test_no_device_can_spoil_the_choice_by_what_it_says_of_itself() -> None:
    boast = Capability(costs=(CostLine(1.0, 1e308, 1e308),), num_examples=0)  # 0 times infinity
    lying = Device(DeviceId("a"), Incarnation(1), DeviceState.ALIVE, boast)
    assert expected_s(lying, WORK) == math.inf


def test_an_estimate_is_kept_until_the_device_says_something_else() -> None:
    estimates = Estimates(WORK)
    slow, quick = device("a", step_s=0.1), device("a", step_s=0.01)
    for record in (slow, slow, quick, slow):
        assert estimates.expected_s(record) == expected_s(record, WORK)
    assert count_steps(lambda: estimates.expected_s(slow)) < count_steps(
        lambda: expected_s(slow, WORK)
    )


def test_fit_recovers_a_line_and_never_goes_below_zero() -> None:
    line = fit_cost_line(0.5, [(b, 0.02 + 0.003 * b) for b in (1, 8, 32)])
    assert line.fixed_s == pytest.approx(0.02)
    assert line.per_example_s == pytest.approx(0.003)
    assert fit_cost_line(1.0, [(8, 0.5), (32, 0.1)]).per_example_s == 0.0
    steep = fit_cost_line(1.0, [(10, 0.0), (20, 1.0)])
    assert steep.fixed_s == 0.0
    assert steep.per_example_s == pytest.approx(0.04)  # 20 / 500
    assert fit_cost_line(1.0, [(10, 2.0)]).step_s(5) == 1.0
    with pytest.raises(ValueError, match="at least one"):
        fit_cost_line(1.0, [])


def test_paces() -> None:
    at = Progress(now=10.0, last_fired=0.0, in_flight=4, contributed=3, in_round=4)
    assert Periodic(10.0, 6).due(at) == 6
    assert Periodic(10.1, 6).due(at) == 0
    assert Concurrent(10).due(at) == 6
    assert Concurrent(3).due(at) == 0
    assert Rounds(10).due(at) == 3


@pytest.mark.parametrize("bad", [lambda: Periodic(period_s=0), lambda: Rounds(cohort=-1)])
def test_bad_settings_name_the_field(bad: type) -> None:
    with pytest.raises(TaskError, match=r"pace\.(period_s|cohort)"):
        bad()


def test_streams_are_named_and_uniform() -> None:
    assert stream_seed(1, "a", 2) != stream_seed(1, "a2")
    assert Stream(1, "a").random() == Stream(1, "a").random()
    draws = Stream(5)
    values = [draws.random() for _ in range(20_000)]
    assert sum(values) / len(values) == pytest.approx(0.5, abs=0.01)
    assert all(0.0 <= value < 1.0 for value in values)
    die = Stream(6)
    faces = Counter(die.below(6) for _ in range(12_000))
    assert set(faces) == set(range(6))
    assert min(faces.values()) > 1_800
    with pytest.raises(ValueError, match="below 0"):
        die.below(0)


def test_a_link_learns_from_transfers_and_ignores_tiny_ones() -> None:
    link = Link().after_upload(100_000, 1.0)
    assert (link.up_bytes_per_s, link.transfers) == (100_000.0, 1)
    assert link.after_upload(10, 1.0).up_bytes_per_s == 100_000.0
    assert link.after_upload(200_000, 1.0).up_bytes_per_s == pytest.approx(130_000.0)
    assert link.after_download(50_000, 0.5).down_bytes_per_s == 100_000.0
    assert Link().after_break().loss == pytest.approx(0.3)
    assert Link().after_round_trip(0.2).rtt_s == 0.2
