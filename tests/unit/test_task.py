"""Task files: what a short one means, and what is said about a wrong one.

Long by its tables of wrong files, one line for each with the message it must get.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from support.strategies import every_strategy

from hocket.core.scheduling import (
    AnySelection,
    ByCapability,
    Concurrent,
    Oort,
    Periodic,
    Rounds,
    Tifl,
    Uniform,
)
from hocket.core.sizing import Distreal, Full
from hocket.core.stop import Stop
from hocket.core.strategy import Waiting
from hocket.errors import DataError, ModelError, TaskError
from hocket.learn.codecs import Raw, TopK
from hocket.learn.data import Dirichlet, Iid, Normalisation, Npz, Parquet
from hocket.learn.strategies import FedASMU, FedBuff
from hocket.task import Task, default_task, load_task

EXAMPLES = Path(__file__).parents[2] / "examples"

SHORT = """
[model]
function = "hocket.learn.models:digits_cnn"
[data]
kind = "digits"
"""

LONG = """
name = "long"
seed = 7
error_feedback = false
data = { kind = "digits", test_share = 0.5, limit = 100, normalise = { mean = [0.5], std = [2.0] } }
partition = { kind = "iid" }
strategy = { kind = "fedbuff", goal = 4 }
codec = { kind = "topk", ratio = 0.25 }
pace = { kind = "concurrent", devices = 3 }
selection = { kind = "capability" }
refresh = { kind = "fixed", slot = 2, rules = { mu_beta = 0.5 } }
submodel = { kind = "distreal", rates = [0.5, [0.0, 0.25, 0.5]] }
evaluation = { every_versions = 5, limit = 20 }
stop = { versions = 9, accuracy = 1, wall_s = 60 }
limits = { staleness = 4, train_timeout_s = 30, staged_bytes = 1000 }
[model]
function = "hocket.learn.models:mlp"
arguments = { inputs = 64, classes = 10, hidden = [8, 4] }
[training]
local_epochs = 3
gradient_clip_norm = 1
"""


def write(folder: Path, text: str, name: str = "mine.toml") -> Path:
    file = folder / name
    file.write_text(text)
    return file


def read(folder: Path, text: str) -> Task:
    return load_task(write(folder, text))


def complaint(folder: Path, text: str) -> str:
    """The message, after checking that it names the file."""
    with pytest.raises(TaskError) as wrong:
        read(folder, text)
    assert wrong.value.message.startswith(f"{folder / 'mine.toml'}")
    return wrong.value.message


def test_model_and_data_are_all_that_a_task_needs(tmp_path: Path) -> None:
    task = read(tmp_path, SHORT)
    assert task.name == "mine"
    assert task.strategy == FedASMU()
    assert task.codec == Raw()
    assert task.pace == Periodic()
    assert task.selection == Uniform()
    assert task.partition == Dirichlet(0.5)
    assert task.stop == Stop()
    assert task.origin.path == tmp_path / "mine.toml"
    assert task.origin.text == SHORT


def test_every_table_reaches_its_object(tmp_path: Path) -> None:
    task = read(tmp_path, LONG)
    assert (task.name, task.seed, task.error_feedback) == ("long", 7, False)
    assert task.model.arguments == {"inputs": 64, "classes": 10, "hidden": [8, 4]}
    assert task.data.limit == 100
    assert task.data.held_out_share == 0.5
    assert task.data.normalise == Normalisation((0.5,), (2.0,))
    assert task.partition == Iid()
    assert task.strategy == FedBuff(goal=4)
    assert task.codec == TopK(ratio=0.25)
    assert task.pace == Concurrent(devices=3)
    assert task.selection == ByCapability()
    assert task.training.local_epochs == 3
    assert task.training.gradient_clip_norm == 1.0
    assert task.training.batch_size == 32  # what a table leaves out keeps its default
    assert task.refresh_terms.enabled
    assert (task.refresh_terms.fixed_slot, task.refresh_terms.rules.mu_beta) == (2, 0.5)
    assert isinstance(task.submodel, Distreal)
    assert task.submodel.rows == ((0.5,), (0.0, 0.25, 0.5))
    assert (task.evaluation.every_versions, task.evaluation.limit) == (5, 20)
    assert task.stop == Stop(versions=9, accuracy=1.0, wall_s=60.0)
    assert (task.limits.staleness, task.limits.staged_bytes) == (4, 1000)
    assert len(task.test_examples()) == 20
    assert len(task.train_examples(1, 4)) == 25


@pytest.mark.parametrize(
    ("table", "selection"),
    [
        ("kind = 'oort'\nexplore = 1\nround_size = 5", Oort(explore=1.0, round_size=5)),
        ("kind = 'tifl'\ncredits = 8", Tifl(credits=8)),
    ],
)
def test_selections_with_a_memory_are_read(
    tmp_path: Path, table: str, selection: AnySelection
) -> None:
    assert read(tmp_path, f"{SHORT}\n[selection]\n{table}").selection == selection


def test_nothing_is_refreshed_within_a_single_epoch(tmp_path: Path) -> None:
    assert read(tmp_path, SHORT).refresh_terms.enabled
    assert not read(tmp_path, SHORT + "[training]\nlocal_epochs = 1").refresh_terms.enabled
    assert not read(tmp_path, SHORT + '[refresh]\nkind = "none"').refresh_terms.enabled


@pytest.mark.parametrize(
    "text", ['submodel = "full"\n' + SHORT, SHORT + '[submodel]\nkind = "full"']
)
def test_a_table_may_be_written_as_its_kind_alone(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text).submodel == Full()


# --- what is wrong


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nmae = 'x'", "unknown key nmae (did you mean 'name'?); known here: codec, data, "),
        ("origin = {}", "unknown key origin; known here: "),
        ("[training]\nlearningrate = 0.1", "unknown key training.learningrate (did you mean "),
        (
            "[strategy]\nkind = 'fedbuff'\ngaol = 3",
            "unknown key strategy.gaol (did you mean 'goal'",
        ),
        (
            "[refresh.rules]\nmu_bta = 1.0",
            "unknown key refresh.rules.mu_bta (did you mean 'mu_beta'",
        ),
        ("[evaluation]\nevery = 1", "known here: every_versions, limit"),
        (
            "[strategy]\nkind = 'fedbuf'",
            "strategy.kind is 'fedbuf'; choose one of asofed, ca2fl, fadas, ",
        ),
        ("[strategy]\ngoal = 3", "strategy.kind is missing; set it to one of asofed, ca2fl, "),
        (
            "[strategy]\nkind = 'fedavg'\nserver = { lr = 1.0 }",
            "strategy.server.kind is missing; set it to one of adam, mean, sgd",
        ),
        (
            "[strategy]\nkind = 'fedavg'\nserver = 'adamw'",
            "strategy.server.kind is 'adamw'; choose one of adam, mean, sgd (did you mean 'adam'?)",
        ),
        (
            "[strategy]\nkind = 'fedavg'\nserver = { kind = 'sgd', lrr = 1.0 }",
            "unknown key strategy.server.lrr (did you mean 'lr'?); known here: kind, lr, momentum",
        ),
        (
            "[strategy]\nkind = 'fedavg'\nserver = { kind = 'adam', beta1 = 1.0 }",
            "server.beta1 is 1.0; it must be below 1",
        ),
        (
            "[training]\nbatch_size = '3'",
            "training.batch_size is '3'; it should be a valid integer",
        ),
        ("[training]\nbatch_size = 1.5", "training.batch_size is 1.5; "),
        ("[training]\nbatch_size = true", "training.batch_size is True; "),
        ("[training]\nbatch_size = 0", "batch_size is 0"),
        ("[training]\nlearning_rate = nan", "training.learning_rate is nan; "),
        (
            "[submodel]\nkind = 'distreal'\nrates = [0.5, 'all']",
            "submodel.rates[1] is 'all'; it should be a valid number",
        ),
        ("[submodel]\nkind = 'distreal'\nrates = [1.5]", "submodel.rates is 1.5"),
        ("[submodel]\nkind = 'distreal'\nrates = []", "submodel.rates is empty"),
        ("[submodel]\nkind = 'distreal'\nrates = [[]]", "submodel.rates holds an empty vector"),
        ("[codec]\nkind = 'topk'\nratio = 2.0", "codec: ratio must lie in (0, 1], not 2.0"),
        ("[strategy]\nkind = 'fadas'\nbeta1 = 1.0", "fadas.beta1 is 1.0; it must be below 1"),
        ("[strategy]\nkind = 'fednova'\nmomentum = 1.5", "fednova.momentum is 1.5"),
        ("[strategy]\nkind = 'port'\nalpha = 0", "port.alpha is 0"),
        ("[strategy]\nkind = 'ca2fl'\ndevices = 0", "ca2fl.devices is 0"),
        ("[strategy]\nkind = 'fedasmu'\nrule = 'x'", "it should be 'gated' or 'approximate'"),
        ("[pace]\nkind = 'rounds'\ncohort = 0", "pace.cohort is 0"),
        ("[pace]\nkind = 'rounds'\nover_selection = 0.5", "pace.over_selection is 0.5"),
        ("[pace]\nkind = 'rounds'\nreplace_lost = false", "set pace.deadline_s"),
        (
            "[selection]\nkind = 'oort'\nclip_percentile = 101",
            "selection.clip_percentile is 101.0; it must be between 0 and 100",
        ),
        ("[selection]\nkind = 'tifl'\ntiers = 0", "selection.tiers is 0"),
        ("[partition]\nkind = 'dirichlet'\nalpha = 0", "partition.alpha is 0"),
        ("[stop]\naccuracy = 97", "stop.accuracy is 97"),
        ("[limits]\nstaleness = -1", "limits.staleness is -1"),
        ("[evaluation]\nlimit = 0", "evaluation.limit is 0"),
        ("[refresh]\nslot = 1", "refresh.slot is 1 with refresh.kind 'learned'"),
        ("[refresh]\nkind = 'fixed'", "refresh.slot is 0 with refresh.kind 'fixed'"),
        ("[refresh]\nkind = 'fixed'\nslot = 2", "training.local_epochs is 2; pull before the last"),
        ("refresh = 'fixed'", "refresh is 'fixed'; write it as a table: [refresh]"),
        ("name = 'two words'", "name is 'two words'; take 1 to 64 letters"),
        ("seed = 'one'", "seed is 'one'; it should be a valid integer"),
    ],
)
def test_a_wrong_key_or_value_is_named(tmp_path: Path, line: str, message: str) -> None:
    assert message in complaint(tmp_path, f"{line}\n{SHORT}")


def test_a_wrong_key_within_the_data_is_named(tmp_path: Path) -> None:
    assert "unknown key data.normalise.men (did you mean 'mean'?); known here: mean, std" in (
        complaint(tmp_path, SHORT + "normalise = { men = [0.5] }")
    )
    assert "unknown key data.path" in complaint(tmp_path, SHORT + "path = 'x'")
    assert "data.normalise.std is [0.0]" in (
        complaint(tmp_path, SHORT + "normalise = { std = [0.0] }")
    )


def test_a_function_source_has_a_key_of_its_own_kind_s_name(tmp_path: Path) -> None:
    text = SHORT.replace('kind = "digits"', 'kind = "function"\nfunction = "m:f"\n')
    assert "data.arguments is 3; write it as a table" in complaint(tmp_path, text + "arguments = 3")
    assert "data.function is 3" in complaint(tmp_path, text.replace('"m:f"', "3"))


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    assert complaint(tmp_path, "").splitlines() == [
        f"{tmp_path / 'mine.toml'}: model is missing; add it",
        f"{tmp_path / 'mine.toml'}: data is missing; add it",
    ]
    assert "model.function is missing" in complaint(tmp_path, "[model]\n[data]\nkind = 'digits'")
    assert "data.train is missing" in complaint(tmp_path, SHORT.replace('"digits"', '"parquet"'))


def test_everything_wrong_is_said_at_once(tmp_path: Path) -> None:
    text = "seed = 'one'\n" + SHORT + "[stop]\nversion = 3\n[training]\nepochs = 1"
    keys = re.findall(r"mine.toml: (?:unknown key )?([\w.]+)", complaint(tmp_path, text))
    assert sorted(keys) == ["seed", "stop.version", "training.epochs"]


def test_a_slip_in_the_toml_is_named_with_its_line(tmp_path: Path) -> None:
    assert "is no valid TOML" in complaint(tmp_path, SHORT + "[training")
    assert "line 3" in complaint(tmp_path, "seed = 1\nname = 'x'\nmodel = = 3")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"there is no task file .*absent.toml"):
        load_task(tmp_path / "absent.toml")
    with pytest.raises(TaskError, match="cannot be read"):
        load_task(tmp_path)
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(TaskError, match=r"binary.toml cannot be read"):
        load_task(tmp_path / "binary.toml")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("digits_cnn", 'names no function; write "module:function"'),
        ("no_such_module_here:net", "no module 'no_such_module_here'"),
        ("hocket.learn.models:digit_cnn", "did you mean 'digits_cnn'"),
        ("math:pi", "is a float, no function"),
        ("math:gcd", "returned int; it must return a torch.nn.Module"),
        ("hocket.learn.models:mlp", "raised TypeError"),
    ],
)
def test_a_model_function_that_gives_no_model_is_named(
    tmp_path: Path, function: str, message: str
) -> None:
    task = read(tmp_path, SHORT.replace("hocket.learn.models:digits_cnn", function))
    with pytest.raises(ModelError, match=message):
        task.build_model()


def test_a_model_of_another_shape_than_the_data_is_named(tmp_path: Path) -> None:
    task = read(tmp_path, SHORT.replace("digits_cnn", "cifar_cnn"))
    with pytest.raises(ModelError, match=r"models:cifar_cnn does not take inputs of shape \(1, 8"):
        task.check_fit(task.build_model(), task.test_examples())


# --- where things are looked for


def test_data_is_looked_for_beside_the_task_and_then_in_the_data_folders(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for folder, value in ((here, 1.0), (there, 2.0)):
        folder.mkdir()
        np.savez(
            folder / "x.npz", train_images=np.full((9, 3), value), train_labels=np.zeros(9, int)
        )
    text = SHORT.replace('kind = "digits"', 'kind = "npz"\npath = "x.npz"\ntest_share = 0.5')
    file = write(here, text)
    found = load_task(file, data_folders=[there]).test_examples()
    assert found.inputs[0, 0].item() == 1.0
    (here / "x.npz").unlink()
    found = load_task(file, data_folders=[there]).test_examples()
    assert found.inputs[0, 0].item() == 2.0
    with pytest.raises(DataError, match="HOCKET_DATA"):
        load_task(file).test_examples()


def test_functions_are_looked_for_beside_the_task_and_then_in_the_code_folders(
    tmp_path: Path,
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    (there / "task_user_net.py").write_text(
        "from torch import nn\ndef net(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
    )
    file = write(here, SHORT.replace("hocket.learn.models:digits_cnn", "task_user_net:net"))
    task = load_task(file, code_folders=[there])
    task.check_fit(task.build_model(), task.test_examples())
    assert str(there) not in sys.path
    del sys.modules["task_user_net"]
    with pytest.raises(ModelError, match="no module 'task_user_net'"):
        load_task(file).build_model()


# --- the tasks we ship


def test_the_default_task_is_the_digits_demo() -> None:
    task = default_task()
    assert task.name == "digits"
    assert task.origin.path is not None
    assert load_task(task.origin.path) == task
    model, test = task.build_model(), task.test_examples()
    task.check_fit(model, test)
    shares = [task.train_examples(shard, 6) for shard in range(6)]
    assert sum(len(share) for share in shares) + len(test) == 1797
    assert not any(  # held out means held out
        torch.equal(mine, held) for mine in shares[0].inputs[:20] for held in test.inputs
    )


def test_two_processes_start_from_the_same_values() -> None:
    one, other = default_task().build_model(), default_task().build_model()
    for mine, theirs in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_the_example_of_an_own_model_works_as_it_stands() -> None:
    task = load_task(EXAMPLES / "own_model.toml")
    train = task.train_examples(0, 3)
    assert len(train) == 400
    task.check_fit(task.build_model(), train)
    assert set(task.test_examples().labels.tolist()) == {0, 1, 2}


def test_the_examples_of_mnist_and_cifar10_name_files_in_the_data_folder() -> None:
    mnist, cifar = (load_task(EXAMPLES / f"{name}.toml") for name in ("mnist", "cifar10"))
    assert isinstance(mnist.data, Npz)
    assert mnist.data.path == "mnist.npz"
    assert isinstance(cifar.data, Parquet)
    assert (cifar.data.train, cifar.data.test) == ("cifar10-train.parquet", "cifar10-test.parquet")
    for task in (mnist, cifar):
        task.build_model()


waiting = pytest.mark.parametrize(
    "strategy",
    sorted(
        {
            f"kind = '{rule.kind}'\n{rule.waits_for} = 4"
            for rule in every_strategy(4)
            if isinstance(rule, Waiting)
        }
    ),
)


@waiting
def test_a_round_as_large_as_what_the_strategy_waits_for_is_taken(
    tmp_path: Path, strategy: str
) -> None:
    pace = "[pace]\nkind = 'rounds'\ncohort = 4\nover_selection = 1.25\ndeadline_s = 60"
    task = read(tmp_path, f"[strategy]\n{strategy}\n{pace}\n{SHORT}")
    assert task.pace == Rounds(4, over_selection=1.25, deadline_s=60.0)


@pytest.mark.parametrize("kind", ["fedasmu", "fedasync"])
def test_a_deadline_for_a_strategy_without_rounds_is_refused(tmp_path: Path, kind: str) -> None:
    text = f"[strategy]\nkind = '{kind}'\n[pace]\nkind = 'rounds'\ndeadline_s = 60\n"
    with pytest.raises(TaskError, match=rf"pace\.deadline_s is 60.*strategy\.kind is '{kind}'"):
        read(tmp_path, text + SHORT)


@waiting
def test_a_round_that_could_never_be_complete_is_refused(tmp_path: Path, strategy: str) -> None:
    text = f"[strategy]\n{strategy}\n[pace]\nkind = 'rounds'\ncohort = 3\n"
    with pytest.raises(TaskError, match=r"pace\.cohort is 3.*is 4"):
        read(tmp_path, text + SHORT)


def test_a_synchronous_task_can_be_written(tmp_path: Path) -> None:
    text = "[strategy]\nkind = 'fedavg'\ncohort = 3\n[pace]\nkind = 'rounds'\ncohort = 3\n"
    task = read(tmp_path, text + SHORT)
    assert task.pace == Rounds(cohort=3)
    assert task.strategy.kind == "fedavg"


@pytest.mark.parametrize(
    "text",
    [
        "model = 1",
        "training = []",
        "[[training]]",
        "data = {kind = []}",
        "data = {kind = nan}",
        "[model]\nfunction = 1979-05-27",
        "seed = 99999999999999999999999999",
        "[stop]\nversions = nan",
        "[origin]\npath = 'x'",
        "[submodel]\nkind = 'distreal'\nrates = [[[[]]]]",
        "[partition]\nkind = 'dirichlet'\nalpha = inf",
        "x = " + "[" * 5000 + "]" * 5000,
        "x" * 100_000 + " = 1",
        "a" + ".a" * 3000 + " = 1",
    ],
    ids=lambda text: text[:30],
)
def test_task_files_that_are_toml_and_no_task(tmp_path: Path, text: str) -> None:
    file = tmp_path / "task.toml"
    file.write_text(text)
    with pytest.raises(TaskError):
        load_task(file)
