from __future__ import annotations

import pytest
from hocket_device.probe import MOST_WIDTHS, Probe, probe_batch_sizes, widths_for
from hocket_device.throttle import DutyCycle


class Machine:
    """A step takes (1 + 0.5 * batch size) ms at full width, and keep squared of that below."""

    def __init__(self, share: float = 1.0, slower: float = 1.0) -> None:
        self.now_s = 0.0
        self.busy_s = 0.0
        self.steps: list[tuple[float, int]] = []
        self._slower = slower
        self._duty = DutyCycle(lambda: share, self._sleep, lambda: self.busy_s)

    def now(self) -> float:
        return self.now_s

    def step(self, keep: float, batch_size: int) -> None:
        self.steps.append((keep, batch_size))
        with self._duty.work():
            seconds = self._slower * keep**2 * (0.001 + 0.0005 * batch_size)
            self.now_s += seconds
            self.busy_s += seconds

    def _sleep(self, seconds: float) -> None:
        self.now_s += seconds


def test_a_line_is_found_for_each_width() -> None:
    machine = Machine()
    lines = Probe().measure(machine.step, (8, 32), machine.now)
    assert [line.keep for line in lines] == [1.0, 0.5, 0.25]
    assert [line.fixed_s for line in lines] == pytest.approx([0.001, 0.00025, 0.0000625])
    assert [line.per_example_s for line in lines] == pytest.approx([0.0005, 0.000125, 0.00003125])


def test_a_device_held_to_a_quarter_of_the_processor_measures_steps_four_times_as_long() -> None:
    fast, slow = Machine(), Machine(share=0.25)
    lines = Probe().measure(fast.step, (8, 32), fast.now)
    slower = Probe().measure(slow.step, (8, 32), slow.now)
    for line, other in zip(lines, slower, strict=True):
        assert other.step_s(32) == pytest.approx(4.0 * line.step_s(32))


def test_a_quota_counts_although_short_steps_fall_between_its_stops() -> None:
    machine = Machine()  # of which the system grants a quarter, by stops longer than all steps
    lines = Probe().measure(machine.step, (8, 32), machine.now, lambda: machine.busy_s / 0.25)
    assert lines[0].step_s(32) == pytest.approx(4.0 * 0.017)


def test_a_quota_above_what_the_owner_allows_changes_nothing() -> None:
    machine = Machine(share=0.25)
    lines = Probe().measure(machine.step, (8, 32), machine.now, lambda: machine.busy_s / 0.5)
    assert lines[0].step_s(32) == pytest.approx(4.0 * 0.017)


def test_a_hiccup_changes_nothing() -> None:
    machine = Machine()

    def step(keep: float, batch_size: int) -> None:
        machine.step(keep, batch_size)
        if len(machine.steps) == 8:
            machine.now_s += 0.5

    lines = Probe().measure(step, (8, 32), machine.now)
    assert lines[0].step_s(32) == pytest.approx(0.017)


@pytest.mark.parametrize("slower", [8.0, 20.0, 100.0])
def test_a_slow_device_stops_measuring_in_time(slower: float) -> None:
    machine = Machine(slower=slower)
    lines = Probe().measure(machine.step, (8, 32), machine.now)
    longest_s = slower * 0.017
    assert machine.now_s <= max(0.8 + longest_s, slower * (0.005 + 0.017))
    assert lines[0].step_s(32) == pytest.approx(longest_s)


def test_the_full_width_is_measured_whatever_it_costs() -> None:
    machine = Machine(slower=1000.0)
    lines = Probe().measure(machine.step, (8, 32), machine.now)
    assert machine.steps == [(1.0, 8), (1.0, 32)]
    assert [line.keep for line in lines] == [1.0]


def test_where_a_rule_chooses_a_slow_device_measures_every_width_once() -> None:
    machine = Machine(slower=1000.0)
    widths = widths_for((0.8, 0.5))
    assert widths == (1.0, 0.8, 0.5)
    lines = Probe(widths, certain=3).measure(machine.step, (8, 32), machine.now)
    assert machine.steps == [(keep, batch_size) for keep in widths for batch_size in (8, 32)]
    assert [line.step_s(32) for line in lines] == pytest.approx([17.0, 10.88, 4.25])


def test_of_very_many_widths_some_are_measured() -> None:
    many = tuple(1.0 - at / 1000 for at in range(1000))
    widths = widths_for(many)
    assert widths[0] == 1.0
    assert set(widths) <= set(many)
    assert 8 <= len(widths) <= MOST_WIDTHS
    assert widths_for((0.5,)) == (1.0, 0.5)


@pytest.mark.parametrize(
    ("batch_size", "examples", "sizes"),
    [(32, 500, (8, 32)), (32, 20, (5, 20)), (1, 500, (1,)), (32, 1, (1,))],
)
def test_batches_to_time_fit_the_task_and_the_data(
    batch_size: int, examples: int, sizes: tuple[int, ...]
) -> None:
    assert probe_batch_sizes(batch_size, examples) == sizes
