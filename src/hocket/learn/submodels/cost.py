"""Analytic cost of a forward pass: multiply-accumulates of convolutions and linear layers.

DISTREAL (AAAI 2022): MAC_l = kept filters * kept inputs * kernel * output positions. A training
step costs about three times its forward pass for every layer but the first, so ratios of these
numbers stand for ratios of training work. It makes no difference whether a layer is a module or
`F.linear` with a parameter of the model, such as an embedding's weight. What has no weights, such
as the products of attention, is not counted, nor is what is neither a convolution nor linear nor
torch's attention: transposed convolutions, recurrent and bilinear layers, `x @ parameter`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from hocket.core.manifest import TensorSpec
from hocket.errors import ModelError
from hocket.learn.submodels.fit import call
from hocket.learn.submodels.layout import ChannelGraph

_COSTED = frozenset({F.conv1d, F.conv2d, F.conv3d, F.linear})


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
    products = _Products(_weights(module, hollow, graph))
    for part in hollow.modules():
        if isinstance(part, nn.MultiheadAttention):
            part.register_forward_hook(products.note_attention)
    try:
        with products:
            call(hollow, {}, torch.zeros(1, *input_shape, device="meta"))
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        msg = f"the model does not take an input of shape {input_shape}: {error}"
        raise ModelError(msg) from error
    if not products.layers:
        raise ModelError("the model's forward pass calls no convolution and no linear layer")
    return ForwardCost(graph, tuple(products.layers))


class _Products(TorchFunctionMode):
    """Notes the products of one example with weights, while it is entered.

    Args:
        weights: of the graph's model, by the identity of the parameter that stands for each.
    """

    def __init__(self, weights: Mapping[int, TensorSpec]) -> None:
        super().__init__()
        self.layers: list[LayerCost] = []
        self._weights = weights

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Do as torch does, and note what has a cost."""
        named = kwargs or {}
        result = func(*args, **named)
        if func in _COSTED:
            self._note(args[1] if len(args) > 1 else named["weight"], result)
        return result

    def note_attention(self, called: Any, _inputs: Any, output: tuple[Tensor, Any]) -> None:
        """A forward hook: torch's attention is one call, and has several weights."""
        apart = (called.q_proj_weight, called.k_proj_weight, called.v_proj_weight)  # or in one
        for weight in (called.in_proj_weight, *apart, called.out_proj.weight):
            self._note(weight, output[0], called.embed_dim)

    def _note(self, weight: Any, output: Tensor, channels: int | None = None) -> None:
        known = self._weights.get(id(weight))
        if known is not None:  # else it is computed from other tensors
            self.layers.append(LayerCost(known, output.numel() // (channels or len(weight))))


def _weights(module: nn.Module, hollow: nn.Module, graph: ChannelGraph) -> dict[int, TensorSpec]:
    """By the identity of the hollow copy's parameters, of which tied ones are no longer one."""
    known = {tensor.name: tensor for tensor in graph.manifest.tensors if len(tensor.shape) > 1}
    first = {id(p): name for name, p in module.named_parameters()}
    everywhere = module.named_parameters(remove_duplicate=False)
    names = {name: first[id(p)] for name, p in everywhere}
    copies = hollow.named_parameters(remove_duplicate=False)
    return {id(p): known[names[name]] for name, p in copies if names[name] in known}
