"""The same step of several models of one shape at once, by torch.func.vmap."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from hocket.learn.flat import flatten
from hocket.learn.sgd import TrainingRules, descend
from hocket.learn.submodels.step import BatchLoss
from hocket.learn.training import LocalTrainer

TOLERANCE = 1e-4  # of a trial's weights, relative to the largest change of one
_TRIAL_MODELS, _TRIAL_EXAMPLES, _SEED = 3, 4, 1

Slopes = Callable[
    [Mapping[str, Tensor], Tensor, Tensor], tuple[dict[str, Tensor], tuple[Tensor, Tensor]]
]
"""Of weights (K, ...) by name, inputs (K, B, ...) and labels (K, B): the gradients, the mean
losses (K,), and the logarithms of each class's probability (K, B, C)."""


class Stack:
    """The weights and momentum of several trainers of whole models, a row for each: (K, n).

    Only for models whose tensors are all trained, and rules without a limit on the gradient.
    """

    def __init__(
        self, module: nn.Module, rules: TrainingRules, trainers: Sequence[LocalTrainer]
    ) -> None:
        self._rules, self._trainers = rules, trainers
        self._manifest = trainers[0].manifest
        self._weights = torch.stack([trainer.vector for trainer in trainers])
        speeds = [trainer.velocity for trainer in trainers if trainer.velocity is not None]
        self._speed = torch.stack(speeds) if speeds else None
        self._slopes = _slopes(module)

    def step(self, batches: Sequence[tuple[Tensor, Tensor]]) -> list[BatchLoss]:
        """Train one mini-batch, of inputs and labels, on each of the first rows.

        All have equally many examples. Losses are told before the step, and not checked: a row
        that diverges leaves the others as they are.
        """
        inputs = torch.stack([some for some, _ in batches])
        labels = torch.stack([some for _, some in batches])
        weights = self._rows(self._weights, len(batches))
        speed = {} if self._speed is None else self._rows(self._speed, len(batches))
        slopes, (means, chances) = self._slopes(weights, inputs, labels)
        for name, slope in slopes.items():
            descend(weights[name], slope, speed.get(name), self._rules)
        squares = chances.gather(2, labels.unsqueeze(2)).double().square_().mean(dim=(1, 2))
        pairs = zip(means.cpu().tolist(), squares.cpu().tolist(), strict=True)
        return [BatchLoss(mean, square) for mean, square in pairs]

    def give_back(self, row: int) -> None:
        """Put a row's values where its trainer has its own."""
        for own, ours in self._pairs(row):
            own.copy_(ours)

    def take_over(self, row: int) -> None:
        """The other way round."""
        for own, ours in self._pairs(row):
            ours.copy_(own)

    def _pairs(self, row: int) -> list[tuple[Tensor, Tensor]]:
        trainer = self._trainers[row]
        pairs = [(trainer.vector, self._weights[row])]
        if trainer.velocity is not None and self._speed is not None:
            pairs.append((trainer.velocity, self._speed[row]))
        return pairs

    def _rows(self, stacked: Tensor, count: int) -> dict[str, Tensor]:
        """The first rows by tensors of the model: views of shape (count, ...)."""
        pairs = zip(self._manifest.tensors, self._manifest.offsets, strict=True)
        return {
            tensor.name: stacked[:count, start : start + tensor.size].view(count, *tensor.shape)
            for tensor, start in pairs
        }


def stacks_well(module: nn.Module, input_shape: tuple[int, ...]) -> bool:
    """Whether stacked steps of this model are its steps one by one, but for rounding.

    Tried on made-up examples, so it depends on the arguments alone. Models that draw at random,
    that ask values of their data, or that vmap takes apart again, do not stack well. The module
    is left as it was.
    """
    was_training = module.training
    try:
        with warnings.catch_warnings(action="error"):  # vmap warns where it loops
            return _agrees(module, input_shape)
    except Exception:  # noqa: BLE001 - a user's model may raise anything where it is not alone
        return False
    finally:
        module.train(was_training)


def _agrees(module: nn.Module, input_shape: tuple[int, ...]) -> bool:
    rules = TrainingRules(local_epochs=1, batch_size=_TRIAL_EXAMPLES, learning_rate=1.0)
    chance = torch.Generator().manual_seed(_SEED)
    start = flatten(module)
    made_up = torch.randn(_TRIAL_MODELS, _TRIAL_EXAMPLES, *input_shape, generator=chance)
    inputs = made_up.to(start.device)
    labels = torch.zeros(_TRIAL_MODELS, _TRIAL_EXAMPLES, dtype=torch.int64, device=start.device)
    trainers = [LocalTrainer(module, rules, *pair) for pair in zip(inputs, labels, strict=True)]
    for trainer in trainers:
        trainer.start(start)
    stack = Stack(module, rules, trainers)
    stack.step(list(zip(inputs, labels, strict=True)))
    everyone = torch.arange(_TRIAL_EXAMPLES, device=start.device)
    for row, trainer in enumerate(trainers):
        trainer.step(everyone, None, chance)
        alone = trainer.weights()
        stack.give_back(row)
        largest = float((alone - start).abs().max())
        if not float((alone - trainer.vector).abs().max()) <= TOLERANCE * largest:
            return False
    return True


def _slopes(module: nn.Module) -> Slopes:
    module.train()

    def loss(weights: Mapping[str, Tensor], inputs: Tensor, labels: Tensor) -> Any:
        scores = functional_call(module, dict(weights), (inputs,))
        chances = F.log_softmax(scores, dim=1)
        return F.nll_loss(chances, labels), chances

    together: Slopes = vmap(grad_and_value(loss, has_aux=True))
    return together
