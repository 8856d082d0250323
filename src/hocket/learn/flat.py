"""A module's tensors laid end to end in one float32 vector, and back."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from hocket.core.manifest import Manifest, TensorSpec
from hocket.errors import ModelError, ShapeMismatch


def _named_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters, then persistent floating-point buffers; a tied tensor under its first name."""
    kept = module.state_dict(keep_vars=True)
    yield from module.named_parameters()
    for name, buffer in module.named_buffers():
        if name in kept and buffer.is_floating_point():
            yield name, buffer


def manifest_of(module: nn.Module) -> Manifest:
    """Names and shapes of the module's tensors in the order of its flat vector.

    Parameters come first, in named order, trainable unless they are frozen; then the float32
    buffers that the module saves (running statistics), not trainable. Counters and other integer
    buffers are left out.

    Raises:
        ModelError: a tensor is not float32, or the module holds none.
    """
    specs = []
    for name, tensor in _named_tensors(module):
        if tensor.dtype != torch.float32:
            msg = f"tensor '{name}' is {tensor.dtype}; build the model in float32"
            raise ModelError(msg, tensor=name)
        specs.append(TensorSpec(name, tuple(tensor.shape), tensor.requires_grad))
    if not specs:
        raise ModelError("the model holds no parameters; return a torch.nn.Module that does")
    return Manifest(tuple(specs))


@torch.no_grad()
def flatten(module: nn.Module) -> Tensor:
    """Copy the module's tensors into one vector, float32 of shape (manifest.size,)."""
    manifest_of(module)  # raises for what a vector cannot hold
    return torch.cat([tensor.reshape(-1) for _, tensor in _named_tensors(module)])


@torch.no_grad()
def load(module: nn.Module, vector: Tensor) -> None:
    """Copy `vector`, of shape (manifest.size,), into the module's tensors.

    Raises:
        ShapeMismatch: the vector's length is not the module's.
    """
    pieces = views(vector, manifest_of(module))
    for name, tensor in _named_tensors(module):
        tensor.copy_(pieces[name])


def views(vector: Tensor, manifest: Manifest) -> dict[str, Tensor]:
    """Named views of `vector`, without a copy: writing to one writes to the vector.

    Raises:
        ShapeMismatch: the vector's length is not the manifest's.
    """
    check_size(vector, manifest.size)
    return {
        tensor.name: vector[start : start + tensor.size].view(tensor.shape)
        for tensor, start in zip(manifest.tensors, manifest.offsets, strict=True)
    }


def check_size(vector: Tensor, size: int) -> None:
    """Refuse a vector that is not of shape (size,).

    Raises:
        ShapeMismatch: it is not.
    """
    if vector.shape != (size,):
        msg = f"a vector of shape {tuple(vector.shape)} does not fit a model of {size} values"
        raise ShapeMismatch(msg, expected=str(size), got=str(tuple(vector.shape)))
