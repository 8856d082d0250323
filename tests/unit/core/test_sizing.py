"""Sizing rules but WHALE-FL's: which part, from what a device affords, and why."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import pytest

from hocket.core.capability import Capability, CostLine
from hocket.core.ids import DeviceId, Version
from hocket.core.sizing import (
    DEFAULT,
    KINDS,
    AnySizing,
    Distreal,
    FederatedDropout,
    FedRolex,
    Fjord,
    Full,
    HeteroFL,
    Whale,
    choices_of,
    sizing_of,
    terms_of,
)
from hocket.core.sizing.affordable import HALVINGS, affordable, named
from hocket.core.sizing.size import Ability, Dropping, Facts, Lesson, Size, width_of
from hocket.core.submodel import FULL, ChannelRule, SubmodelSpec
from hocket.core.terms import SizingTerms
from hocket.errors import TaskError

# Seconds of 10 steps on 8 examples: 16, 8, 4, 2 and 1 for the widths 1 .. 1/16. The whole model
# takes 4 s down and 12 s up, a half a quarter of that.
COSTS = tuple(CostLine(keep, 0.0, 0.2 * keep) for keep in HALVINGS)
TIMED = (HeteroFL, FedRolex, FederatedDropout, Fjord)
MEASURED = Ability(Capability(COSTS, num_examples=80), up_bytes_per_s=1e6, down_bytes_per_s=3e6)


def facts(ability: Ability = MEASURED, training: int = 1, version: int = 5) -> Facts:
    return Facts(
        DeviceId("a"),
        training,
        Version(version),
        ability,
        num_steps=10,
        batch_size=8,
        model_bytes=12_000_000,
        seed=7,
    )


@pytest.mark.parametrize(
    ("deadline_s", "level"),
    [
        (None, 1.0),
        (32.0, 1.0),
        (31.9, 0.5),
        (12.0, 0.5),  # 8 s of training, (4 + 12) / 4 s of transfers
        (11.9, 0.25),
        (5.0, 0.25),  # 4 + 16 / 16
        (2.3, 0.125),  # 2 + 16 / 64 = 2.25
        (1.1, 0.0625),  # 1 + 16 / 256 = 1.0625
        (0.5, 0.0625),  # none ends in time: the smallest
    ],
)
def test_the_largest_level_whose_training_and_transfers_end_in_time(
    deadline_s: float | None, level: float
) -> None:
    size = HeteroFL(deadline_s=deadline_s).choose(facts(), {})
    assert size.spec == (FULL if level == 1.0 else SubmodelSpec((level,), ChannelRule.LEADING))
    assert size.widths == ()


@pytest.mark.parametrize("rule", [kind(deadline_s=1e-3) for kind in TIMED])
def test_before_anything_is_measured_keep_alone_decides(
    rule: HeteroFL | FedRolex | FederatedDropout | Fjord,
) -> None:
    assert width_of(rule.choose(facts(Ability()), {}).spec) == 1.0
    linked = Ability(keep=0.7, up_bytes_per_s=1.0)
    largest = 0.6 if isinstance(rule, Fjord) else 0.5
    assert width_of(rule.choose(facts(linked), {}).spec) == largest


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("keep", [1.0, 0.5, 0.3, 0.01])
def test_no_rule_goes_beyond_what_the_device_is_set_to(kind: str, keep: float) -> None:
    rule, able = KINDS[kind](), facts(replace(MEASURED, keep=keep))
    size = rule.choose(able, {})
    assert 0.0 < width_of(size.spec) <= keep
    assert rule.choose(able, {}) == size
    assert all(0.0 < width <= 1.0 for width in size.widths)


def test_a_slower_link_or_processor_never_affords_more() -> None:
    chosen = []
    for slower in (1.0, 2.0, 5.0, 20.0, 100.0):
        costs = tuple(replace(line, per_example_s=line.per_example_s * slower) for line in COSTS)
        for rate in (1e6, 1e5, 1e4):
            ability = Ability(Capability(costs, num_examples=80), rate, rate)
            chosen.append(affordable(HALVINGS, facts(ability), 40.0)[0])
    for start in range(0, len(chosen), 3):
        assert all(after <= before for before, after in pairwise(chosen[start : start + 3]))
    assert all(after <= before for before, after in pairwise(chosen[::3]))
    assert len(set(chosen)) > 2


def test_dynamic_levels_are_drawn_anew_in_their_proportions_among_what_is_afforded() -> None:
    rule = HeteroFL(mode="dynamic", deadline_s=12.0, proportions=(5.0, 2.0, 0.0, 0.0, 8.0))
    drawn = Counter(
        width_of(rule.choose(facts(training=training), {}).spec) for training in range(1, 2001)
    )
    assert set(drawn) == {0.5, 0.0625}  # 1 takes too long, the others weigh nothing
    assert drawn[0.5] / 2000 == pytest.approx(0.2, abs=0.04)  # 4.4 standard deviations
    again = [rule.choose(facts(training=training), {}) for training in range(1, 20)]
    assert again == [rule.choose(facts(training=training), {}) for training in range(1, 20)]
    alike = HeteroFL(mode="dynamic")
    evenly = Counter(width_of(alike.choose(facts(training=n), {}).spec) for n in range(2000))
    assert all(share / 2000 == pytest.approx(0.2, abs=0.04) for share in evenly.values())
    assert len(evenly) == 5


def test_weights_that_leave_nothing_of_what_is_afforded_mean_the_largest_level() -> None:
    rule = FedRolex(mode="dynamic", deadline_s=12.0, proportions=(1.0, 0.0, 0.0, 0.0, 0.0))
    assert width_of(rule.choose(facts(), {}).spec) == 0.5


def test_fedrolex_rolls_with_the_version_for_all_devices_alike() -> None:
    rule = FedRolex(deadline_s=12.0)
    spec = rule.choose(facts(version=11), {}).spec
    assert spec == SubmodelSpec((0.5,), ChannelRule.ROLLING, 11)
    other = replace(facts(version=11, training=30), device_id=DeviceId("b"))
    assert rule.choose(other, {}).spec == spec
    assert rule.choose(facts(version=12), {}).spec.seed == 12


def test_federated_dropout_draws_for_each_device_and_training() -> None:
    rule = FederatedDropout(deadline_s=12.0)
    first = rule.choose(facts(), {}).spec
    assert (first.keep, first.rule) == ((0.5,), ChannelRule.RANDOM)
    assert rule.choose(facts(), {}).spec == first
    others = [
        replace(facts(), device_id=DeviceId("b")),
        facts(training=2),
        replace(facts(), seed=8),
    ]
    seeds = {rule.choose(each, {}).spec.seed for each in others} | {first.seed}
    assert len(seeds) == 4
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert rule.choose(facts(version=6), {}).spec == first


def test_fjord_draws_among_the_widths_up_to_its_own() -> None:
    rule = Fjord()
    size = rule.choose(facts(replace(MEASURED, keep=0.65)), {})
    assert size.spec == SubmodelSpec((0.6,), ChannelRule.LEADING)
    assert size.widths == pytest.approx((1.0, 2 / 3, 1 / 3), rel=1e-9)
    assert size.widths[0] == 1.0
    whole = rule.choose(facts(), {})
    assert whole.spec == FULL
    assert whole.widths == pytest.approx((1.0, 0.8, 0.6, 0.4, 0.2), rel=1e-9)
    least = rule.choose(facts(replace(MEASURED, keep=0.2)), {})
    assert (least.spec, least.widths) == (SubmodelSpec((0.2,)), ())


def test_fjords_least_width_is_a_width_however_small() -> None:
    size = Fjord((1.0, 1e-13)).choose(facts(), {})
    assert all(0.0 < width <= 1.0 for width in size.widths)


@pytest.mark.parametrize(
    ("rule", "choices"),
    [
        (Full(), ()),
        (Distreal(), ()),
        (Fjord(), (1.0, 0.8, 0.6, 0.4, 0.2)),
        (FederatedDropout((0.7,)), (0.7,)),
        (FedRolex((0.9, 0.3)), (0.9, 0.3)),
        (HeteroFL(), HALVINGS),
        (Whale((0.5,)), (0.5,)),
    ],
    ids=lambda one: getattr(one, "kind", ""),
)
def test_what_a_rule_chooses_among(rule: AnySizing, choices: tuple[float, ...]) -> None:
    assert choices_of(rule) == choices


def test_full_and_distreal_leave_the_model_whole_on_the_wire() -> None:
    for rule in (Full(), Distreal(), DEFAULT):
        assert rule.choose(facts(), {}).spec == FULL
        assert rule.choose(facts(replace(MEASURED, keep=0.5)), {}).spec == SubmodelSpec((0.5,))


def test_the_default_is_distreal_with_uniform_rates() -> None:
    assert Distreal((0.0, 0.25, 0.5, 0.75)) == DEFAULT
    assert DEFAULT.rows == ((0.0,), (0.25,), (0.5,), (0.75,))
    assert Distreal((0.5, (0.1, 0.2))).rows == ((0.5,), (0.1, 0.2))


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"whale"}))
def test_rules_without_a_memory_measure_nothing_and_keep_what_there_was(kind: str) -> None:
    rule, memory = KINDS[kind](), {"left": 1}
    assert rule.watches_fisher is None
    assert rule.learn(Lesson(Size(), 3.0, 0.5), facts(), memory) == memory


def test_the_reason_names_capability_and_link() -> None:
    why = HeteroFL(deadline_s=5.0).choose(facts(), {}).why
    assert why == "1/4: 16 s at full width, 16 s link, 5 s allowed"
    able = replace(MEASURED, keep=0.5)
    assert FedRolex().choose(facts(able), {}).why == (
        "1/2: 16 s at full width, 16 s link, set to keep 0.5, window of version 5"
    )
    assert FederatedDropout().choose(facts(Ability()), {}).why == (
        "full: speed not measured, link not measured"
    )
    assert Fjord().choose(facts(), {}).why == (
        "full: 16 s at full width, 16 s link, each mini-batch one of 5 widths from 1/5"
    )
    assert [named(level) for level in (1.0, 0.5, 0.0625, 0.3)] == ["full", "1/2", "1/16", "0.3"]
    assert all(len(KINDS[kind]().choose(facts(), {}).why) < 200 for kind in KINDS)


@dataclass(frozen=True)
class Told:
    """A row: what it costs of the work, and of a step's memory."""

    cost: float
    memory: float


