"""Real training in torch, done late: at the moment of virtual time at which its result is needed.

So memory follows the updates on their way, not the trainings in flight: a training that only
waits for its end holds a reference to its base. Where it pays, whoever else has noted epochs by
then is trained in the same go.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from torch import Tensor

from hocket.core.capability import CostLine
from hocket.core.participant_header import Trained
from hocket.core.sizing import choices_of
from hocket.core.sizing.size import WHOLE, Size
from hocket.core.submodel import SubmodelSpec
from hocket.errors import NotFinite
from hocket.learn.blueprint import Blueprint
from hocket.learn.codecs.feedback import ErrorFeedback
from hocket.learn.data import Examples
from hocket.learn.local_learner import EpochResult, LocalLearner
from hocket.learn.local_memory import LocalMemory
from hocket.learn.submodels.mini_batch import AllOfIt, BatchParts
from hocket.learn.training import MergeReport
from hocket.sim.batching import FEWEST, MOST, Batched, Job, Mode
from hocket.sim.fleet import DevicePlan
from hocket.sim.fleet.presets import WIDTHS
from hocket.sim.learner import Parcel
from hocket.sim.shards import Shards


class TorchWorkshop:
    """Learners of one task.

    Args:
        blueprint: the task's model and rules.
        shards: the examples of each device.
        stopwatch: seconds of the machine's own time; only differences mean anything.
        batched: whether several devices are trained at once.
    """

    def __init__(
        self,
        blueprint: Blueprint,
        shards: Shards,
        stopwatch: Callable[[], float],
        batched: Mode = "auto",
    ) -> None:
        self.blueprint = blueprint
        self.busy_s = 0.0
        self._lines: dict[tuple[CostLine, ...], tuple[CostLine, ...]] = {}
        self._shards = shards
        self._stopwatch = stopwatch
        self._batched = Batched(blueprint, batched)
        self._waiting: dict[LateLearner, None] = {}  # with epochs noted, first noted first

    def num_examples_of(self, plan: DevicePlan) -> int:
        """See Workshop."""
        return self._shards.size(plan.shard)

    def examples(self, plan: DevicePlan) -> Examples:
        """What a device learns from. Raises DataError."""
        return self._shards.of(plan.shard)

    def lines(self, plan: DevicePlan) -> tuple[CostLine, ...]:
        """See Workshop. A class of which one width is known takes at others what their work is."""
        if plan.costs not in self._lines:
            shape = self.examples(plan).input_shape
            self._lines[plan.costs] = _by_width(self.blueprint, plan.costs, shape)
        return self._lines[plan.costs]

    def learner(self, plan: DevicePlan) -> LateLearner:
        """See Workshop. Raises ModelError or InvalidRequest as `LocalLearner`."""
        return LateLearner(self, plan)

    def wait(self, learner: LateLearner) -> None:
        """It has noted an epoch."""
        self._waiting[learner] = None

    def forget(self, learner: LateLearner) -> None:
        """It begins anew: nobody needs what it has noted."""
        self._waiting.pop(learner, None)

    def catch_up(self, learner: LateLearner) -> None:
        """Train all that it has noted; others with it, where that pays."""
        if learner not in self._waiting:
            return
        enough = len(self._waiting) >= FEWEST  # before the model is tried: that takes seconds
        if enough and self._batched.suits(learner.examples.input_shape):
            others = [other for other in self._waiting if other is not learner]
            together = [learner, *others[: MOST - 1]]
            jobs = [one.job() for one in together]
            if self._batched.applies(jobs):
                for one, outcome in zip(together, self._batched.run(jobs), strict=True):
                    del self._waiting[one]
                    one.done(outcome)
                return
        del self._waiting[learner]
        learner.train()

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Around work in torch."""
        began_s = self._stopwatch()
        try:
            yield
        finally:
            self.busy_s += self._stopwatch() - began_s


def _by_width(
    blueprint: Blueprint, costs: tuple[CostLine, ...], input_shape: tuple[int, ...]
) -> tuple[CostLine, ...]:
    if len(costs) > 1:
        return costs
    (known,) = costs
    widths = sorted({*WIDTHS, *choices_of(blueprint.sizing)}, reverse=True)
    shares = {keep: blueprint.share(keep, input_shape) for keep in (known.keep, *widths)}
    narrower = [
        CostLine(keep, known.fixed_s * part, known.per_example_s * part)
        for keep in widths
        if keep < known.keep and (part := shares[keep] / shares[known.keep]) < 1.0
    ]
    return (known, *narrower)


class _Granted:
    """The effort of a simulation: what work costs was charged before, and takes no time here."""

    def __init__(self) -> None:
        self.granted = 1.0

    def share(self) -> float:
        """The share of a processor that the epoch was charged for."""
        return self.granted

    def memory(self) -> float:
        """As much as it takes."""
        return math.inf

    def mini_batch(self, _examples: int, _cost: float, /) -> AbstractContextManager[None]:
        """Nothing around a step."""
        return nullcontext()

    def other(self) -> AbstractContextManager[None]:
        """Nothing around decoding, merging and encoding."""
        return nullcontext()

    def now(self) -> float:
        """No time passes."""
        return 0.0


