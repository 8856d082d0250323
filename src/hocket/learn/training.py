"""Training on a device's own examples, one mini-batch at a time, and evaluation.

The caller decides what happens between mini-batches: it reads its resources, picks a dropout
vector, measures time. Nothing here knows a clock.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from torch import Tensor, nn

from hocket.core.manifest import Manifest
from hocket.core.sizing.size import FisherForm
from hocket.errors import InvalidRequest
from hocket.learn.flat import check_size, manifest_of, views
from hocket.learn.global_chance import drawing_from
from hocket.learn.local_rule import LocalHalf
from hocket.learn.masked_loss import LossMask, masked
from hocket.learn.sgd import TrainingRules
from hocket.learn.submodels.dropout import draw
from hocket.learn.submodels.fit import call
from hocket.learn.submodels.layout import ChannelGraph, undroppable
from hocket.learn.submodels.plan import IndexPlan
from hocket.learn.submodels.step import (
    NO_SCALE,
    BatchLoss,
    check_finite,
    scaled,
    scales,
    sliced_step,
)

__all__ = ["LocalTrainer", "MergeReport", "TrainingRules", "evaluate"]

PROBE_EXAMPLES = (
    32  # before and after alike, so few tell; judging on 256 costs a small shard an epoch
)
_PROBE_SEED = 1


@dataclass(frozen=True, slots=True)
class MergeReport:
    """How a merge with a fresh global model went (FedASMU 1.4, 1.5).

    The reward for the slot policy is `loss_before - loss_after`.
    """

    loss_before: float
    loss_after: float
    inner_product: float  # B of Eq. 9: <grad F(merged), fresh - local> on one mini-batch


class LocalTrainer:
    """A device's model in training: weights, momentum, and the examples it learns from.

    All of it is where `inputs` are, the CPU's memory or a GPU's; models that are handed in may be
    anywhere. What is drawn at random is drawn on the CPU, so it is the same for both, but for
    the model's own dropout layers.

    Args:
        module: gives the forward pass of the full model, where the inputs are; its own weights are
            not used.
        rules: how to train.
        inputs: examples, float32 of shape (n, ...).
        labels: their classes, int64 of shape (n,).
        graph: needed for dropout; without it every step trains the whole model.
        plan: the submodel to train, which then is this trainer's model: `start`, `weights` and
            `merge` speak of vectors of `plan.sliced_manifest`. Dropout draws from what it keeps.
        probe_examples: largest number of examples, the same ones each time, on which `loss` and
            `merge` judge a model.
        fisher: which Fisher score each step measures (WHALE-FL); None: none.

    Raises:
        InvalidRequest: no examples, or labels that do not match them.
    """

    def __init__(
        self,
        module: nn.Module,
        rules: TrainingRules,
        inputs: Tensor,
        labels: Tensor,
        *,
        graph: ChannelGraph | None = None,
        plan: IndexPlan | None = None,
        probe_examples: int = PROBE_EXAMPLES,
        fisher: FisherForm | None = None,
    ) -> None:
        if len(inputs) == 0 or labels.shape != inputs.shape[:1] or labels.dtype != torch.int64:
            msg = (
                f"{len(inputs)} examples with labels of shape {tuple(labels.shape)} and type "
                f"{labels.dtype}; give at least one example and an int64 class for each"
            )
            raise InvalidRequest(msg)
        if plan is not None:
            graph = plan.sliced_graph
        self._module = module
        self._graph = graph or undroppable(manifest_of(module))
        self._whole = IndexPlan(self._graph, (None,) * len(self._graph.groups))
        self._rules = rules
        self._inputs, self._labels = inputs, labels
        self._scale = scales(plan) if plan is not None and rules.rescale else {}
        seeded = torch.Generator().manual_seed(_PROBE_SEED)
        probe = torch.randperm(len(inputs), generator=seeded)[:probe_examples]
        self._probe = probe.to(self.device)
        self._vector = torch.zeros(self.manifest.size, device=self.device)
        self._velocity = torch.zeros_like(self._vector) if rules.momentum else None
        self._half: LocalHalf | None = None
        self._fisher: FisherForm | None = fisher
        self._mask = LossMask.of(labels, rules.masked_loss)

    @property
    def device(self) -> torch.device:
        """Where it trains."""
        return self._inputs.device

    @property
    def manifest(self) -> Manifest:
        """Names and shapes of the tensors in this trainer's vectors."""
        return self._graph.manifest

    @property
    def num_examples(self) -> int:
        """Number of examples it learns from."""
        return len(self._inputs)

    @property
    def classes(self) -> tuple[int, ...]:
        """Labels of its examples, ascending, where the loss is masked to them; else empty."""
        return () if self._mask is None else tuple(self._mask.labels.tolist())

    @property
    def vector(self) -> Tensor:
        """The model as it is now: what a step changes in place."""
        return self._vector

    @property
    def velocity(self) -> Tensor | None:
        """Its momentum, likewise; None where the rules have none."""
        return self._velocity

    def start(self, vector: Tensor, half: LocalHalf | None = None) -> None:
        """Begin from a copy of `vector`, with momentum at rest; `half` is at work in each step.

        The half's own vectors must be where this trainer is.

        Raises:
            ShapeMismatch: the vector does not fit the model (or the submodel, if it has a plan).
        """
        check_size(vector, self.manifest.size)
        self._vector = vector.detach().to(self.device, copy=True)
        self._half = half
        if self._velocity is not None:
            self._velocity.zero_()

    def weights(self) -> Tensor:
        """A copy of the model as it is now, of shape (manifest.size,), where it trains."""
        return self._vector.clone()

    def epoch_batches(self, generator: torch.Generator) -> list[Tensor]:
        """Indices of one epoch's mini-batches, in an order drawn from `generator`, on the CPU.

        The indices are where the examples are.

        A last mini-batch of a single example joins the one before it: batch norm cannot
        normalise one example.
        """
        order = torch.randperm(self.num_examples, generator=generator).to(self.device)
        batches = list(torch.split(order, self._rules.batch_size))
        if self._rules.batch_size > 1 and len(batches) > 1 and len(batches[-1]) == 1:
            batches[-2:] = [torch.cat(batches[-2:])]
        return batches

    def step(
        self,
        batch: Tensor,
        dropout: Sequence[float] | None,
        generator: torch.Generator,
        plan: IndexPlan | None = None,
    ) -> BatchLoss:
        """Train one mini-batch, on the filters that `dropout` leaves; None trains all of them.

        Args:
            batch: indices of the examples.
            dropout: share of channels to drop for each group of the graph (DISTREAL), or None.
            generator: for the filters to keep and for the model's own dropout layers, on the CPU.
            plan: what to train of this trainer's model, where `dropout` is None; None: all.

        Returns:
            The loss before the step.

        Raises:
            NotFinite: the loss is not; lower the learning rate.
            InvalidRequest: a dropout vector that does not fit the graph.
        """
        seed = int(torch.randint(2**62, (), generator=generator))
        if dropout is not None:
            plan = draw(self._graph, dropout, generator)
        with drawing_from(seed, self.device):
            return sliced_step(
                self._module,
                self._vector,
                self._whole if plan is None else plan,
                (self._inputs[batch], self._labels[batch]),
                self._rules,
                velocity=self._velocity,
                rescale=self._rules.rescale,
                scale=self._scale,
                half=self._half,
                fisher=self._fisher,
                mask=self._mask,
            )

    def loss(self) -> float:
        """Mean loss of the model as it is now over the probe examples, without any dropout.

        Raises:
            NotFinite: the loss is not; lower the learning rate.
        """
        inputs, labels = self._inputs[self._probe], self._labels[self._probe]
        value, _ = evaluate(
            self._module,
            self._vector,
            inputs,
            labels,
            manifest=self.manifest,
            scale=self._scale,
            mask=self._mask,
        )
        check_finite(value)
        return value

    def merge(self, fresh: Tensor, beta: float) -> MergeReport:
        """Mix the fresh global model in: w <- (1 - beta) w + beta * fresh (FedASMU Eq. 7).

        Momentum goes on. B of Eq. 9 is taken on the first mini-batch of the probe examples, over
        all trainable entries.

        Args:
            fresh: the global model, laid out as this trainer's vectors.
            beta: weight of the fresh model, in [0, 1].

        Raises:
            ShapeMismatch: `fresh` does not fit the model.
            InvalidRequest: beta is outside [0, 1].
            NotFinite: a loss is; lower the learning rate.
        """
        check_size(fresh, self.manifest.size)
        if not 0.0 <= beta <= 1.0:
            msg = f"beta is {beta}; the weight of a fresh model lies between 0 and 1"
            raise InvalidRequest(msg, field="beta")
        before = self.loss()
        fresh = fresh.to(self.device)
        direction = fresh - self._vector
        self._vector.lerp_(fresh, beta)
        return MergeReport(before, self.loss(), self._slope(direction))

    def _slope(self, direction: Tensor) -> float:
        """<grad F, direction> over trainable entries, on one fixed mini-batch."""
        batch = self._probe[: self._rules.batch_size]
        pieces = views(self._vector, self.manifest)
        ahead = views(direction, self.manifest)
        leaves = {
            tensor.name: pieces[tensor.name].detach().requires_grad_()
            for tensor in self.manifest.tensors
            if tensor.trainable
        }
        self._module.eval()  # running statistics stay as they are
        used = scaled(pieces | leaves, self._scale)
        scores = call(self._module, used, self._inputs[batch])
        loss = F.cross_entropy(masked(self._mask, scores), self._labels[batch])
        gradients: Sequence[Tensor | None] = torch.autograd.grad(
            loss, list(leaves.values()), allow_unused=True
        )
        return math.fsum(
            float(torch.sum(gradient * ahead[name]))
            for name, gradient in zip(leaves, gradients, strict=True)
            if gradient is not None
        )