class Table:
    """Three rows, chosen as a device does: the dearest that fits, or else the smallest."""

    def choose(self, resource: float, memory: float = math.inf) -> Told:
        fitting = [each for each in ROWS if each.cost <= resource and each.memory <= memory]
        return max(fitting, key=lambda each: each.cost, default=ROWS[0])


ROWS = (Told(0.1, 0.3), Told(0.45, 0.6), Told(1.0, 1.0))


def dropping(share: float, memory_bytes: int = 0, **rule: Any) -> str:
    """What DISTREAL says where a step on everything takes a thousand bytes."""
    capability = replace(MEASURED.capability, processor_share=share, memory_bytes=memory_bytes)
    able = replace(MEASURED, capability=capability, dropping=Dropping(Table(), step_bytes=1000))
    said, _, costs = Distreal(**rule).choose(facts(able), {}).why.partition("; ")
    assert costs == "16 s at full width, 16 s link"
    what, _, row = said.partition(": ")
    assert what == "filters dropped per mini-batch"
    return row


def test_distreal_says_which_row_it_affords_and_what_limits_it() -> None:
    assert dropping(1.0) == "row of cost 1 by 100% CPU"
    assert dropping(0.5) == "row of cost 0.45 by 50% CPU"
    assert dropping(0.5, 4000) == "row of cost 0.45 by 50% CPU, memory for 4 steps"
    assert dropping(0.5, 400) == "row of cost 0.1 by memory for 0.4 steps, 50% CPU"
    assert dropping(0.05) == "none fits 5% CPU, smallest (cost 0.1)"
    assert dropping(0.5, 200) == "none fits memory for 0.2 steps, smallest (cost 0.1)"
    assert dropping(0.05, none_fits="skip") == (
        "none fits 5% CPU, all but an epoch's first left out (cost 0.1)"
    )


