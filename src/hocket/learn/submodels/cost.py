"""Analytic cost of a forward pass: multiply-accumulates of convolutions and linear layers.

DISTREAL (AAAI 2022): MAC_l = kept filters * kept inputs * kernel * output positions. A training
step costs about three times its forward pass for every layer but the first, so ratios of these
numbers stand for ratios of training work. What has no weights, such as the products of attention,
is not counted.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hocket.core.manifest import TensorSpec
from hocket.errors import ModelError
from hocket.learn.flat import manifest_of
from hocket.learn.submodels.layout import ChannelGraph

_COSTED = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


@dataclass(frozen=True, slots=True)
class LayerCost:
    """One call of one layer: its weight, and at how many places of an example it is applied."""

    weight: TensorSpec  # of the graph's model
    positions: int


@dataclass(frozen=True)
class ForwardCost:
    """Cost of one example's forward pass through any submodel of a graph."""

    graph: ChannelGraph
    layers: tuple[LayerCost, ...]  # in the order of the forward pass

    def macs_by_layer(self, sizes: Sequence[int] | None = None) -> tuple[int, ...]:
        """Multiply-accumulates of each layer when group g keeps `sizes[g]` channels (None: all)."""
        kept = self.graph.sizes if sizes is None else sizes
        return tuple(
            layer.positions * math.prod(self.graph.shape(layer.weight, kept))
            for layer in self.layers
        )

    def macs(self, sizes: Sequence[int] | None = None) -> int:
        """Multiply-accumulates of one example's forward pass."""
        return sum(self.macs_by_layer(sizes))

    def values(self, sizes: Sequence[int] | None = None) -> int:
        """Values that its layers put out for one example: what a step must keep for the way back.

        Norms and activations keep as many again, of whatever width, so that only ratios mean
        anything.
        """
        kept = self.graph.sizes if sizes is None else sizes
        return sum(
            layer.positions * self.graph.shape(layer.weight, kept)[0] for layer in self.layers
        )

    def share(self, sizes: Sequence[int]) -> float:
        """M, the cost relative to the graph's whole model, in (0, 1]."""
        return self.macs(sizes) / self.macs()


def forward_cost(
    module: nn.Module, graph: ChannelGraph, input_shape: tuple[int, ...]
) -> ForwardCost:
    """Measure at how many places each layer works, by one pass over shapes without arithmetic.

    Args:
        module: the whole model.
        graph: the whole model's graph, or that of the submodel to cost.
        input_shape: shape of one example, without the batch axis.

    Raises:
        ModelError: the model does not take such an input, or holds no layer to cost.
    """
    hollow = copy.deepcopy(module).to("meta").eval()
    names = _weight_names(hollow)
    weights = {tensor.name: tensor for tensor in graph.manifest.tensors}
    layers: list[LayerCost] = []

    def note(called: nn.Module, _inputs: Any, output: Tensor) -> None:
        weight = called.get_parameter("weight")
        layers.append(LayerCost(weights[names[id(weight)]], _positions(called, output)))

    def note_attention(called: Any, _inputs: Any, output: tuple[Tensor, Tensor | None]) -> None:
        positions = output[0].numel() // called.embed_dim  # of the one example
        used = [t for t in (called.in_proj_weight, called.out_proj.weight) if t is not None]
        layers.extend(LayerCost(weights[names[id(weight)]], positions) for weight in used)

    for part in hollow.modules():
        if isinstance(part, _COSTED):
            part.register_forward_hook(note)
        elif isinstance(part, nn.MultiheadAttention):
            part.register_forward_hook(note_attention)
    try:
        hollow(torch.zeros(1, *input_shape, device="meta"))
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        msg = f"the model does not take an input of shape {input_shape}: {error}"
        raise ModelError(msg) from error
    if not layers:
        raise ModelError("the model's forward pass calls no convolution and no linear layer")
    return ForwardCost(graph, tuple(layers))


def _weight_names(module: nn.Module) -> dict[int, str]:
    known = {tensor.name for tensor in manifest_of(module).tensors}
    return {id(p): name for name, p in module.named_parameters() if name in known}


def _positions(layer: nn.Module, output: Tensor) -> int:
    channel_axis = -1 if isinstance(layer, nn.Linear) else 1
    return output.numel() // (output.shape[0] * output.shape[channel_axis])