class LateLearner:
    """One device's learning (a Learner). Between trainings only what it must remember is kept."""

    def __init__(self, workshop: TorchWorkshop, plan: DevicePlan) -> None:
        self.size = WHOLE
        self.examples = workshop.examples(plan)
        self._workshop = workshop
        self._plan = plan
        self._feedback: ErrorFeedback | None = None  # both begin with the first training
        self._memory: LocalMemory | None = None
        self._effort = _Granted()
        self._base: Tensor | None = None
        self._exchanged: Tensor | None = None
        self._training = 0
        self._parts: BatchParts = AllOfIt()
        self._noted: list[tuple[int, float]] = []
        self._learner: LocalLearner | None = None  # of the training in flight, once it was needed
        self._steps = 0
        self._last: EpochResult | None = None
        self._diverged: NotFinite | None = None  # while it was trained beside another

    @property
    def num_examples(self) -> int:
        """See Learner."""
        return len(self.examples)

    @property
    def spec(self) -> SubmodelSpec:
        """See Learner."""
        return self.size.spec

    @property
    def down_bytes(self) -> int:
        """See Learner."""
        blueprint = self._workshop.blueprint
        if self.spec.is_full:
            return blueprint.terms.down_bytes
        return blueprint.plan(self.spec).sliced_manifest.dense_bytes

    def take(self, size: Size, training: int) -> None:
        """See Learner. Raises ModelError for less than all of a model that cannot be sliced."""
        self._workshop.forget(self)
        self.size, self._training = size, training
        blueprint, shape = self._workshop.blueprint, self.examples.input_shape
        self._parts = blueprint.parts(size, shape, self._plan.device_id, training)

    def costs(self, epoch: int, share: float, count: int) -> list[float]:
        """See Learner."""
        return [self._parts.part(share, epoch, number).cost for number in range(count)]

    def start(self, base: Tensor, exchanged: Tensor | None) -> None:
        """See Learner."""
        self._workshop.forget(self)
        self._base, self._exchanged = base, exchanged
        self._noted.clear()
        self._learner = self._last = self._diverged = None
        self._steps = 0
        if self._memory is not None:
            self._memory.begin()  # now: until it trains, `forget` must not undo what was accepted

    def note(self, epoch: int, share: float) -> None:
        """See Learner."""
        self._noted.append((epoch, share))
        self._workshop.wait(self)

    def fisher(self) -> float:
        """See Learner. It is needed now, so the epoch is trained now."""
        with self._workshop.timed(), self._ending_if_diverged():
            self._caught_up()
        return 0.0 if self._last is None else self._last.fisher

    def merge(self, fresh: Tensor, beta: float) -> MergeReport:
        """See Learner."""
        with self._workshop.timed(), self._ending_if_diverged():
            return self._caught_up().merge_with(self._part(fresh), beta)

    def finish(self) -> Parcel:
        """See Learner."""
        with self._workshop.timed(), self._ending_if_diverged():
            learner = self._caught_up()
            payload, classes = learner.encode(), learner.classes
        last = self._last
        if last is None:
            raise RuntimeError("asked for an update though no epoch was trained")
        trained = Trained(self.num_examples, self._steps, last.mean_loss, last.loss_rms, classes)
        self._end()
        return Parcel(trained, payload)

    def settled(self, seconds: float) -> None:
        """See Learner."""
        if self._memory is not None:
            self._memory.settled(seconds)

    def used(self) -> None:
        """See Learner. Else memory would follow all devices that ever trained."""
        if self._feedback is not None and self._feedback.residual is None:
            self._feedback = None  # it holds nothing but that update
        if self._memory is not None:
            self._memory.begin()  # and here is no way back

    def put_back(self) -> None:
        """See Learner."""
        if self._feedback is not None and self._memory is not None:
            self._feedback.put_back()
            self._memory.undo()

    def forget(self) -> None:
        """See Learner."""
        if self._feedback is not None and self._memory is not None:
            self._feedback.reset()
            self._memory.undo()

    # --- for the workshop

    def job(self) -> Job:
        """The epochs that it has noted."""
        return Job(self._begun(), tuple(self._noted))

    def done(self, outcome: tuple[EpochResult, ...] | NotFinite) -> None:
        """Its job was done."""
        self._noted.clear()
        if isinstance(outcome, NotFinite):
            self._diverged = outcome
            return
        self._last = outcome[-1]
        self._steps += sum(epoch.steps for epoch in outcome)

    def train(self) -> None:
        """Train what it has noted by itself. Raises NotFinite."""
        learner, noted = self._begun(), self._noted
        self._noted = []
        for epoch, share in noted:
            self._effort.granted = share
            self._last = learner.train_epoch(epoch)
            self._steps += self._last.steps

    @contextmanager
    def _ending_if_diverged(self) -> Iterator[None]:
        """Around what needs the trained model: one that diverged is given up."""
        try:
            yield
        except NotFinite:
            self._end()
            raise

    def _end(self) -> None:
        """Until the next training no model is kept."""
        self._base = self._exchanged = self._learner = None

    def _caught_up(self) -> LocalLearner:
        """The learner with all noted epochs trained. Raises NotFinite."""
        self._workshop.catch_up(self)
        if self._diverged is not None:
            raise self._diverged
        return self._begun()

    def _begun(self) -> LocalLearner:
        if self._learner is not None:
            return self._learner
        if self._base is None:
            raise RuntimeError("asked to train though no base was pulled")
        learner = LocalLearner(
            self._workshop.blueprint,
            self.examples,
            self._effort,
            name=self._plan.device_id,
            feedback=self._feedback,
            memory=self._memory,
        )
        self._feedback, self._memory = learner.feedback, learner.memory
        learner.start_from(self._part(self._base), self._training, self._exchanged, self.size)
        self._learner = learner
        return learner

    def _part(self, model: Tensor) -> Tensor:
        return self._workshop.blueprint.plan(self.spec).extract(model)
