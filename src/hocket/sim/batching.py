"""Several devices trained at once, where that gives the same results and takes less time.

A step of a small perceptron costs the interpreter more than the processor, so the steps of many
devices together cost hardly more than one. Convolutions gain nothing: each device has weights of
its own, and grouped convolutions are slow. Whether it is done follows from the model and the
rules, never from a stopwatch: a simulation's bits must not depend on the machine's load.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from hocket.errors import NotFinite
from hocket.learn.blueprint import Blueprint
from hocket.learn.local_learner import EpochResult, EpochTally, LocalLearner
from hocket.learn.stack import Stack, stacks_well
from hocket.learn.submodels.step import BatchLoss, check_finite

FEWEST = 4  # jobs that are worth stacking
MOST = 64  # that are stacked: the gain levels off, and each holds a model
LARGEST_WORK = 1_000_000  # examples times parameters of a step, above which little is gained

Mode = Literal["auto", "on", "off"]
Outcome = tuple[EpochResult, ...] | NotFinite


@dataclass(frozen=True, slots=True)
class Job:
    """Local epochs that a started learner is about to train."""

    learner: LocalLearner
    epochs: Sequence[tuple[int, float]]  # their numbers, and the share of a processor in each

    @property
    def is_plain(self) -> bool:
        """Whether all of it is SGD on the whole model."""
        return all(self.learner.is_plain(share) for _, share in self.epochs)


class Batched:
    """Trains jobs of one blueprint together.

    Args:
        blueprint: the model and rules of all of them.
        mode: "auto" does it where it pays: no convolutions, and small steps; "on" wherever it
            gives the same results within rounding; "off" never.
    """

    def __init__(self, blueprint: Blueprint, mode: Mode = "auto") -> None:
        self._blueprint, self._mode = blueprint, mode
        self._suits: dict[tuple[int, ...], bool] = {}

    def applies(self, jobs: Sequence[Job]) -> bool:
        """Whether `run` may train these jobs, and it is worth it."""
        if self._mode == "off" or len(jobs) < FEWEST or not all(job.is_plain for job in jobs):
            return False
        shapes = {job.learner.examples.input_shape for job in jobs}
        return len(shapes) == 1 and self.suits(shapes.pop())

    def suits(self, input_shape: tuple[int, ...]) -> bool:
        """Whether the model and the rules do, for examples of this shape: always the same."""
        if input_shape not in self._suits:
            self._suits[input_shape] = self._judge(input_shape)
        return self._suits[input_shape]

    def run(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Train each job as `LocalLearner.train_epoch` would, but for rounding.

        The same jobs in the same order give the same bits. A job that diverges has its error as
        its outcome and its learner is of no more use; the others are as if it were not there.
        """
        lanes = [_Lane(job) for job in jobs]
        longest_first = sorted(lanes, key=lambda lane: -lane.num_full)
        for first in range(0, len(lanes), MOST):
            _train(self._blueprint, longest_first[first : first + MOST])
        return [lane.outcome() for lane in lanes]

    def _judge(self, input_shape: tuple[int, ...]) -> bool:
        module, rules = self._blueprint.module, self._blueprint.rules
        manifest = self._blueprint.terms.manifest
        remembers = any(True for _ in module.buffers())
        frozen = not all(tensor.trainable for tensor in manifest.tensors)
        if self._mode == "off" or rules.gradient_clip_norm is not None or remembers or frozen:
            return False
        convolves = any(len(tensor.shape) > 2 for tensor in manifest.tensors)
        large = rules.batch_size * manifest.size > LARGEST_WORK
        if self._mode == "auto" and (convolves or large):
            return False
        return stacks_well(module, input_shape)


class _Lane:
    """One job's mini-batches in order, and how they went."""

    def __init__(self, job: Job) -> None:
        self.learner = job.learner
        self.error: NotFinite | None = None
        self.tallies = [EpochTally() for _ in job.epochs]
        self._steps: list[tuple[Tensor, torch.Generator, EpochTally]] = []
        for (epoch, _), tally in zip(job.epochs, self.tallies, strict=True):
            batches, chance = job.learner.batches(epoch)
            self._steps += [(batch, chance, tally) for batch in batches]
        self._full_size = job.learner.blueprint.rules.batch_size
        self.num_full = sum(len(batch) == self._full_size for batch, *_ in self._steps)
        self._steps.reverse()

    @property
    def next_size(self) -> int:
        """Examples in the next mini-batch; 0 if there is none."""
        return len(self._steps[-1][0]) if self._steps else 0

    @property
    def is_odd(self) -> bool:
        """Whether the next mini-batch is an epoch's last, of another size than most."""
        return self.next_size not in (0, self._full_size)

    def next_batch(self) -> tuple[Tensor, Tensor]:
        """Its inputs and labels."""
        examples, batch = self.learner.examples, self._steps[-1][0]
        return examples.inputs[batch], examples.labels[batch]

    def taken(self, loss: BatchLoss) -> None:
        """The next mini-batch has been trained, at this loss."""
        batch, _, tally = self._steps.pop()
        tally.add(len(batch), loss)
        try:
            check_finite(loss.mean)
        except NotFinite as error:
            self.error = self.error or error

    def step(self) -> None:
        """Train the next mini-batch alone. What has diverged is left as it is."""
        batch, chance, tally = self._steps.pop()
        if self.error is None:
            try:
                tally.add(len(batch), self.learner.trainer.step(batch, None, chance))
            except NotFinite as error:
                self.error = error

    def outcome(self) -> Outcome:
        """How the epochs went."""
        return self.error or tuple(self.learner.count(tally, 0.0) for tally in self.tallies)


def _train(blueprint: Blueprint, lanes: Sequence[_Lane]) -> None:
    """Train all that the lanes have; those with the most full mini-batches come first."""
    stack = Stack(blueprint.module, blueprint.rules, [lane.learner.trainer for lane in lanes])
    while (count := _ready(lanes, stack)) >= FEWEST:
        together = lanes[:count]
        losses = stack.step([lane.next_batch() for lane in together])
        for lane, loss in zip(together, losses, strict=True):
            lane.taken(loss)
    for row, lane in enumerate(lanes):
        stack.give_back(row)
        while lane.next_size:
            lane.step()


def _ready(lanes: Sequence[_Lane], stack: Stack) -> int:
    """How many lanes, from the first, go on with mini-batches of one size.

    Where sizes differ, odd mini-batches are trained alone before. Full ones are then trained in
    step, so the lanes that have the most are the last to have any.
    """
    sizes = [lane.next_size for lane in lanes]
    count = sum(size > 0 for size in sizes)
    if count and len(set(sizes[:count])) == 1:
        return count
    for row, lane in enumerate(lanes):
        if lane.is_odd:
            stack.give_back(row)
            while lane.is_odd:
                lane.step()
            stack.take_over(row)
    return sum(lane.next_size > 0 for lane in lanes)
