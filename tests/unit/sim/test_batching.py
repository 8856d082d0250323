"""Devices trained together come to what they come to one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from support.learners import Folded, Ledger, terms
from torch import Tensor, nn

from hocket.core.terms import LocalTerms, TrainingTerms
from hocket.errors import NotFinite
from hocket.learn.blueprint import Blueprint
from hocket.learn.data import Examples
from hocket.learn.flat import flatten
from hocket.learn.local_learner import LocalLearner
from hocket.learn.models import digits_cnn, mlp
from hocket.sim.batching import FEWEST, MOST, Batched, Job, Mode, Outcome

PLAIN = TrainingTerms(local_epochs=2, batch_size=8, learning_rate=0.1)
HEAVY = replace(PLAIN, momentum=0.9, weight_decay=0.01)
UNEQUAL = (40, 8, 33, 17, 5, 64, 24, 12, 40, 9, 40, 16)  # 33, 17 and 9 leave one example over
EQUAL = (20,) * 12
TWO_EPOCHS = ((1, 1.0), (2, 1.0))


class Drawing(nn.Sequential):
    """Its dropout draws another mask for every device."""

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(64, 10), nn.Dropout(0.5))


class Normed(nn.Sequential):
    """It keeps running statistics."""

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(64, 10), nn.BatchNorm1d(10))


def net() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return mlp(inputs=64, classes=10, hidden=(16,))


def blueprint(
    module: nn.Module | None = None,
    training: TrainingTerms = PLAIN,
    rows: tuple[tuple[float, ...], ...] = (),
) -> Blueprint:
    module = module or net()
    return Blueprint.of(module, replace(terms(module), training=training, dropout_rows=rows))


def jobs(
    plan: Blueprint, sizes: Sequence[int] = EQUAL, epochs: Sequence[tuple[int, float]] = TWO_EPOCHS
) -> list[Job]:
    made = []
    for number, size in enumerate(sizes):
        chance = torch.Generator().manual_seed(number)
        inputs = torch.rand(size, 1, 8, 8, generator=chance)
        labels = torch.randint(10, (size,), generator=chance)
        learner = LocalLearner(plan, Examples(inputs, labels), Ledger(), name=f"d{number}")
        learner.start_from(flatten(plan.module), 1)
        made.append(Job(learner, epochs))
    return made


def one_by_one(some: Sequence[Job]) -> list[Outcome]:
    return [tuple(job.learner.train_epoch(epoch) for epoch, _ in job.epochs) for job in some]


def models(some: Sequence[Job]) -> Tensor:
    return torch.stack([job.learner.trainer.weights() for job in some])


@pytest.mark.parametrize("sizes", [EQUAL, UNEQUAL], ids=["equal", "unequal"])
@pytest.mark.parametrize("training", [PLAIN, HEAVY], ids=["sgd", "momentum"])
def test_together_is_one_by_one_within_rounding(
    sizes: Sequence[int], training: TrainingTerms
) -> None:
    together, alone = (jobs(blueprint(training=training), sizes) for _ in range(2))
    batched = Batched(together[0].learner.blueprint)
    assert batched.applies(together)
    for ours, theirs in zip(batched.run(together), one_by_one(alone), strict=True):
        assert isinstance(ours, tuple)
        assert isinstance(theirs, tuple)
        assert [epoch.steps for epoch in ours] == [epoch.steps for epoch in theirs]
        for us, them in zip(ours, theirs, strict=True):
            assert us.mean_loss == pytest.approx(them.mean_loss, rel=1e-6)
            assert us.loss_rms == pytest.approx(them.loss_rms, rel=1e-6)
    moved = (models(alone) - flatten(net())).abs().amax(dim=1)
    assert float(moved.min()) > 0.01
    torch.testing.assert_close(models(together), models(alone), rtol=1e-6, atol=1e-6)


def test_momentum_goes_on_from_one_run_to_the_next() -> None:
    """As it must where a merge lies between two epochs."""
    plan = blueprint(training=HEAVY)
    together, alone = jobs(plan, UNEQUAL), jobs(plan, UNEQUAL)
    for epoch in ((1, 1.0),), ((2, 1.0),):
        Batched(plan).run([Job(job.learner, epoch) for job in together])
    one_by_one(alone)
    torch.testing.assert_close(models(together), models(alone), rtol=1e-6, atol=1e-6)


def test_the_same_jobs_give_the_same_bits() -> None:
    runs = []
    for _ in range(2):
        plan = blueprint()
        some = jobs(plan, UNEQUAL)
        runs.append((Batched(plan).run(some), models(some)))
    assert runs[0][0] == runs[1][0]
    assert torch.equal(runs[0][1], runs[1][1])


def test_more_jobs_than_are_stacked_at_once() -> None:
    plan = blueprint()
    sizes = (8,) * (MOST + 3)
    together, alone = jobs(plan, sizes), jobs(plan, sizes)
    Batched(plan).run(together)
    one_by_one(alone)
    torch.testing.assert_close(models(together), models(alone), rtol=1e-6, atol=1e-6)


def test_steps_are_stacked_and_not_done_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else nothing would be gained: with equal shards no step is taken alone."""
    plan = blueprint()
    some = jobs(plan)
    taken: list[Job] = []
    for job in some:
        monkeypatch.setattr(job.learner.trainer, "step", lambda *_, job=job: taken.append(job))
    Batched(plan).run(some)
    assert taken == []


