"""The Fisher score of a mini-batch: how much its examples still have to say about the weights.

WHALE-FL (AAAI 2025; the formulas are those of the authors' code) schedules widths by the largest
one of a training. Both forms are taken before anything corrects or clips the gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from torch import Tensor, nn
from torch.func import grad, vmap

from hocket.errors import ModelError
from hocket.learn.masked_loss import LossMask, masked
from hocket.learn.submodels.fit import call

Dressed = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
"""From trained tensors by name to all that the forward pass uses."""


def proxy(gradients: Iterable[Tensor], num_examples: int) -> float:
    """The largest mean of g^2 of a tensor, over the examples: g is the mini-batch's mean gradient.

    Cheap, since the gradient is there anyway. Infinite where g^2 overflows.
    """
    means = [torch.linalg.vector_norm(g).square() / g.numel() for g in gradients]
    return _largest(means) / num_examples


def per_sample(
    module: nn.Module,
    trained: Mapping[str, Tensor],
    dressed: Dressed,
    batch: tuple[Tensor, Tensor],
    mask: LossMask | None = None,
) -> float:
    """The largest mean of the squares of each example's own gradient: the empirical Fisher.

    Its values are about B^2 times those of `proxy` for B examples. The forward pass is that of
    evaluation: batch norm takes its running statistics, since an example alone has none. The
    module is left in evaluation mode.

    Args:
        module: gives the forward pass.
        trained: the tensors whose gradients count, by name.
        dressed: gives the forward pass's tensors.
        batch: inputs and int64 class labels.
        mask: the classes that count in the loss; None: all.

    Raises:
        ModelError: the model cannot be taken example by example.
    """
    module.eval()

    def loss(tensors: Mapping[str, Tensor], one: Tensor, label: Tensor) -> Tensor:
        scores = call(module, dressed(tensors), one.unsqueeze(0))
        return F.cross_entropy(masked(mask, scores), label.unsqueeze(0))

    values = {name: tensor.detach() for name, tensor in trained.items()}
    try:
        gradients = vmap(grad(loss), in_dims=(None, 0, 0))(values, *batch)
    except (RuntimeError, ValueError) as error:
        raise ModelError(
            f"the model's gradient cannot be taken example by example ({error}); set "
            "submodel.fisher = 'proxy'"
        ) from error
    return _largest([each.square().mean() for each in gradients.values()])


def _largest(scores: list[Tensor]) -> float:
    return float(torch.stack(scores).max()) if scores else 0.0
