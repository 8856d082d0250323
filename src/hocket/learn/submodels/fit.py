"""A forward pass on fewer channels, for layers that hold a number of channels as a setting.

Most layers take their sizes from their weights. What a layer norm normalises, the groups of a
depthwise convolution and the width of torch's attention are attributes: during a pass they follow
what arrives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call

Fit = Callable[[Any, Tensor], dict[str, Any]]
"""From a layer and what arrives to the values of its attributes."""


def call(module: nn.Module, tensors: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
    """The module's scores with other tensors than its own, perhaps those of a submodel.

    Args:
        module: gives the forward pass; as it was when this returns.
        tensors: by name, of the shapes of any plan of the module's graph.
        inputs: examples, of shape (n, ...).
    """
    with _fitted(module):
        scores: Tensor = functional_call(module, dict(tensors), (inputs,))
    return scores


@contextmanager
def _fitted(module: nn.Module) -> Iterator[None]:
    """Have each layer's attributes follow what arrives, until the block ends."""
    saved: list[tuple[nn.Module, str, Any]] = []

    def follow(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        arriving = args[0] if args else next(iter(kwargs.values()))
        for name, value in _FITS[type(layer)](layer, arriving).items():
            if getattr(layer, name) != value:
                saved.append((layer, name, getattr(layer, name)))
                setattr(layer, name, value)

    bound = [layer for layer in module.modules() if type(layer) in _FITS and _is_bound(layer)]
    handles = [layer.register_forward_pre_hook(follow, with_kwargs=True) for layer in bound]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for layer, name, value in reversed(saved):
            setattr(layer, name, value)


def _is_bound(layer: Any) -> bool:
    """Whether a layer that may hold its width as a setting does."""
    match layer:
        case nn.Conv1d() | nn.Conv2d() | nn.Conv3d():
            return 1 < layer.groups == layer.in_channels
        case nn.GroupNorm():
            return bool(layer.num_groups == layer.num_channels)
        case _:
            return True


def _convolution(layer: Any, x: Tensor) -> dict[str, Any]:
    return {"groups": x.shape[-1 - len(layer.kernel_size)]}


def _layer_norm(layer: Any, x: Tensor) -> dict[str, Any]:
    return {"normalized_shape": tuple(x.shape[-len(layer.normalized_shape) :])}


def _group_norm(_layer: Any, x: Tensor) -> dict[str, Any]:
    return {"num_groups": x.shape[1], "num_channels": x.shape[1]}


def _instance_norm(_layer: Any, x: Tensor) -> dict[str, Any]:
    return {"num_features": x.shape[1]}


def _attention(layer: Any, x: Tensor) -> dict[str, Any]:
    width = x.shape[-1]
    head = width // layer.num_heads
    return {"embed_dim": width, "kdim": width, "vdim": width, "head_dim": head}


def _encoder(_layer: Any, _x: Tensor) -> dict[str, Any]:
    return {"use_nested_tensor": False}  # a path of its own past its layers' settings


_FITS: dict[type[nn.Module], Fit] = {
    nn.Conv1d: _convolution,
    nn.Conv2d: _convolution,
    nn.Conv3d: _convolution,
    nn.LayerNorm: _layer_norm,
    nn.RMSNorm: _layer_norm,
    nn.GroupNorm: _group_norm,
    nn.InstanceNorm1d: _instance_norm,
    nn.InstanceNorm2d: _instance_norm,
    nn.InstanceNorm3d: _instance_norm,
    nn.MultiheadAttention: _attention,
    nn.TransformerEncoder: _encoder,
}
