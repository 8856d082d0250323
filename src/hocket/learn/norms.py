"""Batch norm without running statistics in training ("static batch norm").

Diao, Ding, Tarokh. HeteroFL. ICLR 2021. arXiv:2010.01264. Devices of unlike data and widths would
spoil a mean of their running statistics. So they keep none, and who judges a model collects them
first, in one pass over training data.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from hocket.core.manifest import Manifest
from hocket.errors import InvalidRequest
from hocket.learn.flat import views

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
_BATCH = 100  # examples of the pass at a time


def batch_norms(module: nn.Module) -> dict[str, Any]:
    """The module's batch norm layers by name: torch has no name for their kind."""
    return {name: m for name, m in module.named_modules() if isinstance(m, _BATCH_NORMS)}


def statistics_of(module: nn.Module, manifest: Manifest) -> frozenset[str]:
    """Names of the tensors that hold running statistics of batch norm."""
    found = {
        f"{layer}.{part}".removeprefix(".")
        for layer in batch_norms(module)
        for part in ("running_mean", "running_var")
    }
    return frozenset(found & {tensor.name for tensor in manifest.tensors})


def use_batch_statistics(module: nn.Module) -> None:
    """Have batch norm take each batch's own statistics, in evaluation too, and keep none.

    But a single value of a channel has no statistics: it is taken as it is.
    """
    for layer in batch_norms(module).values():
        layer.track_running_stats = False
        layer.register_forward_pre_hook(_as_in_training)


def _as_in_training(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    # In training and without tracking, torch's layer neither reads nor writes what it has kept.
    # What an earlier batch left here does not count: the next one may be a single example.
    values = inputs[0]
    layer.training = values.numel() > values.shape[1]


@torch.no_grad()
def with_statistics(
    module: nn.Module, vector: Tensor, inputs: Tensor, manifest: Manifest
) -> Tensor:
    """The model with the running statistics that one pass over the inputs gives.

    Each is the mean of its values over batches of about 100 examples (torch's cumulative average,
    momentum None); all else but batch norm is as in evaluation, so nothing is drawn.

    Args:
        module: gives the forward pass, where the inputs are; its own weights are not used. It is
            left in evaluation mode.
        vector: the weights, of shape (manifest.size,), which are not changed; on any device.
        inputs: examples, float32 of shape (n, ...).
        manifest: of the vector.

    Raises:
        InvalidRequest: fewer than two examples.
    """
    if len(inputs) < 2:
        raise InvalidRequest(
            f"{len(inputs)} examples have no statistics; give at least two", field="inputs"
        )
    judged = vector.to(inputs.device, copy=True)
    tensors = views(judged, manifest)
    module.eval()
    layers = batch_norms(module).values()
    for layer in layers:
        layer.train()
        layer.momentum = None  # cumulative
        layer.reset_running_stats()  # counts batches from 0; the values are the vector's
    for some in torch.tensor_split(inputs, -(-len(inputs) // _BATCH)):
        functional_call(module, tensors, (some,))  # writes to the statistics in `judged`
    module.eval()
    return judged
