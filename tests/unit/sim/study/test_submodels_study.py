"""The study of parts of the model is what its file says."""

from __future__ import annotations

import re
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
MODEL_BYTES = 4 * 122_570  # hocket.learn.models:cifar_cnn, as its test has it


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


def test_only_a_third_of_the_fleet_can_train_the_whole_model_in_time() -> None:
    """400 examples are stepped over, 4 passes over 100; a class shares its processor at best."""
    fleet = read_fleet(EXAMPLES / "fleets" / "thirds.toml")
    (link,) = fleet.all_links
    transfers_s = MODEL_BYTES / link.up_bytes_per_s + MODEL_BYTES / link.down_bytes_per_s
    in_time = {
        known.name: 400 * known.lines[0].per_example_s / max_share(known.share_schedule)
        + transfers_s
        < DEADLINE_S
        for known in fleet.all_classes
    }
    assert in_time == {"all": True, "some": False, "little": False}
    assert len({known.share for known in fleet.all_classes}) == 1


def max_share(schedule: tuple[tuple[float, float], ...]) -> float:
    return max((share for _, share in schedule), default=1.0)
