"""HeteroFL's scaler, outputs divided by the rate while training (submodels.md 4.8 item 9)."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from support.small_nets import shake
from torch import Tensor, nn

from hocket.core.submodel import SubmodelSpec
from hocket.learn.flat import flatten
from hocket.learn.sgd import TrainingRules
from hocket.learn.submodels.graph import channel_graph
from hocket.learn.submodels.plan import plan_of
from hocket.learn.submodels.step import sliced_step
from hocket.learn.training import LocalTrainer

RULES = TrainingRules(1, 32, learning_rate=0.1)
BATCH = (
    torch.randn((32, 1, 6, 6), generator=torch.Generator().manual_seed(2)),
    torch.arange(32) % 3,
)


def net(*behind: tuple[str, nn.Module]) -> nn.Sequential:
    """Eight filters, whatever comes behind them, and scores of three classes."""
    conv, head = nn.Conv2d(1, 8, 3, padding=1), nn.Linear(8, 3)
    rest = (("active", nn.ReLU()), ("pool", nn.AdaptiveAvgPool2d(1)), ("flat", nn.Flatten()))
    return nn.Sequential(OrderedDict([("conv", conv), *behind, *rest, ("head", head)]))


def output_of(layer: str, whole: nn.Module, rate: float, *, rescale: bool) -> Tensor:
    """What a layer puts out in a training step on a slice of this rate."""
    seen: list[Tensor] = []
    watched = whole.get_submodule(layer)
    handle = watched.register_forward_hook(lambda _layer, _inputs, out: seen.append(out.detach()))
    plan = plan_of(channel_graph(whole), SubmodelSpec((rate,)))
    sliced_step(whole, flatten(whole), plan, BATCH, RULES, rescale=rescale)
    handle.remove()
    (output,) = seen
    return output


@pytest.mark.parametrize(("rate", "times"), [(0.5, 2.0), (0.25, 4.0), (0.125, 8.0)])
def test_without_a_norm_outputs_are_multiplied_by_just_one_over_the_rate(
    rate: float, times: float
) -> None:
    whole = net()
    shake(whole)
    plain, scaled = (output_of("conv", whole, rate, rescale=on) for on in (False, True))
    assert plain.shape[1] == rate * 8
    assert torch.equal(scaled, plain * times)


@pytest.mark.parametrize("rate", [0.5, 0.25, 0.125])
def test_a_batch_norm_behind_it_undoes_it(rate: float) -> None:
    """Of inputs of variance 1: x / sqrt(1 + eps) against x / sqrt(1 + eps rate**2)."""
    whole = net(("norm", nn.BatchNorm2d(8)))
    with torch.no_grad():
        conv = whole.get_submodule("conv")
        outputs = conv(BATCH[0])
        conv.get_parameter("weight").div_(outputs.std((0, 2, 3)).view(8, 1, 1, 1))
        conv.get_parameter("bias").zero_()
    arriving = output_of("conv", whole, rate, rescale=False)
    assert torch.allclose(arriving.var((0, 2, 3)), torch.ones(int(rate * 8)), atol=1e-4)
    plain, scaled = (output_of("norm", whole, rate, rescale=on) for on in (False, True))
    assert float((plain - scaled).abs().max()) < 1e-3
    assert float(plain.abs().max()) > 1.0


def test_a_model_is_judged_without_it() -> None:
    """Though its steps are rescaled where they drop filters."""
    whole = net()
    shake(whole)
    trainer = LocalTrainer(whole, RULES, *BATCH, graph=channel_graph(whole))
    trainer.start(flatten(whole))
    with torch.no_grad():
        expected = F.cross_entropy(whole.eval()(BATCH[0]), BATCH[1])
    assert RULES.rescale
    assert trainer.loss() == pytest.approx(float(expected), rel=1e-6)
    dropping = LocalTrainer(whole, RULES, *BATCH, graph=channel_graph(whole))
    dropping.start(flatten(whole))
    step = dropping.step(torch.arange(32), (0.5,), torch.Generator().manual_seed(1))
    assert abs(step.mean - float(expected)) > 1e-3
