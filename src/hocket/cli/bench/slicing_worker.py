"""Times training steps with and without filters, or finds the peak of one's memory."""

from __future__ import annotations

import statistics
import sys
import time

import torch

from hocket.cli.bench.worker import JSON, work
from hocket.errors import HocketError
from hocket.hosting.peak_memory import peak_bytes_of
from hocket.learn import models
from hocket.learn.data import Examples
from hocket.learn.flat import flatten
from hocket.learn.layout import laid_out, layout_for
from hocket.learn.submodels.cost import forward_cost
from hocket.learn.submodels.dropout import kept_sizes
from hocket.learn.submodels.graph import channel_graph
from hocket.learn.submodels.layout import ChannelGraph
from hocket.learn.training import LocalTrainer, TrainingRules

RULES = TrainingRules(local_epochs=1, batch_size=32, learning_rate=1e-3, momentum=0.9)
WARM_UP = 2


class Steps:
    """Steps of one net on examples of no meaning."""

    def __init__(self, job: JSON) -> None:
        torch.manual_seed(1)
        self.net = getattr(models, job["model"])()
        self.graph: ChannelGraph = channel_graph(self.net)
        self._batch, self._input_shape = int(job["batch"]), tuple(job["input_shape"])
        inputs = torch.randn(self._batch, *self._input_shape)
        examples = Examples(inputs, torch.arange(self._batch) % 10)
        examples = laid_out(examples, layout_for(self.net, self._input_shape))
        self._trainer = LocalTrainer(
            self.net, RULES, examples.inputs, examples.labels, graph=self.graph
        )
        self._trainer.start(flatten(self.net))
        self._chance = torch.Generator().manual_seed(1)

    def take(self, drop: float) -> float:
        """One step; its seconds. New filters are drawn each time."""
        vector = (drop,) * len(self.graph.groups) if drop else None
        began_s = time.perf_counter()
        self._trainer.step(torch.arange(self._batch), vector, self._chance)
        return time.perf_counter() - began_s

    def macs(self, drop: float) -> int:
        """Multiply-accumulates of one example's forward pass."""
        sizes = kept_sizes(self.graph, (drop,) * len(self.graph.groups))
        return forward_cost(self.net, self.graph, self._input_shape).macs(sizes)


def timed(job: JSON) -> JSON:
    """The median step of each kind; both take turns, so that a busy moment meets both."""
    steps, drop = Steps(job), float(job["drop"])
    taken: dict[float, list[float]] = {0.0: [], drop: []}
    for _ in range(WARM_UP + int(job["steps"])):
        for some, seconds in taken.items():
            seconds.append(steps.take(some))
    whole, part = (statistics.median(taken[some][WARM_UP:]) for some in (0.0, drop))
    macs = steps.macs(0.0)
    return {
        "macs": macs,
        "macs_share": steps.macs(drop) / macs,
        "step_s": whole,
        "part_s": part,
    }


def remembered(job: JSON) -> JSON:
    """Resident memory at the peak of a step, above what the net and its examples take."""
    steps, drop = Steps(job), float(job["drop"])
    steps.take(drop)  # torch's first step sets things up
    peak_bytes = peak_bytes_of(lambda: steps.take(drop))
    if peak_bytes is None:
        raise HocketError("peak memory is measured on Linux only")
    return {"peak_bytes": peak_bytes}


async def measure(job: JSON) -> JSON:
    """What the job asks for. Raises HocketError where the system does not tell."""
    torch.set_num_threads(1)
    return timed(job) if job["measure"] == "time" else remembered(job)


if __name__ == "__main__":
    sys.exit(work(measure))
