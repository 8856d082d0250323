"""What the device tells the registry of itself."""

from __future__ import annotations

from dataclasses import replace

from hocket.core.capability import Capability, CostLine
from hocket.core.clock import Clock
from hocket.core.schedule import Schedule
from hocket.core.sizing.size import UNKNOWN, Dropping
from hocket_device.resources import Resources


class Ability:
    """What it measured, and what its owner plans."""

    def __init__(
        self, resources: Resources, available: Schedule[bool], clock: Clock, *, keep: float = 1.0
    ) -> None:
        self.keep = keep  # the largest share of channels that its owner lets it train
        self.dropping = UNKNOWN  # what its mini-batches can do without
        self._resources = resources
        self._available = available
        self._clock = clock
        self._began = clock.now()
        self._costs: tuple[CostLine, ...] = ()
        self._measured_at = 1.0  # share of the processor while the costs were measured
        self._num_examples = 0

    def measured(
        self, costs: tuple[CostLine, ...], num_examples: int, dropping: Dropping = UNKNOWN
    ) -> None:
        """Take in what the probe found at the present share of the processor."""
        self._costs, self._num_examples, self.dropping = costs, num_examples, dropping
        self._measured_at = self._resources.share()

    def now(self) -> Capability:
        """The capability; step times follow the share of the processor that can be had now."""
        share = self._resources.share()
        slower = self._measured_at / share
        return Capability(
            costs=tuple(
                replace(
                    line,
                    fixed_s=line.fixed_s * slower,
                    per_example_s=line.per_example_s * slower,
                )
                for line in self._costs
            ),
            processor_share=share,
            memory_bytes=self._resources.memory_bytes(),
            available=self._available.at(self._clock.now() - self._began),
            num_examples=self._num_examples,
        )

    def next_change_s(self) -> float | None:
        """Seconds until the owner's plan changes the availability."""
        return self._available.next_change_s(self._clock.now() - self._began)
