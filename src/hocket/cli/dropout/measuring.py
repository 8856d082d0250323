"""Seconds of a real sliced step on this machine, for each of several vectors."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch

from hocket.cli.dropout.findings import Sizes
from hocket.cli.dropout.trying import Material
from hocket.learn.submodels.dropout import draw_orders, first_of
from hocket.learn.submodels.search.scoring import batches
from hocket.learn.submodels.step import sliced_step

ROUNDS = 15
WARMING = 3


def step_seconds(
    material: Material,
    vectors: Sequence[Sizes],
    stopwatch: Callable[[], float] = time.perf_counter,
) -> dict[Sizes, float]:
    """The fastest of some steps of the task's batch size, gathering and writing back included.

    The vectors take turns. Not the median: what else the machine does, it does to some of them.
    """
    rules, graph = material.task.training, material.graph
    (batch,) = batches(material.learning, rules, 1, 0)
    chance = torch.Generator().manual_seed(0)
    taken: dict[Sizes, list[float]] = {sizes: [] for sizes in vectors}
    for turn in range(WARMING + ROUNDS):
        for sizes, known in taken.items():
            plan = first_of(graph, sizes, draw_orders(graph, chance))
            vector = material.first.clone()
            velocity = torch.zeros_like(vector) if rules.momentum else None
            began_s = stopwatch()
            sliced_step(
                material.module,
                vector,
                plan,
                (batch.inputs, batch.labels),
                rules,
                velocity=velocity,
                rescale=rules.rescale,
            )
            if turn >= WARMING:
                known.append(stopwatch() - began_s)
    return {sizes: min(known) for sizes, known in taken.items()}
