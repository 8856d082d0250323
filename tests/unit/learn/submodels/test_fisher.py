"""The Fisher score: the authors' cheap one and the textbook's, and that steps do not notice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from support.learners import Folded, Ledger, base, examples, model, terms
from support.small_nets import ConcatNet, NormNet, PlainNet, shake
from torch import Tensor, nn

from hocket.core.sizing import Whale, terms_of
from hocket.core.sizing.size import FisherForm
from hocket.errors import ModelError
from hocket.learn.blueprint import Blueprint
from hocket.learn.flat import flatten, manifest_of
from hocket.learn.local_learner import EpochTally, LocalLearner
from hocket.learn.sgd import TrainingRules
from hocket.learn.submodels.dropout import draw
from hocket.learn.submodels.fisher import proxy
from hocket.learn.submodels.graph import channel_graph
from hocket.learn.submodels.layout import undroppable
from hocket.learn.submodels.plan import IndexPlan
from hocket.learn.submodels.step import BatchLoss, sliced_step
from hocket.learn.training import LocalTrainer

RULES = TrainingRules(1, 8, learning_rate=0.1, momentum=0.9)


def whole(net: nn.Module) -> IndexPlan:
    graph = channel_graph(net)
    return IndexPlan(graph, (None,) * len(graph.groups))


def batch(shape: tuple[int, ...], n: int = 8) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    inputs = torch.randn((n, *shape), generator=generator)
    return inputs, torch.randint(3, (n,), generator=generator)


def gradients(
    net: nn.Module, inputs: Tensor, labels: Tensor, times: float = 1.0
) -> Sequence[Tensor]:
    loss = F.cross_entropy(net(inputs), labels) * times
    return torch.autograd.grad(loss, list(net.parameters()))


def score(
    net: nn.Module, data: tuple[Tensor, Tensor], form: FisherForm, rules: TrainingRules = RULES
) -> float:
    return sliced_step(net, flatten(net), whole(net), data, rules, fisher=form).fisher


def test_the_numbers_of_the_methods_page() -> None:
    """whale-fl.md 3.10 item 4."""
    one, two = torch.tensor([[0.1, -0.2], [0.3, 0.0]]), torch.tensor([0.05, -0.05])
    assert proxy([one], 64) == pytest.approx(5.46875e-4, rel=1e-6)
    assert proxy([two], 64) == pytest.approx(3.90625e-5, rel=1e-6)
    assert proxy([two, one], 64) == proxy([one], 64)
    assert proxy([], 64) == 0.0


def test_a_step_tells_the_proxy_of_its_mini_batch() -> None:
    net = PlainNet((4, 6, 5), maps=8)
    shake(net)
    inputs, labels = batch((3, 8, 8))
    found = [g.double() for g in gradients(net, inputs, labels)]
    expected = max(float((g * g).sum()) / g.numel() for g in found) / 8
    assert score(net, (inputs, labels), "proxy") == pytest.approx(expected, rel=1e-5)


def test_it_is_quadratic_in_a_factor_of_the_loss() -> None:
    net = PlainNet((4, 6, 5), maps=8)
    shake(net)
    once, thrice = (gradients(net, *batch((3, 8, 8)), times) for times in (1.0, 3.0))
    assert proxy(thrice, 8) == pytest.approx(9 * proxy(once, 8), rel=1e-5)


@pytest.mark.parametrize("form", ["proxy", "per_sample"])
def test_it_is_taken_before_clipping(form: FisherForm) -> None:
    net = PlainNet((4, 6, 5), maps=8)
    shake(net)
    data = batch((3, 8, 8))
    clipped = replace(RULES, gradient_clip_norm=1e-4)
    assert score(net, data, form, clipped) == score(net, data, form) > 0.0


@pytest.mark.parametrize("net", [PlainNet((4, 6, 5), maps=8), NormNet(), ConcatNet()])
def test_the_textbook_form_averages_the_squares_of_each_examples_gradient(net: nn.Module) -> None:
    shake(net)
    shape = {"PlainNet": (3, 8, 8), "NormNet": (1, 6, 6), "ConcatNet": (1, 4, 4)}
    inputs, labels = batch(shape[type(net).__name__], 6)
    got = score(net, (inputs, labels), "per_sample")
    assert net.training
    net.train()
    net(inputs)  # moves the running statistics, as the step's own pass does before
    net.eval()
    each = [gradients(net, inputs[n : n + 1], labels[n : n + 1]) for n in range(6)]
    tensors = zip(*each, strict=True)
    means = [fmean(float(g.double().square().mean()) for g in tensor) for tensor in tensors]
    assert got == pytest.approx(max(means), rel=1e-4)


def test_a_sliced_step_scores_what_it_trains() -> None:
    """The mean of a tensor is over its kept entries: as of the small net with their values."""
    net = PlainNet((4, 8, 4), maps=8)
    shake(net)
    graph = channel_graph(net)
    plan = draw(graph, (0.5, 0.5, 0.5), torch.Generator().manual_seed(1))
    small = PlainNet((2, 4, 2), maps=8)
    values = iter(torch.split(plan.extract(flatten(net)), [p.numel() for p in small.parameters()]))
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.copy_(next(values).view(parameter.shape))
    data = batch((3, 8, 8))
    for form in ("proxy", "per_sample"):
        got = sliced_step(net, flatten(net), plan, data, RULES, fisher=form).fisher
        assert got == pytest.approx(score(small, data, form), rel=1e-4)


@pytest.mark.parametrize("form", ["proxy", "per_sample"])
def test_measuring_changes_no_bit_of_the_step(form: FisherForm) -> None:
    net = NormNet()
    shake(net)
    results: list[tuple[Tensor, Tensor, float]] = []
    for asked in (None, form):
        vector, chance = flatten(net), torch.Generator().manual_seed(3)
        velocity = torch.zeros_like(vector)
        for _ in range(3):
            plan = draw(channel_graph(net), (0.5, 0.5), chance)
            loss = sliced_step(
                net, vector, plan, batch((1, 6, 6)), RULES, velocity=velocity, fisher=asked
            )
        assert (loss.fisher > 0.0) is (asked is not None)
        results.append((vector, velocity, loss.mean))
    (one, speed, loss_one), (other, speed_too, loss_other) = results
    assert torch.equal(one, other)
    assert torch.equal(speed, speed_too)
    assert loss_one == loss_other


def test_a_model_that_cannot_be_taken_by_example_says_so() -> None:
    net = Folded()  # asks a value of its data
    plan, data = IndexPlan(undroppable(manifest_of(net)), ()), examples()
    with pytest.raises(ModelError, match="fisher = 'proxy'"):
        sliced_step(net, flatten(net), plan, (data.inputs, data.labels), RULES, fisher="per_sample")


def test_an_epoch_tells_the_largest_of_its_mini_batches() -> None:
    tally = EpochTally()
    for fisher in (float("nan"), 2e-6, 5e-6, float("nan"), 3e-6):
        tally.add(8, BatchLoss(1.0, 1.0, fisher))
    assert tally.result(1.0).fisher == 5e-6
    without = EpochTally()
    without.add(8, BatchLoss(1.0, 1.0))
    assert without.result(1.0).fisher == 0.0


def test_a_device_measures_it_for_a_rule_that_asks_and_for_no_other() -> None:
    told = replace(terms(), dropout_rows=())
    asked = replace(told, sizing=terms_of(Whale()))
    scores = []
    for each in (told, asked):
        blueprint = Blueprint.of(model(), each)
        one = LocalLearner(blueprint, examples(), Ledger(), name="d")
        one.start(base(), 1)
        assert one.is_plain(1.0) is (each is told)  # stacked steps measure nothing
        scores.append(one.train_epoch(1).fisher)
    assert scores[0] == 0.0
    data, rules = examples(), TrainingRules(2, 16, learning_rate=0.1)
    trainer = LocalTrainer(model(), rules, data.inputs, data.labels, fisher="proxy")
    trainer.start(flatten(model()))
    again = LocalLearner(Blueprint.of(model(), asked), data, Ledger(), name="d")
    again.start(base(), 1)
    batches, chance = again.batches(1)
    assert scores[1] == max(trainer.step(some, None, chance).fisher for some in batches) > 0.0
