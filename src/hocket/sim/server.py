"""The simulated aggregator: the coordinator, and what intake, owner and service do around it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hocket.core import events as ev
from hocket.core.coordinator import Coordinator
from hocket.core.device import Caller
from hocket.core.payload import Payload, PayloadHeader
from hocket.core.sizing.size import WHOLE, Size
from hocket.core.strategy import Global
from hocket.core.update import Outcome, Update, UpdateHeader
from hocket.errors import HocketError, UnknownDevice
from hocket.learn.submodels.sliceable import main_codec
from hocket.sim.agenda import Agenda, Entry
from hocket.task.setup import Setup
from hocket.task.soundness import check_update

MIN_TICK_S = 0.001  # so that a deadline which a tick does not move cannot stop the clock


@dataclass(frozen=True, slots=True)
class Turn:
    """One event that the rules took in, and what it came to."""

    at_s: float
    event: ev.Event[Tensor]
    effects: Sequence[ev.Effect[Tensor]]
    payload: Payload | None  # of an update, as it was received


@dataclass(frozen=True, slots=True)
class Base:
    """What a device trains from."""

    model: Global[Tensor]
    exchanged: Tensor | None  # the vector that goes with it, of a rule that exchanges one


Sink = Callable[[Turn], None]
"""Is told of every turn, in order."""


class SimServer:
    """Drives the coordinator in virtual time. What it sends out, the sinks carry."""

    def __init__(self, setup: Setup, agenda: Agenda, sinks: Sequence[Sink]) -> None:
        self.terms = setup.terms
        self.core: Coordinator[Tensor, Any] = Coordinator.begin(
            setup.rules, setup.strategy, Global(setup.first), setup.slots()
        )
        self._model = setup.sliceable()
        self._agenda = agenda
        self._sinks = sinks
        self._deadline: Entry | None = None
        self._ticked: float | None = None  # the deadline of the latest tick
        self._again_s = 0.0  # when that one is tried again, if it is still there

    @property
    def newest(self) -> Global[Tensor]:
        """The newest global model."""
        return self.core.newest

    def take(
        self, event: ev.Event[Tensor], payload: Payload | None = None
    ) -> Sequence[ev.Effect[Tensor]]:
        """Have the rules take an event in. Raises HocketError as they do."""
        effects = self.core.handle(event, self._agenda.now)
        turn = Turn(self._agenda.now, event, effects, payload)
        for sink in self._sinks:
            sink(turn)
        self._watch_deadline()
        return effects

    def take_base(self, caller: Caller, size: Size = WHOLE) -> Base:
        """The newest model, which the caller trains this part of. Raises UnknownDevice."""
        newest = self.core.newest
        exchanged = self.core.exchanged(newest.version) if self.terms.exchanges else None
        self.take(ev.BaseTaken(caller, newest.version, size.spec, size.why))
        return Base(newest, exchanged)

    def offer(self, header: UpdateHeader, payload: PayloadHeader) -> Outcome | None:
        """Admit an update by its header; its answer, if that needs no body.

        Raises HocketError, as a service answers.
        """
        try:
            answer = self.core.offered(header)
            if answer is None:
                self.take(ev.PushStarted(header))
                check_update(header, payload, self.terms, self._model)
                return None
        except HocketError as error:
            self._refused(header, error)
            raise
        # Whatever its body holds.
        return self._settle(Update(header, torch.empty(0), codec=main_codec(payload)), None)

    def arrived(self, header: UpdateHeader, payload: Payload) -> Outcome:
        """The whole body of an admitted update has come. Raises HocketError."""
        try:
            update = self._model.decode(header, payload, self._model.plan(header.spec))
            return self._settle(update, payload)
        except HocketError as error:
            self._refused(header, error)
            raise

    def broke_off(self, header: UpdateHeader) -> None:
        """The stream of a push ended before its time."""
        self.take(ev.PushBroken(header))

    def _settle(self, update: Update[Tensor], payload: Payload | None) -> Outcome:
        effects = self.take(ev.Pushed(update), payload)
        return next(effect.outcome for effect in effects if isinstance(effect, ev.Settled))

    def _refused(self, header: UpdateHeader, error: HocketError) -> None:
        if not isinstance(error, UnknownDevice):
            self.take(ev.Refused(header))

    def _watch_deadline(self) -> None:
        """One entry on the agenda: when the rules next want to look."""
        at_s = self.core.next_deadline()
        if at_s is not None and at_s == self._ticked:
            at_s = self._again_s
        if self._deadline is not None:
            if self._deadline.when == at_s and self._deadline.do is not None:
                return
            self._agenda.cancel(self._deadline)
            self._deadline = None
        if at_s is not None:
            self._deadline = self._agenda.at(max(at_s, self._agenda.now), self._tick)

    def _tick(self) -> None:
        self._deadline, self._ticked = None, self.core.next_deadline()
        self._again_s = self._agenda.now + MIN_TICK_S
        self.take(ev.Tick())
