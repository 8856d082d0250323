"""What a task's updates may move: rows of their devices' classes, and no running statistics."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support.aggregating import CNN, TASK, header
from support.normed_net import normed
from support.simulations import fleet, simulation, task
from support.strategies import bits
from torch import Tensor

from hocket.core.payload import Payload
from hocket.core.records import Evaluation
from hocket.core.strategy import Global
from hocket.core.submodel import FULL, SubmodelSpec
from hocket.errors import HocketError, InvalidUpdate, ModelError, TaskError
from hocket.learn.codecs import Raw, TopK
from hocket.learn.codecs.payload import encode_payload
from hocket.learn.flat import manifest_of, views
from hocket.learn.norms import statistics_of, with_statistics
from hocket.learn.strategies import FedASMU, FedAvg, Scaffold
from hocket.learn.strategies.parts import Parts
from hocket.learn.training import evaluate
from hocket.task import ModelRef, load_task
from hocket.task.setup import Setup, set_up
from hocket.task.soundness import check_update

NORMED = ModelRef("support.normed_net:normed", {})
RULES: list[Any] = [
    FedAvg(cohort=1),
    FedAvg(cohort=1, parts=Parts("equal", damped=True)),
    FedASMU(),
    FedASMU(staleness_of="entry"),
]


def ready(model: ModelRef = CNN, strategy: Any = RULES[0], **training: Any) -> Setup:
    rules = replace(TASK.training, **training)
    return set_up(replace(TASK, model=model, strategy=strategy, training=rules))


MASKED, PLAIN = ready(masked_loss="zero"), ready()
STATIC = ready(NORMED, norm="static")


def everywhere(setup: Setup, spec: SubmodelSpec = FULL, codec: Any = None) -> Payload:
    """An update that moves every entry that it has."""
    manifest = setup.sliceable().plan(spec).sliced_manifest
    delta = 1 + torch.rand(manifest.size, generator=torch.Generator().manual_seed(1))
    return encode_payload(delta, manifest, codec or Raw(), torch.Generator(), pack=False)


def step(setup: Setup, payload: Payload, **fields: Any) -> tuple[Tensor, Tensor]:
    """The model before and after the update."""
    model, rule = setup.sliceable(), setup.strategy
    told = header("a", **fields)
    check_update(told, payload.header, setup.terms, model)
    update = model.decode(told, payload, model.plan(told.spec))
    square = float(update.delta.double().square().sum())
    assert update.square == pytest.approx(square, rel=1e-5)
    first = setup.first
    made = rule.step(Global(first), rule.init(first), update, first)
    assert made.after.version == 2
    return first, made.after.model


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.kind}{RULES.index(rule)}")
@pytest.mark.parametrize("keep", [(), (0.5,)])
def test_an_update_moves_the_output_rows_of_its_classes_only(
    rule: Any, keep: tuple[float, ...]
) -> None:
    """Labels 2 and 7: rows 2 and 7, though the device sent something for all ten."""
    setup, spec = ready(strategy=rule, masked_loss="zero"), SubmodelSpec(keep)
    before, after = step(setup, everywhere(setup, spec), labels=(2, 7), spec=spec)
    moved = views(after != before, setup.terms.manifest)
    for name in ("8.weight", "8.bias"):
        assert moved[name].reshape(10, -1).any(dim=1).nonzero()[:, 0].tolist() == [2, 7]
        assert moved[name][[2, 7]].all()
    assert moved["6.bias"].all()  # other layers move as ever


def test_an_update_of_all_classes_moves_what_one_without_a_mask_does() -> None:
    ends = [
        step(MASKED, everywhere(MASKED), labels=tuple(range(10))),
        step(PLAIN, everywhere(PLAIN)),
    ]
    assert bits(ends[0][1]) == bits(ends[1][1])


def test_rows_of_devices_with_other_classes_are_averaged_over_who_has_them() -> None:
    setup = ready(strategy=FedAvg(cohort=2), masked_loss="zero")
    model, rule = setup.sliceable(), setup.strategy
    memory, now = rule.init(setup.first), Global(setup.first)
    payload = everywhere(setup)
    for device, labels in (("a", (2, 7)), ("b", (7, 9))):
        update = model.decode(header(device, labels=labels), payload, model.plan(FULL))
        made = rule.step(now, memory, update, setup.first)
        memory = made.memory
    moved = views(made.after.model - setup.first, setup.terms.manifest)["8.bias"]
    sent = views(torch.frombuffer(bytearray(payload.body), dtype=torch.float32), model.manifest)
    assert torch.allclose(moved[[2, 7, 9]], sent["8.bias"][[2, 7, 9]], atol=1e-6)
    assert not moved[[0, 1, 3, 4, 5, 6, 8]].any()


@pytest.mark.parametrize(
    ("setup", "labels", "says"),
    [
        (MASKED, (2, 10), "labels holds 10"),
        (MASKED, (7, 2), "ascend"),
        (MASKED, (), "labels is empty"),
        (PLAIN, (2, 7), "not masked"),
    ],
)
def test_labels_that_do_not_fit_are_refused_before_and_behind_the_body(
    setup: Setup, labels: tuple[int, ...], says: str
) -> None:
    model, told, payload = setup.sliceable(), header("a", labels=labels), everywhere(setup)
    with pytest.raises(InvalidUpdate, match=says):
        check_update(told, payload.header, setup.terms, model)
    with pytest.raises(InvalidUpdate, match=says):
        model.decode(told, payload, model.plan(FULL))


@pytest.mark.parametrize("codec", [Raw(), TopK(0.9)], ids=["dense", "sparse"])
@pytest.mark.parametrize("keep", [(), (0.5,)])
@pytest.mark.parametrize("rule", RULES[::2], ids=lambda rule: rule.kind)
def test_with_static_norm_nobody_moves_running_statistics(
    rule: Any, keep: tuple[float, ...], codec: Any
) -> None:
    """Not even who sends other ones; and of what is sent otherwise nothing is lost."""
    spec = SubmodelSpec(keep)
    static, running = (ready(NORMED, rule, norm=norm) for norm in ("static", "running"))
    before, after = step(static, everywhere(static, spec, codec), spec=spec)
    _, other = step(running, everywhere(running, spec, codec), spec=spec)
    fixed = statistics_of(normed(), static.terms.manifest)
    assert len(fixed) == 4
    pieces = (views(vector, static.terms.manifest) for vector in (before, after, other))
    old, new, moved = pieces
    for name, values in new.items():
        if name in fixed:
            assert torch.equal(values, old[name])
            assert not torch.equal(values, moved[name])
        elif rule.kind == "fedavg":
            assert torch.equal(values, moved[name])


def test_with_static_norm_a_version_is_judged_with_statistics_of_training_data() -> None:
    told = replace(
        STATIC.task,
        evaluation=replace(STATIC.task.evaluation, limit=None, statistics_examples=150),
    )
    setup = set_up(told)
    model = setup.first.clone()
    found = setup.load_examine()(model)
    assert bits(model) == bits(setup.first)

    net, manifest = told.build_model(), setup.terms.manifest
    some = told.statistics_examples()
    assert len(some) == 150
    judged = with_statistics(net, model, some.inputs, manifest)
    tests = told.test_examples()
    expected = Evaluation(*evaluate(net, judged, tests.inputs, tests.labels))
    assert found == expected
    assert found.test_loss != evaluate(net, model, tests.inputs, tests.labels)[0]
    assert setup.load_examine(training=some.take(torch.arange(60)))(model) != expected


def test_the_statistics_are_of_training_examples_and_of_no_others() -> None:
    told = replace(TASK, evaluation=replace(TASK.evaluation, limit=None, statistics_examples=99))
    some, tests = told.statistics_examples(), told.test_examples()
    seen = {bytes(each.numpy()) for each in tests.inputs}
    assert not seen & {bytes(each.numpy()) for each in some.inputs}


def test_a_simulation_judges_as_a_service_does() -> None:
    """A fleet whose devices share the very data: the pool is at hand, and nothing is read twice."""
    told = task(
        model={"function": NORMED.function},
        training={"local_epochs": 1, "batch_size": 8, "learning_rate": 0.1, "norm": "static"},
        evaluation={"every_versions": 1, "statistics_examples": 40},
    )
    ran = simulation(told, fleet(3, stop={"virtual_s": 6.0}), seed=told.seed)
    result = ran.run()
    assert result.newest.version > 2
    service = set_up(told)
    tensors = views(result.newest.model, service.terms.manifest)
    start = views(service.first, service.terms.manifest)
    for name in service.statistics:
        assert torch.equal(tensors[name], start[name])
    judged = service.load_examine()(result.newest.model)
    assert (judged.test_loss, judged.test_accuracy) == (
        result.curve[-1].loss,
        result.curve[-1].accuracy,
    )


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (
            lambda: ready(ModelRef("support.small_nets:headless"), masked_loss="zero"),
            ModelError,
            "output layer",
        ),
        (lambda: ready(strategy=Scaffold(), masked_loss="zero"), TaskError, "takes whole models"),
        (
            lambda: replace(TASK.evaluation, statistics_examples=1),
            TaskError,
            "statistics_examples is 1",
        ),
    ],
)
def test_tasks_that_cannot_be_are_refused(make: Any, error: type[HocketError], says: str) -> None:
    with pytest.raises(error, match=says):
        make()


def test_a_task_file_says_all_of_it(tmp_path: Path) -> None:
    file = tmp_path / "task.toml"
    file.write_text(
        """
        [model]
        function = "support.normed_net:normed"
        [data]
        kind = "digits"
        [training]
        norm = "static"
        masked_loss = "minus_infinity"
        [strategy]
        kind = "fedavg"
        parts = { weights = "width", damped = true }
        [evaluation]
        statistics_examples = 64
        """
    )
    told = load_task(file)
    assert told.strategy == FedAvg(parts=Parts("width", damped=True))
    assert (told.training.norm, told.training.masked_loss) == ("static", "minus_infinity")
    terms = set_up(told).terms.training
    assert (terms.static_norm, terms.masked_loss) == (True, "minus_infinity")
    assert manifest_of(normed()).digest == set_up(told).terms.manifest.digest
