"""Local training on this device: paced, probed, and kept over restarts.

Plain and blocking: the agent runs every method in one and the same worker thread.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from hocket.core.capability import CostLine
from hocket.core.sizing import choices_of
from hocket.core.sizing.size import Dropping, part_of
from hocket.core.terms import TaskTerms
from hocket.errors import DataError, ShapeMismatch
from hocket.hosting.peak_memory import peak_bytes_of
from hocket.learn.blueprint import Blueprint
from hocket.learn.data import Examples
from hocket.learn.flat import flatten
from hocket.learn.local_learner import LocalLearner
from hocket.learn.local_memory import NOTHING, Kept, LocalMemory
from hocket.learn.submodels.plan import plan_of
from hocket.learn.training import LocalTrainer
from hocket_device.effort import PacedEffort
from hocket_device.local_file import load_local, save_local
from hocket_device.outbox import Parcel
from hocket_device.pace import Pace
from hocket_device.probe import Probe, probe_batch_sizes, widths_for
from hocket_device.residual import load_residual, save_residual

# A probe repeats one mini-batch over and over: the same arithmetic as in training, going nowhere.
PROBE_RATE = 1e-9


class Trainer(LocalLearner):
    """The learner of this device.

    Args:
        model: gives the forward pass and, for the probe, some weights.
        examples: what the device learns from.
        terms: the task, as the aggregator tells it.
        pace: how fast; training raises Interrupted after its stop.
        keep: the largest share of channels that the device is ever to train.
        name: the device's, for its random draws.

    Raises:
        ModelError: the model is not the aggregator's, or no part of it can be left out though
            `keep` is below 1.
        InvalidRequest: a dropout row does not fit the model.
    """

    def __init__(
        self,
        model: nn.Module,
        examples: Examples,
        terms: TaskTerms,
        pace: Pace,
        *,
        keep: float = 1.0,
        name: str = "",
    ) -> None:
        blueprint = Blueprint.of(model, terms)
        blueprint.plan(part_of(keep))
        self._paced, self._keep = PacedEffort(pace), keep
        super().__init__(blueprint, examples, self._paced, name=name)
        self._pace = pace

    @property
    def residual(self) -> Tensor | None:
        """What error feedback holds, if anything: another object whenever it has changed."""
        return self.feedback.residual

    @property
    def kept_before(self) -> Kept:
        """What `kept` comes back to when the update on its way is not used."""
        return self.memory.before

    def save(self, file: Path) -> None:
        """Keep the residual in a file. Raises OSError."""
        save_residual(self.feedback, file)

    def save_kept(self, kept: Kept, file: Path) -> None:
        """Keep what the local rule keeps, now or from before, in a file. Raises OSError."""
        save_local(kept, self._local_kind, self._local_manifest, file)

    def restore_kept(self, kept: Path | None, before: Path | None) -> None:
        """Take back what an earlier life saved. Raises DataError for a damaged file."""
        try:
            now = self._load(kept)
            self.memory = LocalMemory(now, now if before == kept else self._load(before))
        except ShapeMismatch as error:
            raise DataError(f"{kept} is damaged ({error.message}); delete it") from error

    def _load(self, file: Path | None) -> Kept:
        if file is None:
            return NOTHING
        return load_local(file, self._local_kind, self._local_manifest)

    @property
    def _local_kind(self) -> str:
        return self.blueprint.terms.training.local.kind

    @property
    def _local_manifest(self) -> str:
        return self.blueprint.terms.manifest.digest  # rules that keep vectors take whole models

    def restore(self, residual: Path | None, parcel: Parcel | None) -> None:
        """Take back what an earlier life saved, and the update that it had not settled.

        Raises DataError for a damaged file.
        """
        if residual is not None:
            load_residual(self.feedback, residual)
        if parcel is not None:
            spec = parcel.header.spec
            manifest = plan_of(self.blueprint.graph, spec).sliced_manifest
            self.feedback.resume(parcel.payload, manifest, spec)

    def probe(self, probe: Probe | None = None) -> tuple[CostLine, ...]:
        """Time real training steps at several widths, throttled as in real work.

        Where filters are dropped, also find what memory a step takes, for the choice of rows.
        """
        probe = probe or self._usual_probe()
        trainers = self._probe_trainers(probe)
        chance = torch.Generator().manual_seed(0)
        everyone = torch.arange(self.num_examples)

        def step(keep: float, batch_size: int) -> None:
            with self.effort.mini_batch(batch_size, 1.0):
                trainers[keep].step(everyone[:batch_size], None, chance)

        for trainer in trainers.values():  # torch's first steps set things up
            trainer.step(everyone[:1].repeat(2), None, chance)
        sizes = probe_batch_sizes(self.blueprint.rules.batch_size, self.num_examples)
        if self.blueprint.terms.dropout_rows:
            largest = min((k for k in trainers if k >= self._keep), default=max(trainers))
            batch = everyone[: sizes[-1]]
            peak = peak_bytes_of(lambda: trainers[largest].step(batch, None, chance))
            self._paced.step_bytes = peak or 0
        probe = replace(probe, widths=tuple(trainers))
        return probe.measure(step, sizes, self._pace.now, self._granted_s)

    @property
    def dropping(self) -> Dropping:
        """What its mini-batches can do without, as far as it was probed."""
        found = self.blueprint.dropping(self._keep, self.examples.input_shape)
        return replace(found, step_bytes=self._paced.step_bytes)

    def _usual_probe(self) -> Probe:
        """A rule that chooses among widths must know them all, least of all on a slow device."""
        choices = choices_of(self.blueprint.sizing)
        if not choices:
            return Probe()
        widths = widths_for(choices)
        return Probe(widths, certain=len(widths))

    def _granted_s(self) -> float:
        return self._pace.resources.granted_s(self._pace.busy_s())

    def _probe_trainers(self, probe: Probe) -> dict[float, LocalTrainer]:
        blueprint, examples = self.blueprint, self.examples
        rules = replace(blueprint.rules, learning_rate=PROBE_RATE)
        weights = flatten(blueprint.module)
        found = {}
        for keep in probe.widths if blueprint.graph.groups else probe.widths[:1]:
            plan = plan_of(blueprint.graph, part_of(keep))
            found[keep] = LocalTrainer(
                blueprint.module, rules, examples.inputs, examples.labels, plan=plan
            )
            found[keep].start(plan.extract(weights))
        return found
