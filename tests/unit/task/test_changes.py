"""A task with some keys changed: what a command line or a study makes of one file."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from hocket.core.scheduling import Periodic
from hocket.errors import TaskError
from hocket.learn.strategies import FedASMU, FedAsync
from hocket.task import default_task, load_task
from hocket.task.changes import changed, layered

DOCUMENT: dict[str, Any] = {
    "seed": 1,
    "strategy": {"kind": "fedasmu", "mu_alpha": 3.0},
    "refresh": {"kind": "learned", "rules": {"mu_beta": 2.0}},
}


def test_a_key_is_set_and_the_others_stay() -> None:
    after = changed(DOCUMENT, {"strategy.iota0": 0.1, "seed": 5})
    assert after["strategy"] == {"kind": "fedasmu", "mu_alpha": 3.0, "iota0": 0.1}
    assert after["seed"] == 5
    assert after["refresh"] == DOCUMENT["refresh"]


def test_the_document_given_stays_as_it_was() -> None:
    before = copy.deepcopy(DOCUMENT)
    changed(DOCUMENT, {"strategy.kind": "fedbuff", "refresh.rules.mu_beta": 9.0, "pace.kind": "x"})
    assert before == DOCUMENT


@pytest.mark.parametrize("order", [1, -1])
def test_another_kind_begins_its_table_anew_before_keys_are_set(order: int) -> None:
    pairs = [("strategy.kind", "fedasync"), ("strategy.alpha", 0.3)][::order]
    assert changed(DOCUMENT, dict(pairs))["strategy"] == {"kind": "fedasync", "alpha": 0.3}


def test_the_same_kind_keeps_its_table() -> None:
    after = changed(DOCUMENT, {"strategy.kind": "fedasmu", "strategy.iota0": 0.1})
    assert after["strategy"] == {"kind": "fedasmu", "mu_alpha": 3.0, "iota0": 0.1}


def test_a_kind_that_chooses_no_other_keys_keeps_its_table() -> None:
    """Whether devices refresh or not, the rules of merging are the same ones."""
    after = changed(DOCUMENT, {"refresh.kind": "fixed", "refresh.slot": 1})
    assert after["refresh"] == {"kind": "fixed", "slot": 1, "rules": {"mu_beta": 2.0}}


def test_a_key_set_to_nothing_is_taken_out() -> None:
    after = changed(DOCUMENT, {"strategy.mu_alpha": None, "seed": None, "name": None})
    assert after["strategy"] == {"kind": "fedasmu"}
    assert after.keys() == {"strategy", "refresh"}


def test_a_table_that_its_kind_decides_may_be_its_kind_alone() -> None:
    assert changed({"submodel": "whale"}, {})["submodel"] == {"kind": "whale"}
    after = changed({"submodel": "whale"}, {"submodel.scale": 9.0})
    assert after["submodel"] == {"kind": "whale", "scale": 9.0}
    assert changed(DOCUMENT, {"submodel": "full"})["submodel"] == {"kind": "full"}
    assert changed({"name": "whale"}, {})["name"] == "whale"
    earlier = {"submodel": "whale", "submodel.scale": 9.0}
    assert layered(earlier, {"submodel": "full"}) == {"submodel.kind": "full"}


def test_a_table_within_one_may_be_decided_by_its_kind_too() -> None:
    adam = {"kind": "adam", "beta1": 0.8}
    rounds = {"strategy": {"kind": "fedavg", "cohort": 5, "server": adam}}
    before = copy.deepcopy(rounds)
    after = changed(rounds, {"strategy.server.lr": 0.1, "strategy.server.kind": "sgd"})
    sgd = {"kind": "sgd", "lr": 0.1}
    assert after == {"strategy": {"kind": "fedavg", "cohort": 5, "server": sgd}}
    assert changed(rounds, {"strategy.server": "adam"}) == rounds == before
    alone = {"strategy": {"kind": "fedavg", "server": "mean"}}
    assert changed(alone, {})["strategy"]["server"] == {"kind": "mean"}


def test_a_table_within_another_kind_s_begins_anew_with_it() -> None:
    rounds = {"strategy": {"kind": "fedavg", "server": {"kind": "adam", "lr": 0.1}}}
    wanted = {"strategy.server.kind": "sgd", "strategy.kind": "fedprox"}
    after = {"kind": "fedprox", "server": {"kind": "sgd"}}
    assert changed(rounds, wanted)["strategy"] == after
    earlier = {"strategy.kind": "fedavg", "strategy.server.kind": "adam", "strategy.server.lr": 1}
    assert layered(earlier, {"strategy.kind": "fedbuff"}) == {"strategy.kind": "fedbuff"}
    assert layered(earlier, {"strategy.server": "sgd"}) == {
        "strategy.kind": "fedavg",
        "strategy.server.kind": "sgd",
    }


@pytest.mark.parametrize("before", [None, {"kind": "adam", "beta1": 0.8}])
def test_a_layer_s_kind_counts_whatever_an_earlier_one_made_of_the_whole_table(before: Any) -> None:
    layers = layered({"strategy.server": before}, {"strategy.server": "sgd"})
    after = changed({"strategy": "fedavg"}, layers)
    assert after == {"strategy": {"kind": "fedavg", "server": {"kind": "sgd"}}}


def test_a_missing_table_is_made() -> None:
    assert changed(DOCUMENT, {"limits.staleness": 4})["limits"] == {"staleness": 4}


def test_a_table_that_the_file_leaves_out_is_of_the_kind_that_it_would_be(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        '[model]\nfunction = "hocket.learn.models:digits_cnn"\n[data]\nkind = "digits"\n'
    )
    assert load_task(file, changes={"strategy.iota0": 0.1}).strategy == FedASMU(iota0=0.1)
    pace = load_task(file, changes={"pace.triggers": 7, "partition.alpha": 0.2}).pace
    assert pace == Periodic(triggers=7)
    with pytest.raises(TaskError, match=r"unknown key strategy\.goal"):
        load_task(file, changes={"strategy.goal": 5})
    assert changed({}, {"strategy.kind": "fedavg"}) == {"strategy": {"kind": "fedavg"}}
    assert changed({}, {"data.limit": 9}) == {"data": {"limit": 9}}  # which has no default


@pytest.mark.parametrize(
    ("key", "said"), [("seed.x", "seed is 1"), ("", "no key"), ("strategy..x", "no key")]
)
def test_what_is_no_key_of_a_table_is_refused(key: str, said: str) -> None:
    with pytest.raises(TaskError, match=said):
        changed(DOCUMENT, {key: 1})


def test_a_task_is_read_with_changes(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        '[model]\nfunction = "hocket.learn.models:digits_cnn"\n[data]\nkind = "digits"\n'
    )
    task = load_task(file, changes={"strategy.kind": "fedasync", "strategy.alpha": 0.25})
    assert task.strategy == FedAsync(alpha=0.25)
    assert load_task(file).strategy == FedASMU()
    with pytest.raises(TaskError, match=r"mine\.toml: unknown key strategy\.alfa.*'alpha'"):
        load_task(file, changes={"strategy.kind": "fedasync", "strategy.alfa": 0.25})


def test_a_table_of_an_older_task_file_names_the_one_in_its_place() -> None:
    with pytest.raises(TaskError, match=r"\[dropout\] is \[submodel\] now: .*'distreal'.*'full'"):
        default_task({"dropout.enabled": False})


def test_the_built_in_task_takes_changes_too() -> None:
    assert default_task({"training.batch_size": 7}).training.batch_size == 7
    assert default_task().training.batch_size == 16


def test_later_layers_win() -> None:
    first, second = {"seed": 1, "strategy.kind": "fedasmu"}, {"seed": 2, "strategy.iota0": 0.1}
    assert layered(first, second) == {"seed": 2, "strategy.kind": "fedasmu", "strategy.iota0": 0.1}


def test_a_layer_of_another_kind_undoes_what_was_set_of_its_table() -> None:
    periodic = {"pace.kind": "periodic", "pace.period_s": 10.0, "seed": 1}
    rounds = {"pace.kind": "rounds", "pace.cohort": 5}
    assert layered(periodic, rounds) == {"seed": 1} | rounds
    assert layered(periodic, {"pace.kind": "periodic"}) == periodic
    assert layered({"refresh.slot": 1}, {"refresh.kind": "fixed"}) == {
        "refresh.slot": 1,
        "refresh.kind": "fixed",
    }
