"""The study of parts of the model is what its file says."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from hocket.core.scheduling import Concurrent, Rounds
from hocket.learn.strategies import FedAsync, FedAvg
from hocket.sim.fleet import read_fleet
from hocket.sim.study.planning import Plan
from hocket.sim.study.reading import read_study
from hocket.sim.study.scenarios import scenario_for

EXAMPLES = Path(__file__).parents[4] / "examples"
FILE = EXAMPLES / "studies" / "submodels.toml"
SIZES = {
    "Full only": "full", "Full and wait": "full", "Full for all": "full", "Small for all": "full",
    "HeteroFL": "heterofl", "FedRolex": "fedrolex", "Federated Dropout": "federated-dropout",
    "FjORD": "fjord", "DISTREAL uniform": "distreal", "DISTREAL searched": "distreal",
    "WHALE-FL": "whale", "HeteroFL mixed": "heterofl", "HeteroFL mixed by entry": "heterofl",
}  # fmt: skip
DEADLINE_S = 6.0


@pytest.mark.parametrize("scale", sorted(read_study(FILE).scales))
def test_every_point_is_a_task_with_the_size_that_its_method_names(scale: str) -> None:
    made = Plan(read_study(FILE), scale)
    for job in (*made.tuning_jobs(), *made.report_jobs({})):
        task = scenario_for(job).task
        assert task.submodel.kind == SIZES[job.method], job.name
        if job.method.startswith("HeteroFL mixed"):
            assert isinstance(task.strategy, FedAsync)
            assert (task.strategy.staleness_of == "entry") == job.method.endswith("by entry")
            assert isinstance(task.pace, Concurrent)
            continue
        assert isinstance(task.strategy, FedAvg)
        assert isinstance(task.pace, Rounds)
        if job.method == "Full and wait":
            assert (task.pace.deadline_s, task.pace.over_selection) == (400.0, 1.0)
        else:
            assert (task.pace.deadline_s, task.pace.over_selection) == (DEADLINE_S, 1.3)


def test_it_compares_as_many_as_it_says() -> None:
    study = read_study(FILE)
    assert re.search("Thirteen ways", FILE.read_text())
    assert {method.name for method in study.methods} == SIZES.keys()
    assert len(study.methods) == 13
    assert len(study.seeds) >= 3


def conv_net_macs(filters: tuple[int, int, int]) -> int:
    """Of `cifar_cnn`: three 3x3 convolutions on maps of 30, 13 and 4, two linear layers."""
    a, b, c = filters
    convs = 9 * (3 * a * 30**2 + a * b * 13**2 + b * c * 4**2)
    return convs + 16 * c * 64 + 64 * 10


def conv_net_bytes(filters: tuple[int, int, int]) -> int:
    """Its float32 parameters: 490,280 as it is, in 122,570."""
    a, b, c = filters
    convs = 9 * (3 * a + a * b + b * c) + a + b + c
    return 4 * (convs + (16 * c + 1) * 64 + 65 * 10)


WHOLE, SMALL = (32, 64, 64), (16, 32, 32)


def in_time(
    filters: tuple[int, int, int], share_of: Callable[[Iterable[float]], float]
) -> set[str]:
    """Classes that train 4 passes over 100 examples, and transfer the net, within the deadline."""
    fleet = read_fleet(EXAMPLES / "fleets" / "thirds.toml")
    (link,) = fleet.all_links
    size = conv_net_bytes(filters)
    transfers_s = size / link.up_bytes_per_s + size / link.down_bytes_per_s
    whole_s = {
        known.name: 400 * known.lines[0].per_example_s * conv_net_macs(filters) / known.macs
        for known in fleet.all_classes
    }
    return {
        known.name
        for known in fleet.all_classes
        if whole_s[known.name] / share_of(s for _, s in known.share_schedule or [(0.0, 1.0)])
        + transfers_s
        < DEADLINE_S
    }


def test_only_a_third_of_the_fleet_can_train_the_whole_model_in_time() -> None:
    """However much of its processor a class has at best."""
    assert conv_net_bytes(WHOLE) == 490_280
    assert in_time(WHOLE, max) == {"all"}
    fleet = read_fleet(EXAMPLES / "fleets" / "thirds.toml")
    assert len({known.share for known in fleet.all_classes}) == 1


def test_everybody_can_train_the_small_net_in_time() -> None:
    """However little of its processor a class has; half of each layer, as the study says."""
    (small,) = [method for method in read_study(FILE).methods if method.name == "Small for all"]
    assert small.changes["model"]["arguments"] == {"filters": list(SMALL)}
    assert in_time(SMALL, min) == {"all", "some", "little"}