@torch.no_grad()
def evaluate(
    module: nn.Module,
    vector: Tensor,
    inputs: Tensor,
    labels: Tensor,
    batch_size: int = 64,
    *,
    manifest: Manifest | None = None,
    scale: Mapping[str, float] = NO_SCALE,
    mask: LossMask | None = None,
) -> tuple[float, float]:
    """Mean cross-entropy and accuracy of a flat model, in evaluation mode.

    Args:
        module: gives the forward pass, where the inputs are; its own weights are not used. It is
            left in evaluation mode.
        vector: the weights, of shape (manifest.size,); on any device.
        inputs: examples, float32 of shape (n, ...).
        labels: their classes, int64 of shape (n,).
        batch_size: examples at a time; the result is the same for each but for rounding. What a
            convolution makes of 64 images still lies in the cache; of 512 it takes twice as long.
        manifest: that of a submodel; the module's own if left out.
        scale: factors of a submodel's tensors, as `scales` tells.
        mask: the classes that count; None: all.

    Raises:
        ShapeMismatch: the vector does not fit.
        InvalidRequest: there are no examples.
    """
    if len(inputs) == 0:
        raise InvalidRequest("there are no examples to evaluate on; give at least one")
    there = vector.to(inputs.device)
    tensors = scaled(views(there, manifest or manifest_of(module)), scale)
    module.eval()
    loss, right = 0.0, 0
    pairs = zip(torch.split(inputs, batch_size), torch.split(labels, batch_size), strict=True)
    for some, classes in pairs:
        logits = masked(mask, call(module, tensors, some))
        loss += float(F.cross_entropy(logits, classes, reduction="sum"))
        right += int((logits.argmax(dim=1) == classes).sum())
    return loss / len(inputs), right / len(inputs)
