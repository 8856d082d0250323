"""C(d): how fast a dropout vector converges, by a few mini-batches from common snapshots.

Rapp, Khalili, Pfeiffer, Henkel. DISTREAL. AAAI 2022, has the idea; the definition is ours: from a
snapshot train some mini-batches with new random filters each, judge the *whole* model on held-out
examples, and take how far its loss has fallen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from hocket.core.chance import stream_seed
from hocket.errors import NotFinite
from hocket.learn.data.examples import Examples
from hocket.learn.global_chance import drawing_from
from hocket.learn.norms import batch_norms, with_statistics
from hocket.learn.sgd import TrainingRules
from hocket.learn.submodels.dropout import draw_orders, first_of
from hocket.learn.submodels.layout import ChannelGraph
from hocket.learn.submodels.step import sliced_step
from hocket.learn.training import LocalTrainer, evaluate

WORST_LOSS = 100.0  # of a model that diverged: more says nothing, and would drown other trials
STATISTICS = 500  # examples from which static norm collects its statistics


@dataclass(frozen=True, slots=True)
class Trial:
    """How the whole model changed by a few mini-batches of one dropout vector."""

    decrease: float  # of the held-out loss; below 0 where it rose
    gain: float  # of the held-out accuracy


@dataclass(frozen=True)
class Scorer:
    """Tries dropout vectors. For one thread at a time; the CPU's memory holds all of it.

    `module` gives the forward pass; its own weights are not used.
    """

    module: nn.Module
    graph: ChannelGraph
    rules: TrainingRules
    examples: Examples  # to learn from
    snapshots: tuple[Tensor, ...]  # float32 (n,), from which every trial starts
    steps: int  # s, mini-batches of a trial
    _before: dict[tuple[str, int], tuple[float, float]] = field(default_factory=dict, repr=False)

    def trial(
        self, sizes: Sequence[int], snapshot: int, seed: int, judges: Examples, part: str
    ) -> Trial:
        """Train from a snapshot, keeping `sizes[g]` random channels of each group g.

        The same seed gives the same mini-batches and nested filters for all sizes (common random
        numbers). A trial that diverges counts as one that ends at WORST_LOSS.

        Args:
            sizes: channels to keep of each group.
            snapshot: number of the snapshot.
            seed: of the mini-batches and the filters.
            judges: held-out examples; always the same ones under the same name.
            part: that name.

        Raises:
            NotFinite: the snapshot itself is no model to begin with.
        """
        before = self._judged(snapshot, judges, part)
        try:
            after = self._judge(self._trained(sizes, snapshot, seed), judges)
        except NotFinite:
            after = (WORST_LOSS, 0.0)
        return Trial(before[0] - min(after[0], WORST_LOSS), after[1] - before[1])

    def _trained(self, sizes: Sequence[int], snapshot: int, seed: int) -> Tensor:
        vector = self.snapshots[snapshot].clone()
        velocity = torch.zeros_like(vector) if self.rules.momentum else None
        for layer in batch_norms(self.module).values():
            if layer.num_batches_tracked is not None:
                layer.num_batches_tracked.zero_()  # a cumulative mean must not go by past trials
        chance = torch.Generator().manual_seed(stream_seed(seed, "filters"))
        for batch in batches(self.examples, self.rules, self.steps, seed):
            plan = first_of(self.graph, sizes, draw_orders(self.graph, chance))
            inner = int(torch.randint(2**62, (), generator=chance))
            with drawing_from(inner, vector.device):
                sliced_step(
                    self.module,
                    vector,
                    plan,
                    (batch.inputs, batch.labels),
                    self.rules,
                    velocity=velocity,
                    rescale=self.rules.rescale,
                )
        return vector

    def _judged(self, snapshot: int, judges: Examples, part: str) -> tuple[float, float]:
        key = (part, snapshot)
        if key not in self._before:
            self._before[key] = self._judge(self.snapshots[snapshot], judges)
        return self._before[key]

    def _judge(self, vector: Tensor, judges: Examples) -> tuple[float, float]:
        manifest = self.graph.manifest
        if self.rules.norm == "static":
            some = self.examples.inputs[:STATISTICS]
            vector = with_statistics(self.module, vector, some, manifest)
        loss, accuracy = evaluate(
            self.module, vector, judges.inputs, judges.labels, manifest=manifest
        )
        if not abs(loss) < float("inf"):
            raise NotFinite(f"the held-out loss is {loss}; lower training.learning_rate")
        return loss, accuracy


def batches(examples: Examples, rules: TrainingRules, steps: int, seed: int) -> list[Examples]:
    """The first `steps` mini-batches of as many epochs as it takes, in an order named by `seed`."""
    chance = torch.Generator().manual_seed(stream_seed(seed, "batches"))
    found: list[Tensor] = []
    while len(found) < steps:
        order = torch.randperm(len(examples), generator=chance)
        pieces = list(torch.split(order, rules.batch_size))
        if len(pieces) > 1 and len(pieces[-1]) < len(pieces[0]):
            pieces.pop()  # all trials' steps are alike
        found += pieces
    return [examples.take(piece) for piece in found[:steps]]


def snapshots(
    module: nn.Module,
    first: Tensor,
    examples: Examples,
    rules: TrainingRules,
    *,
    steps: int,
    at: Sequence[float],
    seed: int,
) -> tuple[Tensor, ...]:
    """The whole model after the shares `at` of a training of so many mini-batches.

    Args:
        module: gives the forward pass.
        first: its first values, float32 (n,).
        examples: to learn from.
        rules: how to train.
        steps: mini-batches of the whole training; what lies behind the last share is not run.
        at: shares of it, in [0, 1] and ascending.
        seed: of the mini-batches.

    Raises:
        NotFinite: the training diverges.
    """
    trainer = LocalTrainer(module, rules, examples.inputs, examples.labels)
    trainer.start(first)
    ends = [round(share * steps) for share in at]
    chance = torch.Generator().manual_seed(stream_seed(seed, "snapshots"))
    found: list[Tensor] = []
    done = 0
    while len(found) < len(ends):
        for batch in trainer.epoch_batches(chance):
            while len(found) < len(ends) and done == ends[len(found)]:
                found.append(trainer.weights())
            if len(found) == len(ends):
                break
            trainer.step(batch, None, chance)
            done += 1
    return tuple(found)