@pytest.mark.parametrize("odd", [False, True])
def test_who_diverges_leaves_the_others_alone(odd: bool) -> None:
    """Whether in a stacked mini-batch or in one that is trained alone."""
    plan = blueprint()
    sizes = UNEQUAL
    together, alone = jobs(plan, sizes), jobs(plan, sizes)
    victim = 4 if odd else 5  # of five examples: no full mini-batch; of 64: no other
    together[victim].learner.examples.inputs.fill_(float("inf"))
    outcomes = Batched(plan).run(together)
    expected = one_by_one(alone)
    failed = outcomes[victim]
    assert isinstance(failed, NotFinite)
    assert "learning rate" in failed.message
    rest = [number for number in range(len(sizes)) if number != victim]
    assert all(isinstance(outcomes[number], tuple) for number in rest)
    assert len(expected) == len(outcomes)
    torch.testing.assert_close(models(together)[rest], models(alone)[rest], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("plan", "auto", "on"),
    [
        (blueprint(), True, True),
        (blueprint(training=HEAVY), True, True),
        (blueprint(mlp(64, 10, (2000,))), False, True),  # 1.2 million a step
        (blueprint(digits_cnn()), False, True),
        (blueprint(training=replace(PLAIN, gradient_clip_norm=1.0)), False, False),
        (blueprint(Normed()), False, False),
        (blueprint(Drawing()), False, False),
        (blueprint(Folded()), False, False),
    ],
    ids=["mlp", "momentum", "large", "cnn", "clipped", "norm", "draws", "branches"],
)
def test_the_rule_is_told_by_model_and_rules_alone(plan: Blueprint, auto: bool, on: bool) -> None:
    modes: list[Mode] = ["auto", "on", "off"]
    module = plan.module.train(False)
    assert [Batched(plan, mode).suits((1, 8, 8)) for mode in modes] == [auto, on, False]
    assert not module.training


def test_few_jobs_are_not_worth_it() -> None:
    plan = blueprint()
    assert Batched(plan).applies(jobs(plan, (8,) * FEWEST))
    assert not Batched(plan).applies(jobs(plan, (8,) * (FEWEST - 1)))
    assert not Batched(plan, "off").applies(jobs(plan))


def test_an_epoch_that_drops_filters_is_trained_alone() -> None:
    """A whole processor affords the row that drops nothing."""
    plan = blueprint(digits_cnn(), rows=((0.0,), (0.5,)))
    assert Batched(plan, "on").applies(jobs(plan))
    assert not Batched(plan, "on").applies(jobs(plan, epochs=((1, 1.0), (2, 0.6))))


def test_a_client_half_is_trained_alone() -> None:
    proximal = replace(PLAIN, local=LocalTerms("proximal", (("mu", 0.1),)))
    plan = blueprint(training=proximal)
    assert not Batched(plan).applies(jobs(plan))


def test_examples_of_two_shapes_are_not_stacked() -> None:
    plan = blueprint()
    some = jobs(plan)
    flat = Examples(torch.rand(20, 64), torch.arange(20) % 10)
    learner = LocalLearner(plan, flat, Ledger(), name="flat")
    learner.start_from(flatten(plan.module), 1)
    assert not Batched(plan).applies([*some, Job(learner, TWO_EPOCHS)])
