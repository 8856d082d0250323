"""One step on a slice: equal to masking, cheaper than masking, and blind to what is dropped."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from support.small_nets import ConcatNet, NormNet, PlainNet, ResNet, shake
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from hocket.errors import NotFinite
from hocket.learn.flat import flatten, load, manifest_of, views
from hocket.learn.sgd import TrainingRules
from hocket.learn.submodels.dropout import draw
from hocket.learn.submodels.graph import channel_graph
from hocket.learn.submodels.plan import IndexPlan
from hocket.learn.submodels.step import sliced_step

HARD = TrainingRules(1, 8, learning_rate=0.1, momentum=0.9, weight_decay=0.01, gradient_clip_norm=1)
GENTLE = TrainingRules(1, 8, learning_rate=0.1)
NETS: list[tuple[nn.Module, tuple[int, ...]]] = [
    (PlainNet((4, 6, 5), maps=8), (3, 8, 8)),
    (NormNet(), (1, 6, 6)),
    (ResNet((4, 6)), (3, 8, 8)),
    (ConcatNet(), (1, 4, 4)),
]
NAMES = ["plain", "norm", "residual", "concat"]


def batch(shape: tuple[int, ...], n: int = 8, classes: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    return (
        torch.randn((n, *shape), generator=generator),
        torch.randint(classes, (n,), generator=generator),
    )


def whole(net: nn.Module) -> IndexPlan:
    graph = channel_graph(net)
    return IndexPlan(graph, (None,) * len(graph.groups))


def dropped(net: nn.Module, rate: float, seed: int = 0) -> IndexPlan:
    graph = channel_graph(net)
    generator = torch.Generator().manual_seed(seed)
    return draw(graph, (rate,) * len(graph.groups), generator)


@pytest.mark.parametrize("rescale", [False, True])
@pytest.mark.parametrize(("net", "shape"), NETS, ids=NAMES)
def test_without_dropout_it_is_torchs_sgd_bit_for_bit(
    net: nn.Module, shape: tuple[int, ...], rescale: bool
) -> None:
    shake(net)
    vector = flatten(net)
    velocity = torch.zeros_like(vector)
    inputs, labels = batch(shape)
    ours = []
    for _ in range(3):
        step = sliced_step(
            net, vector, whole(net), (inputs, labels), HARD, velocity=velocity, rescale=rescale
        )
        ours.append(step.mean)
    net.train()
    sgd = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    theirs = []
    for _ in range(3):
        sgd.zero_grad()
        loss = F.cross_entropy(net(inputs), labels)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        sgd.step()
        theirs.append(float(loss.detach()))
    assert ours == theirs
    assert torch.equal(vector, flatten(net))


def test_a_step_tells_the_mean_square_of_its_examples_losses() -> None:
    net = PlainNet((4, 6, 5), maps=8)
    shake(net)
    inputs, labels = batch((3, 8, 8))
    with torch.no_grad():
        probabilities = net(inputs).double().softmax(dim=1)
    losses = [
        -math.log(float(row[label])) for row, label in zip(probabilities, labels, strict=True)
    ]
    assert max(losses) > 1.1 * min(losses)
    got = sliced_step(net, flatten(net), whole(net), (inputs, labels), GENTLE)
    assert got.mean == pytest.approx(math.fsum(losses) / 8, rel=1e-5)
    assert got.mean_square == pytest.approx(math.fsum(x * x for x in losses) / 8, rel=1e-5)


def test_the_square_of_a_very_large_loss_is_still_a_number() -> None:
    layer = nn.Linear(4, 2)
    with torch.no_grad():
        layer.bias.copy_(torch.tensor([1e30, 0.0]))
    net = nn.Sequential(nn.Flatten(), layer)
    inputs, labels = torch.zeros(2, 1, 4), torch.ones(2, dtype=torch.int64)
    got = sliced_step(net, flatten(net), whole(net), (inputs, labels), GENTLE)
    assert got.mean_square == pytest.approx(1e60, rel=1e-6)


@pytest.mark.parametrize(("net", "shape"), NETS, ids=NAMES)
def test_what_is_dropped_keeps_its_bits(net: nn.Module, shape: tuple[int, ...]) -> None:
    shake(net)
    vector = flatten(net)
    velocity = torch.rand(vector.shape, generator=torch.Generator().manual_seed(4))
    plan = dropped(net, 0.5)
    _, held = plan.scatter(plan.extract(vector))
    assert held is not None
    before, speed = vector.clone(), velocity.clone()
    sliced_step(net, vector, plan, batch(shape), HARD, velocity=velocity)
    kept = held.bool()
    assert torch.equal(vector[~kept], before[~kept])
    assert torch.equal(velocity[~kept], speed[~kept])
    # Momentum and decay move every kept weight, and each kept running statistic follows.
    assert bool((vector[kept] != before[kept]).all())
    assert float(held.mean()) < 0.6


def test_slicing_equals_masking() -> None:
    """distreal.md 2.8 item 2, against masks on the activations of the full net."""
    net = PlainNet((6, 8, 10), maps=8)
    shake(net)
    inputs, labels = batch((3, 8, 8))
    plan = dropped(net, 0.4)
    masks = []
    for kept, size in zip(plan.kept, (6, 8, 10), strict=True):
        assert kept is not None
        masks.append(torch.zeros(size).index_fill(0, kept, 1.0))
    loss = F.cross_entropy(net(inputs, tuple(masks)), labels)
    torch.autograd.backward(loss)
    vector = flatten(net)
    stepped = vector.clone()
    got = sliced_step(net, stepped, plan, (inputs, labels), GENTLE)
    assert got.mean == pytest.approx(float(loss.detach()), rel=1e-6)
    moved = views((vector - stepped) / 0.1, manifest_of(net))
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(moved[name], parameter.grad, rtol=1e-4, atol=1e-5)
    still = (moved["conv2.weight"] == 0).flatten(1).all(1)
    assert int(still.sum()) == 3  # round(.6 * 8) = 5 kept


def test_rescaling_multiplies_a_layers_outputs() -> None:
    """Inverted dropout against masks of K / k = 4 / 1, 8 / 2 and 10 / 2 (round(.25 * 10) = 2)."""
    net = PlainNet((4, 8, 10), maps=8)
    shake(net)
    inputs, labels = batch((3, 8, 8))
    plan = dropped(net, 0.75)
    masks = []
    for kept, size, scale in zip(plan.kept, (4, 8, 10), (4.0, 4.0, 5.0), strict=True):
        assert kept is not None
        masks.append(torch.zeros(size).index_fill(0, kept, scale))
    loss = F.cross_entropy(net(inputs, tuple(masks)), labels)
    torch.autograd.backward(loss)
    vector = flatten(net)
    stepped = vector.clone()
    got = sliced_step(net, stepped, plan, (inputs, labels), GENTLE, rescale=True)
    assert got.mean == pytest.approx(float(loss.detach()), rel=1e-5)
    gradient = torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])
    largest = float(gradient.abs().max())
    torch.testing.assert_close((vector - stepped) / 0.1, gradient, rtol=1e-3, atol=1e-4 * largest)


def test_a_sliced_step_is_a_small_nets_step() -> None:
    """A net that is built with fewer filters, and torch's own optimiser, as the second way."""
    net = PlainNet((6, 8, 10), maps=8)
    shake(net)
    plan = dropped(net, 0.5)
    vector = flatten(net)
    small = PlainNet((3, 4, 5), maps=8)
    load(small, plan.extract(vector))
    inputs, labels = batch((3, 8, 8))
    torch.autograd.backward(F.cross_entropy(small(inputs), labels))
    torch.optim.SGD(small.parameters(), lr=0.1).step()
    sliced_step(net, vector, plan, (inputs, labels), GENTLE)
    assert torch.equal(plan.extract(vector), flatten(small))


