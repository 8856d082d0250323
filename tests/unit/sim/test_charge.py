"""What work costs: batches, the device table of WHALE-FL, jitter, and shares over time."""

from __future__ import annotations

import math
import statistics

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from hocket.core.capability import Capability, CostLine
from hocket.core.chance import Stream
from hocket.core.schedule import Schedule
from hocket.learn.models import heterofl_cnn
from hocket.learn.training import LocalTrainer, TrainingRules
from hocket.sim.agenda import Agenda
from hocket.sim.charge import batch_sizes, finish_at, jitter, work_s
from hocket.sim.fleet.presets import WHALE_CLASSES, WHALE_LINKS
from hocket.sim.lognormal import lognormal
from hocket.sim.sharing import SharedLink

# methods/whale-fl.md 3.7: seconds of ten steps on 64 examples, by width 1, 1/2, 1/4, 1/8, 1/16
COMPUTE_S = {
    "MacBookPro2018": (5.353, 2.448, 1.348, 0.934, 0.632),
    "Jetson Xavier": (26.050, 8.181, 3.699, 2.235, 1.637),
    "Jetson TX2": (29.470, 9.336, 3.951, 2.259, 1.570),
    "Jetson Nano": (31.296, 10.053, 4.191, 2.389, 1.606),
    "Raspberry Pi": (33.165, 10.784, 4.438, 2.521, 1.644),
}
UPLOAD_S = (0.1544, 0.3088, 0.6176, 0.82347)  # of 12,352,000 bits at 80, 40, 20, 15 Mbit/s


@pytest.mark.parametrize("name", COMPUTE_S)
def test_ten_steps_take_what_the_device_table_says(name: str) -> None:
    capability = Capability(WHALE_CLASSES[name])
    for keep, expected_s in zip((1, 0.5, 0.25, 0.125, 0.0625), COMPUTE_S[name], strict=True):
        line = capability.cost_at(keep)
        assert line is not None
        assert work_s(line, [(64, 1.0)] * 10) == pytest.approx(expected_s, abs=6e-4)


def test_widths_cost_small_boards_less_than_their_share_and_more_than_its_square() -> None:
    """3.7, below the table: 1, .32, .134, .077, .05 of the full width."""
    boards = ("Jetson TX2", "Jetson Nano", "Raspberry Pi")
    for at, expected in enumerate((1.0, 0.32, 0.134, 0.077, 0.05)):
        lines = [WHALE_CLASSES[name] for name in boards]
        ratio = statistics.fmean(one[at].per_example_s / one[0].per_example_s for one in lines)
        assert ratio == pytest.approx(expected, abs=2e-3)


def uploaded_s(size_bytes: float, rate: float) -> float:
    """When a link that is alone brings the last byte."""
    agenda = Agenda()
    SharedLink(0.0, agenda).start(size_bytes, rate, lambda: None)
    agenda.run(lambda: False)
    return agenda.now


def test_an_upload_takes_what_the_device_table_says() -> None:
    for rate, expected_s in zip(WHALE_LINKS.values(), UPLOAD_S, strict=True):
        assert uploaded_s(12_352_000 / 8, rate) == pytest.approx(expected_s, abs=5e-6)


def test_the_network_as_it_is_coded_takes_four_times_as_long() -> None:
    """3.7: 1,556,874 parameters are 49.82 Mbit, 0.623 s at 80 Mbit/s; the table's are others."""
    with torch.device("meta"):
        size_bytes = sum(p.numel() for p in heterofl_cnn().parameters()) * 4
    assert size_bytes * 8 / 1e6 == pytest.approx(49.82, abs=5e-3)
    assert uploaded_s(size_bytes, WHALE_LINKS["80 Mbit/s"]) == pytest.approx(0.623, abs=5e-4)


def test_a_round_of_all_twenty_takes_as_long_as_the_slowest() -> None:
    # 3.10 no. 6: full size 33.989 s, all at 1/16 1.6474 s, where the upload shrinks by its square.
    bits = 12_352_000
    assert len(WHALE_CLASSES) * len(WHALE_LINKS) == 20
    for keep, expected_s, digits in ((1.0, 33.989, 3), (0.0625, 1.6474, 4)):
        slowest_s = max(
            work_s(line, [(64, 1.0)] * 10) + bits / 8 * keep**2 / rate
            for lines in WHALE_CLASSES.values()
            for rate in WHALE_LINKS.values()
            for line in lines
            if line.keep == keep
        )
        assert round(slowest_s, digits) == expected_s