def test_distreal_says_so_where_nothing_is_dropped() -> None:
    rigid = replace(MEASURED, dropping=Dropping(nothing="no filters"))
    why = Distreal().choose(facts(rigid), {}).why
    assert why == "whole model: no filters; 16 s at full width, 16 s link"
    why = Distreal().choose(facts(replace(MEASURED, keep=0.3)), {}).why
    assert why == (
        "0.3 of each layer, filters dropped per mini-batch, 100% CPU; 16 s at full width, 16 s link"
    )


def test_full_says_why_too() -> None:
    assert Full().choose(facts(), {}).why == (
        "full, as the task says: 16 s at full width, 16 s link"
    )
    assert Full().choose(facts(replace(MEASURED, keep=0.3)), {}).why == (
        "0.3 of each layer, as the device is set: 16 s at full width, 16 s link"
    )


CHANGED: list[AnySizing] = [
    Full(),
    Distreal(none_fits="skip"),
    HeteroFL((1.0, 0.3), "dynamic", 0.1, (1.0, 3.0)),
    FedRolex((0.7,), "dynamic", 1e-7, (2.0,)),
    FederatedDropout((0.9, 0.1), 12.5),
    Fjord((1.0, 0.1), 3.0),
    Whale((0.5, 0.1), 1, 3, 7.5, 0.5, 12.0, "last_size", scaled_link=True, fisher="per_sample"),
]


