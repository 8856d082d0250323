"""One training step on the channels that a plan keeps: sliced tensors, never masks.

Every tensor is gathered down to its kept entries, the module's own forward pass runs on those
(convolutions and linear layers take their sizes from their weights), and the results are written
back. What the plan drops is not read, not multiplied and not written: its weights, momentum and
running statistics are the same bits after the step (DISTREAL with `decay_dropped` off).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from torch import Tensor, nn

from hocket.core.sizing.size import FisherForm
from hocket.errors import NotFinite
from hocket.learn.features import Watch, required
from hocket.learn.flat import views
from hocket.learn.local_rule import LocalHalf
from hocket.learn.masked_loss import LossMask, masked
from hocket.learn.sgd import TrainingRules, clip, descend
from hocket.learn.submodels.fisher import Dressed, per_sample, proxy
from hocket.learn.submodels.fit import call
from hocket.learn.submodels.plan import IndexPlan, gather, put

NO_SCALE: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class BatchLoss:
    """The cross-entropy of a mini-batch's examples before the step that used them."""

    mean: float
    mean_square: float
    fisher: float = 0.0  # the score of the mini-batch (WHALE-FL); 0: not measured


def sliced_step(
    module: nn.Module,
    vector: Tensor,
    plan: IndexPlan,
    batch: tuple[Tensor, Tensor],
    rules: TrainingRules,
    *,
    velocity: Tensor | None = None,
    rescale: bool = False,
    scale: Mapping[str, float] = NO_SCALE,
    half: LocalHalf | None = None,
    fisher: FisherForm | None = None,
    mask: LossMask | None = None,
) -> BatchLoss:
    """Train one mini-batch in place on the submodel that `plan` keeps.

    Batch norm uses the batch's statistics; the running ones follow for kept channels. With the
    full plan this is the step of torch.optim.SGD, bit for bit.

    Args:
        module: gives the forward pass; its own tensors are neither read nor written, but for
            integer counters. It is left in training mode.
        vector: the weights, of shape (plan.graph.manifest.size,); changed in place.
        plan: the channels to train, always on the CPU.
        batch: inputs and int64 class labels, on the device of `vector`; so are velocity and half.
        rules: learning rate, momentum, weight decay and clipping.
        velocity: the momentum, shaped as `vector` and changed in place; None without momentum.
        rescale: inverted dropout, the outputs of a layer that keeps k of K channels times K / k.
            Leave it off where batch norm follows, which undoes it.
        scale: further factors by tensor name; those of the submodel that `plan` is drawn from.
        half: the client half of a method; its penalty joins the loss, and it corrects the gradient
            before that is clipped. With None nothing is added, not even a rounding.
        fisher: which Fisher score to measure besides; it changes no bit of the step.
        mask: the classes that count in the loss; None: all.

    Returns:
        The cross-entropy of the mini-batch before the step.

    Raises:
        NotFinite: the loss is not; nothing has changed.
        ModelError: the half wants features that the model does not have.
    """
    manifest, index = plan.graph.manifest, plan.index_on(vector.device)
    whole = views(vector, manifest)
    small = {name: gather(tensor, index.get(name, ())) for name, tensor in whole.items()}
    trained = [tensor.name for tensor in manifest.tensors if tensor.trainable]
    leaves = {name: small[name].detach().requires_grad_() for name in trained}
    # Copies, because a forward pass that updates them must not touch the weights' storage.
    buffers = {name: tensor.clone() for name, tensor in small.items() if name not in leaves}
    dressed = partial(_dressed, buffers, scale, scales(plan) if rescale else NO_SCALE)
    module.train()
    inputs, labels = batch
    features = None if half is None else half.features
    with nullcontext(Watch()) if features is None else features.watch() as seen:
        scores = call(module, dressed(leaves), inputs)
    chances = F.log_softmax(masked(mask, scores), dim=1)
    loss = F.nll_loss(chances, labels)  # the two halves of cross_entropy, with the same bits
    value = BatchLoss(float(loss.detach()), _mean_square(chances, labels))
    check_finite(value.mean)
    if half is not None:
        penalty = half.penalty(inputs, None if features is None else required(seen))
        if penalty is not None:
            check_finite(float(penalty.detach()))
            loss = loss + penalty
    gradients = _gradients(loss, leaves)
    if fisher is not None:
        score = _score(fisher, module, gradients, dressed, batch, leaves, mask)
        value = replace(value, fisher=score)
    if half is not None:
        half.correct(gradients, small, lambda name, t: gather(t, index.get(name, ())))
    if rules.gradient_clip_norm is not None:
        clip(list(gradients.values()), rules.gradient_clip_norm)
    momentum = {} if velocity is None else views(velocity, manifest)
    with torch.no_grad():
        for name, gradient in gradients.items():
            at = index.get(name, ())
            speed = gather(momentum[name], at) if name in momentum else None
            descend(small[name], gradient, speed, rules)
            if at and speed is not None:
                put(momentum[name], at, speed)
        for name in leaves.keys() & index.keys():
            put(whole[name], index[name], small[name])
        for name, after in buffers.items():
            put(whole[name], index.get(name, ()), after)
    return value


def _dressed(
    buffers: Mapping[str, Tensor],
    scale: Mapping[str, float],
    rescaling: Mapping[str, float],
    trained: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """What the forward pass uses."""
    return scaled(scaled({**trained, **buffers}, scale), rescaling)


def _score(
    fisher: FisherForm,
    module: nn.Module,
    gradients: Mapping[str, Tensor],
    dressed: Dressed,
    batch: tuple[Tensor, Tensor],
    leaves: Mapping[str, Tensor],
    mask: LossMask | None,
) -> float:
    """The module is in training mode before and after."""
    if fisher == "proxy":
        return proxy(gradients.values(), len(batch[1]))
    score = per_sample(module, leaves, dressed, batch, mask)
    module.train()
    return score


def _mean_square(chances: Tensor, labels: Tensor) -> float:
    """Of each example's loss, in double precision, which the square of a float32 cannot leave."""
    return -float(F.nll_loss(chances.detach().double().square_(), labels))


def check_finite(loss: float) -> None:
    """Refuse a loss that is NaN or infinite.

    Raises:
        NotFinite: it is.
    """
    if not abs(loss) < float("inf"):
        msg = f"the training loss is {loss}; lower the learning rate or clip the gradient"
        raise NotFinite(msg)


def _gradients(loss: Tensor, leaves: dict[str, Tensor]) -> dict[str, Tensor]:
    """Gradients by name; tensors that the forward pass does not use have none."""
    found: Sequence[Tensor | None] = torch.autograd.grad(
        loss, list(leaves.values()), allow_unused=True
    )
    pairs = zip(leaves, found, strict=True)
    return {name: gradient for name, gradient in pairs if gradient is not None}


def scaled(tensors: Mapping[str, Tensor], scale: Mapping[str, float]) -> dict[str, Tensor]:
    """The tensors, those that `scale` names multiplied by their factors."""
    return {name: t * scale[name] if name in scale else t for name, t in tensors.items()}


def scales(plan: IndexPlan) -> dict[str, float]:
    """K / k by the names of weights and biases that make a group's channels."""
    return {
        name: group.size / kept
        for group, kept in zip(plan.graph.groups, plan.sizes, strict=True)
        if kept < group.size
        for name in group.producers
    }