@given(st.integers(1, 200), st.integers(1, 40))
def test_batches_are_those_that_training_makes(examples: int, batch_size: int) -> None:
    rules = TrainingRules(local_epochs=1, batch_size=batch_size, learning_rate=0.1)
    trainer = LocalTrainer(
        nn.Linear(1, 2), rules, torch.zeros(examples, 1), torch.zeros(examples, dtype=torch.int64)
    )
    batches = trainer.epoch_batches(torch.Generator().manual_seed(0))
    assert batch_sizes(examples, batch_size) == [len(batch) for batch in batches]


def test_dropout_and_slowness_scale_every_step() -> None:
    # (1 + 0.5 * 4) * 0.5 + (1 + 0.5 * 2) * 0.25 = 2; a device twice as slow takes 4.
    batches = [(4, 0.5), (2, 0.25)]
    assert work_s(CostLine(1.0, 1.0, 0.5), batches) == pytest.approx(2.0)
    assert work_s(CostLine(1.0, 1.0, 0.5), batches, 2.0) == pytest.approx(4.0)
    assert work_s(CostLine(1.0, 1.0, 0.5), []) == 0.0


def test_lognormal_factors_have_the_moments_they_should() -> None:
    chance = Stream(7, "moments")
    logs = [math.log(lognormal(chance, 0.3)) for _ in range(20_000)]
    assert statistics.fmean(logs) == pytest.approx(0.0, abs=0.3 * 4 / math.sqrt(20_000))
    assert statistics.stdev(logs) == pytest.approx(0.3, rel=0.03)
    assert statistics.fmean(value**3 for value in logs) == pytest.approx(0.0, abs=0.003)
    assert lognormal(chance, 0.0) == 1.0


def test_jitter_is_the_epoch_s_own() -> None:
    one = jitter(0.1, 1, "a", 2, 3)
    others = {
        jitter(0.1, 2, "a", 2, 3),
        jitter(0.1, 1, "b", 2, 3),
        jitter(0.1, 1, "a", 1, 3),
        jitter(0.1, 1, "a", 2, 4),
    }
    assert jitter(0.1, 1, "a", 2, 3) == one
    assert len(others | {one}) == 5
    assert jitter(0.2, 1, "a", 2, 3) == pytest.approx(one**2)
    assert jitter(0.0, 1, "a", 2, 3) == 1.0


HALF_AND_FIFTH = Schedule(1.0, ((20.0, 0.5), (10.0, 0.2)))


@pytest.mark.parametrize(
    ("started_s", "busy_s", "finished_s"),
    [
        (0.0, 4.0, 8.0),  # within the first step
        (0.0, 10.0, 20.0),  # to its very end
        (0.0, 11.0, 25.0),  # 10 in 20 s, 1 in 5 s
        (0.0, 12.0, 30.0),  # one whole period
        (25.0, 2.0, 32.0),  # 1 in 5 s, then 1 in 2 s of the next period
        (0.0, 121.0, 302.0),  # ten periods, then 1 in 2 s
        (25.0, 12.0, 55.0),
        (7.0, 0.0, 7.0),
    ],
)
def test_work_accrues_at_the_share_that_holds(
    started_s: float, busy_s: float, finished_s: float
) -> None:
    assert finish_at(started_s, busy_s, HALF_AND_FIFTH) == pytest.approx(finished_s)


def test_a_steady_share_stretches_work() -> None:
    assert finish_at(3.0, 2.0, Schedule(0.25)) == 11.0
    assert finish_at(3.0, 2.0, Schedule(1.0, ((5.0, 0.5),))) == 7.0


STEPS = st.lists(st.tuples(st.floats(0.1, 30.0), st.floats(0.05, 1.0)), min_size=1, max_size=4).map(
    tuple
)


@given(STEPS, st.floats(0.0, 500.0), st.floats(0.0, 200.0))
def test_the_shares_until_the_end_add_up_to_the_work(
    steps: tuple[tuple[float, float], ...], started_s: float, busy_s: float
) -> None:
    schedule = Schedule(1.0, steps)
    finished_s = finish_at(started_s, busy_s, schedule)
    done_s = accrued(steps, finished_s) - accrued(steps, started_s)
    assert done_s == pytest.approx(busy_s, rel=1e-9, abs=1e-9)


def accrued(steps: tuple[tuple[float, float], ...], until_s: float) -> float:
    """Work done from 0 on, step after step."""
    done = 0.0
    while True:
        for seconds, share in steps:
            if until_s <= seconds:
                return done + share * until_s
            done += share * seconds
            until_s -= seconds