def test_running_statistics_of_kept_channels_are_the_batchs() -> None:
    net = NormNet()
    plan = dropped(net, 0.5)
    kept = plan.kept[0]
    assert kept is not None
    inputs, labels = batch((1, 6, 6))
    vector = flatten(net)
    sliced_step(net, vector, plan, (inputs, labels), GENTLE)
    conv = net.get_parameter("body.0.weight")
    outputs = F.conv2d(inputs, conv.detach(), padding=1)
    means = views(vector, plan.graph.manifest)["body.1.running_mean"]
    # Torch's momentum of 0.1, from 0; dropped channels stay at 0.
    expected = torch.zeros(6).index_copy(0, kept, 0.1 * outputs.mean((0, 2, 3))[kept])
    torch.testing.assert_close(means, expected)


def multiply_accumulates(net: nn.Module, plan: IndexPlan, shape: tuple[int, ...]) -> dict[str, int]:
    """Floating-point operations that torch really did in one step, by operator."""
    vector = flatten(net)
    with FlopCounterMode(display=False) as counter:
        sliced_step(net, vector, plan, batch(shape, n=1), GENTLE)
    return {str(op): count // 2 for op, count in counter.get_flop_counts()["Global"].items()}


def test_dropping_half_the_filters_shrinks_the_arithmetic() -> None:
    """A masking implementation fails here: it multiplies what it then sets to zero."""
    net = PlainNet((32, 64, 128), maps=32)
    full = multiply_accumulates(net, whole(net), (3, 32, 32))
    half = multiply_accumulates(net, dropped(net, 0.5), (3, 32, 32))
    # distreal.md 2.8 item 4; backward costs each layer twice, the first once (no input gradient).
    assert full["aten.convolution"] == 10_321_920
    assert half["aten.convolution"] == 2_801_664
    assert full["aten.convolution_backward"] == 884_736 + 2 * (4_718_592 + 4_718_592)
    assert half["aten.convolution_backward"] == 442_368 + 2 * (1_179_648 + 1_179_648)


def test_a_loss_that_is_not_finite_changes_nothing() -> None:
    net = NormNet()
    shake(net)
    inputs, labels = batch((1, 6, 6))
    inputs[0, 0, 0, 0] = float("inf")
    for plan in (whole(net), dropped(net, 0.5)):
        vector = flatten(net)
        before = vector.clone()
        with pytest.raises(NotFinite, match="lower the learning rate"):
            sliced_step(net, vector, plan, (inputs, labels), GENTLE)
        assert torch.equal(vector, before)


def test_the_modules_own_weights_are_not_written() -> None:
    net = NormNet()
    shake(net)
    vector = flatten(net)
    sliced_step(net, vector, whole(net), batch((1, 6, 6)), HARD)
    assert not torch.equal(vector, flatten(net))
    with torch.no_grad():
        net.eval()
        inputs, _ = batch((1, 6, 6))
        other = functional_call(net, views(vector, manifest_of(net)), (inputs,))
        assert not torch.allclose(other, net(inputs))