@pytest.mark.parametrize("rule", [*(rule() for rule in KINDS.values()), *CHANGED])
def test_a_rule_is_the_same_after_the_way_to_a_device(rule: AnySizing) -> None:
    terms = terms_of(rule)
    assert terms.kind == rule.kind
    assert all(isinstance(number, float) for _, numbers in terms.values for number in numbers)
    back = sizing_of(terms)
    assert back == rule
    assert type(back) is type(rule)
    assert [name for name, _ in terms.values] == sorted(name for name, _ in terms.values)


def test_every_kind_changed_here_is_every_kind() -> None:
    assert {rule.kind for rule in CHANGED} == set(KINDS)
    assert set(KINDS) == {
        *("full", "distreal", "whale", "heterofl", "fedrolex", "fjord", "federated-dropout")
    }


def test_words_travel_as_their_places_which_never_change() -> None:
    """The numbers of the wire, against a change of order."""
    numbers = dict(terms_of(Whale(latency_ref="smoothed", fisher="per_sample")).values)
    assert (numbers["latency_ref"], numbers["fisher"]) == ((2.0,), (1.0,))
    assert dict(terms_of(Whale(latency_ref="last_size")).values)["latency_ref"] == (3.0,)
    assert dict(terms_of(Whale(latency_ref="full_size")).values)["latency_ref"] == (1.0,)
    assert dict(terms_of(HeteroFL(mode="dynamic")).values)["mode"] == (1.0,)
    assert dict(terms_of(Distreal(none_fits="skip")).values) == {"none_fits": (1.0,)}


def test_the_rows_of_a_table_do_not_travel_as_settings() -> None:
    assert sizing_of(terms_of(Distreal(table="x.json"))) == Distreal()


