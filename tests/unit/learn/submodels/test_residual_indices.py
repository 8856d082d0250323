"""Which channels the layers of a residual block keep together (submodels.md 4.1)."""

from __future__ import annotations

import pytest
import torch
from support.small_nets import ResNet
from torch import Tensor

from hocket.core.submodel import ChannelRule, SubmodelSpec
from hocket.learn.submodels.graph import channel_graph
from hocket.learn.submodels.plan import plan_of


@pytest.mark.parametrize("rule", list(ChannelRule), ids=lambda rule: rule.name.lower())
def test_a_shortcut_reads_what_the_first_convolution_reads_and_makes_the_blocks_output(
    rule: ChannelRule,
) -> None:
    plan = plan_of(channel_graph(ResNet((8, 16))), SubmodelSpec((0.3,), rule, 5))

    def channels(tensor: str, axis: int, count: int) -> Tensor:
        kept = plan.index[tensor][axis]
        assert kept is not None
        assert len(kept) == count
        return kept

    read = channels("blocks.2.shortcut.weight", 1, 3)
    made = channels("blocks.2.shortcut.weight", 0, 5)  # ceil(.3 * 8) = 3, ceil(.3 * 16) = 5
    assert torch.equal(read, channels("blocks.2.conv1.weight", 1, 3))
    assert torch.equal(made, channels("blocks.2.conv2.weight", 0, 5))
    assert torch.equal(made, channels("blocks.3.conv1.weight", 1, 5))
    # Norms follow the layer that makes what they take.
    for tensor in ("weight", "bias", "running_mean", "running_var"):
        assert torch.equal(read, channels(f"blocks.2.bn1.{tensor}", 0, 3))
        between = channels("blocks.2.conv1.weight", 0, 5)
        assert torch.equal(between, channels(f"blocks.2.bn2.{tensor}", 0, 5))
    # Image channels and class rows are always whole.
    assert plan.index["stem.weight"][1] is None
    assert plan.index["head.weight"][0] is None
    assert "head.bias" not in plan.index
