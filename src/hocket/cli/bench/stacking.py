"""What is gained by training devices together, by model: whether the simulator's rule is right."""

from __future__ import annotations

import math
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch

from hocket.core.sizing import Full
from hocket.learn.blueprint import Blueprint
from hocket.learn.data import Digits, Examples
from hocket.learn.flat import flatten
from hocket.learn.local_learner import LocalLearner
from hocket.learn.training import TrainingRules
from hocket.sim.batching import Batched, Job
from hocket.task import Task
from hocket.task.rules import ModelRef
from hocket.task.setup import set_up

RULES = TrainingRules(local_epochs=1, batch_size=20, learning_rate=0.05)
EPOCHS = ((1, 1.0),)
EXAMPLES = 100  # of each device


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that might be trained for several devices at once."""

    name: str
    function: str
    input_shape: tuple[int, ...]
    arguments: dict[str, Any] = field(default_factory=dict)


MODELS = (
    Candidate("mlp-64-64-10", "mlp", (64,), {"inputs": 64, "classes": 10, "hidden": [64]}),
    Candidate("mlp-784-32-10", "mlp", (784,), {"inputs": 784, "classes": 10, "hidden": [32]}),
    Candidate("mlp-784-200-10", "mlp", (784,), {"inputs": 784, "classes": 10, "hidden": [200]}),
    Candidate("digits_cnn", "digits_cnn", (1, 8, 8)),
    Candidate("lenet5", "lenet5", (1, 28, 28)),
    Candidate("cifar_cnn", "cifar_cnn", (3, 32, 32)),
)


@dataclass(frozen=True, slots=True)
class Gain:
    """How many times faster so many devices train together, and whether "auto" lets them."""

    gain: float
    auto: bool


class _Free:
    """An effort that costs nothing."""

    def share(self) -> float:
        return 1.0

    def memory(self) -> float:
        return math.inf

    def mini_batch(self, _examples: int, _cost: float, /) -> AbstractContextManager[None]:
        return nullcontext()

    def other(self) -> AbstractContextManager[None]:
        return nullcontext()

    def now(self) -> float:
        return 0.0


def gains(devices: int, runs: int) -> dict[str, Gain]:
    """Of each model; the best of some runs of either way, in turns."""
    return {candidate.name: _gain(candidate, devices, runs) for candidate in MODELS}


def _gain(candidate: Candidate, devices: int, runs: int) -> Gain:
    model = ModelRef(f"hocket.learn.models:{candidate.function}", candidate.arguments)
    task = Task(model, Digits(), training=RULES, submodel=Full())
    blueprint = Blueprint.of(task.build_model(), set_up(task).terms)
    batched = Batched(blueprint, "on")
    alone, together = [], []
    for _ in range(runs):
        jobs = _jobs(blueprint, candidate.input_shape, devices)
        began_s = time.perf_counter()
        for job in jobs:
            job.learner.train_epoch(1)
        alone.append(time.perf_counter() - began_s)
        jobs = _jobs(blueprint, candidate.input_shape, devices)
        began_s = time.perf_counter()
        batched.run(jobs)
        together.append(time.perf_counter() - began_s)
    auto = Batched(blueprint).applies(_jobs(blueprint, candidate.input_shape, devices))
    return Gain(min(alone) / min(together), auto)


def _jobs(blueprint: Blueprint, input_shape: tuple[int, ...], devices: int) -> list[Job]:
    chance = torch.Generator().manual_seed(1)
    start = flatten(blueprint.module)
    jobs = []
    for device in range(devices):
        inputs = torch.rand(EXAMPLES, *input_shape, generator=chance)
        labels = torch.randint(10, (EXAMPLES,), generator=chance)
        learner = LocalLearner(blueprint, Examples(inputs, labels), _Free(), name=f"d{device}")
        learner.start_from(start, 1)
        jobs.append(Job(learner, EPOCHS))
    return jobs