@pytest.mark.parametrize(
    "terms",
    [
        SizingTerms("tomorrow"),
        SizingTerms("heterofl", (("width", (1.0,)),)),
        SizingTerms("heterofl", (("mode", (2.0,)),)),
        SizingTerms("heterofl", (("mode", (-1.0,)),)),
        SizingTerms("heterofl", (("mode", ()),)),
        SizingTerms("heterofl", (("kind", (0.0,)),)),
        SizingTerms("distreal", (("table", (0.0,)),)),
        SizingTerms("whale", (("delay", (2.5,)),)),
        SizingTerms("whale", (("delay", (float("inf"),)),)),
        SizingTerms("whale", (("beta", (1.0, 2.0)),)),
        SizingTerms("whale", (("scaled_link", (2.0,)),)),
    ],
)
def test_terms_of_another_version_are_refused_with_what_is_known(terms: SizingTerms) -> None:
    with pytest.raises(TaskError, match=r"knows distreal, federated-dropout, .*, whale\); install"):
        sizing_of(terms)


def test_a_complaint_stays_short_however_much_was_sent() -> None:
    with pytest.raises(TaskError) as raised:
        sizing_of(SizingTerms("tomorrow", (("width", (0.5,) * 10_000),)))
    assert len(raised.value.message) < 1000


@pytest.mark.parametrize(
    ("kind", "settings", "said"),
    [
        ("heterofl", {"levels": ()}, "levels is empty"),
        ("heterofl", {"levels": (1.0, 0.0)}, "levels is 0.0"),
        ("heterofl", {"levels": (1.5,)}, "levels is 1.5"),
        ("heterofl", {"levels": (float("nan"),)}, "levels is nan"),
        ("fedrolex", {"levels": (0.5, 1.0)}, "largest first"),
        ("fedrolex", {"levels": (0.5, 0.5)}, "largest first"),
        ("heterofl", {"deadline_s": 0.0}, "deadline_s is 0.0"),
        ("heterofl", {"mode": "often"}, "mode is 'often'; choose 'fixed', 'dynamic'"),
        ("heterofl", {"proportions": (1.0,) * 5}, "take mode 'dynamic'"),
        ("heterofl", {"mode": "dynamic", "proportions": (1.0,)}, "each of 5 levels"),
        ("heterofl", {"mode": "dynamic", "proportions": (0.0,) * 5}, "one of them above 0"),
        ("fedrolex", {"mode": "dynamic", "proportions": (-1.0,) * 5}, "proportions is -1.0"),
        ("federated-dropout", {"ratios": (2.0,)}, "ratios is 2.0"),
        ("fjord", {"widths": ()}, "widths is empty"),
        ("distreal", {"rates": ()}, "rates is empty.*'full'"),
        ("distreal", {"rates": (0.5, ())}, "empty vector"),
        ("distreal", {"rates": (0.5, (0.1, 1.5))}, "rates is 1.5"),
        ("distreal", {"none_fits": "rest"}, "none_fits is 'rest'"),
        ("distreal", {"rates": (0.5,), "table": "x"}, "both given"),
        ("whale", {"levels": ()}, "levels is empty"),
        ("whale", {"half_window": 6}, "half_window is 6 and submodel.delay is 5"),
        ("whale", {"half_window": 0.5}, "half_window is 0.5"),
        ("whale", {"delay": -1, "half_window": 0}, "delay is -1"),
        ("whale", {"delay": 1001}, "delay is 1001; it must be a whole number from 0 to 1,000"),
        ("whale", {"reference_s": 0.0}, "reference_s is 0.0"),
        ("whale", {"beta": -1.0}, "beta is -1.0"),
        ("whale", {"scale": 0.0}, "scale is 0.0"),
        ("whale", {"latency_ref": "first_size"}, "latency_ref is 'first_size'"),
        ("whale", {"fisher": "exact"}, "fisher is 'exact'"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(
    kind: str, settings: dict[str, object], said: str
) -> None:
    with pytest.raises(TaskError, match=said):
        KINDS[kind](**settings)  # type: ignore[arg-type]  # on purpose
