"""Multiply-accumulates by hand, of layers that are no modules of their own."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from support.derived_nets import VOCABULARY, EncoderNet, TokenNet
from torch import Tensor, nn

from hocket.learn.flat import manifest_of
from hocket.learn.submodels.cost import forward_cost
from hocket.learn.submodels.graph import channel_graph
from hocket.learn.submodels.layout import undroppable

TOKENS = (5,)


class Functions(nn.Module):
    """Five tokens of width 8: a layer of 6 units at each place, and a score for each word."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(VOCABULARY, 8)
        self.wide = nn.Parameter(torch.zeros(6, 8))
        self.narrow = nn.Parameter(torch.zeros(8, 6))

    def forward(self, numbers: Tensor) -> Tensor:
        x = F.relu(F.linear(self.tokens(numbers.long()), weight=self.wide))
        return F.linear(F.linear(x, self.narrow).mean(1), self.tokens.weight)


def test_a_linear_function_costs_what_a_linear_layer_does() -> None:
    """Five places of 6 * 8 and of 8 * 6, and one of 7 * 8; of half the channels a quarter."""
    net = Functions()
    graph = channel_graph(net)
    assert graph.sizes == (8, 6)  # what the words' weight reads is as wide as what it makes
    cost = forward_cost(net, graph, TOKENS)
    assert cost.macs_by_layer() == (5 * 48, 5 * 48, 7 * 8)
    assert cost.values() == 5 * 6 + 5 * 8 + 7
    assert cost.macs_by_layer((4, 3)) == (5 * 12, 5 * 12, 7 * 4)


def test_a_head_that_is_tied_to_an_embedding_is_counted_and_the_embedding_is_not() -> None:
    """Queries, keys, values and their mixture 8 * 8 each; two layers of 16; words at one place."""
    net = TokenNet(width=8)
    layers = forward_cost(net, channel_graph(net), TOKENS).macs_by_layer()
    assert layers == (*(5 * 64,) * 4, *(5 * 128,) * 2, VOCABULARY * 8)


def test_torchs_encoder_is_costed_with_its_mask_of_padding() -> None:
    """Two layers: 3 * 8 * 8 and 8 * 8 of attention, then 6 * 8 twice; three scores of one place."""
    net = EncoderNet(width=8, hidden=6)
    layers = forward_cost(net, channel_graph(net), TOKENS).macs_by_layer()
    assert layers == (*(5 * 192, 5 * 64, 5 * 48, 5 * 48) * 2, 3 * 8)


class Narrower(nn.Module):
    """Five places of width 8, which attend to half of each other's channels; two scores."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, kdim=4, vdim=4, batch_first=True)
        self.scores = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        half = x[..., :4]
        mixed: Tensor = self.attention(x, half, half)[0]
        return torch.as_tensor(self.scores(mixed.mean(1)))


def test_attention_that_reads_other_widths_has_its_three_weights_counted() -> None:
    """Queries 8 * 8, keys and values 8 * 4, their mixture 8 * 8; scores at one place."""
    net = Narrower()
    cost = forward_cost(net, undroppable(manifest_of(net)), (5, 8))
    assert cost.macs_by_layer() == (5 * 64, 5 * 32, 5 * 32, 5 * 64, 2 * 8)


def test_a_weight_that_is_computed_from_others_is_left_out() -> None:
    normed = nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 3))
    net = nn.Sequential(nn.Conv2d(1, 4, 3), normed, nn.Flatten(), nn.Linear(16, 2))
    cost = forward_cost(net, undroppable(manifest_of(net)), (1, 6, 6))
    assert cost.macs_by_layer() == (4 * 9 * 16, 2 * 16)
