"""A history's timing from its beginning to its end, with real training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from hocket.core import events as ev
from hocket.core.ids import DeviceId, Version
from hocket.core.past import RoundClosed
from hocket.core.stop import Stop
from hocket.core.strategy import Closing
from hocket.core.update import Dropped
from hocket.errors import HocketError
from hocket.sim.agenda import Agenda
from hocket.sim.fleet import DevicePlan
from hocket.sim.history import Closed, Ended, Found, Held, History, Settled
from hocket.sim.learner import Workshop
from hocket.sim.preparing import Prepared
from hocket.sim.result import Counts, Point, Result, Wall
from hocket.sim.server import Base, SimServer, Sink, Turn
from hocket.sim.simulation import participant_rules
from hocket.sim.timing.device import RecordedDevice, Work
from hocket.sim.timing.uses import Bases, last_uses, made_by
from hocket.sim.tracer import UNTRACED, Row, Tracer
from hocket.sim.turn_trace import TurnTrace
from hocket.sim.workshop import TorchWorkshop


class Replay:
    """Runs once. With the task that the history is of, every staleness comes out as recorded.

    A base is the model that is newest here at the moment at which the recorded one was newest
    there; so another strategy can be tried on the same timing, too. Nobody is triggered, nothing
    is given up, and nothing but the history's end ends it. Memory follows the distinct bases in
    flight.

    Args:
        prepared: task and fleet.
        history: whose timing counts; what its updates held does not.
        plans: of the devices in it, as `plans_of` gives them.
        stopwatch: seconds of the machine's own time; it decides nothing but `Result.wall`.
        tracer: is told of everything that happens.
        watch: is called after each entry, to show how far it is.
        sinks: are told of every turn of the server.
        workshop: who learns; real training in torch if left out.

    Raises:
        CorruptState: the history is damaged, here or in `run`.
    """

    def __init__(
        self,
        prepared: Prepared,
        history: History,
        plans: Mapping[DeviceId, DevicePlan],
        *,
        stopwatch: Callable[[], float],
        tracer: Tracer = UNTRACED,
        watch: Callable[[Replay], None] | None = None,
        sinks: tuple[Sink, ...] = (),
        workshop: Workshop | None = None,
    ) -> None:
        self.agenda = Agenda()
        self.counts = Counts()
        self.curve: list[Point] = []
        self.unlike = 0  # updates whose staleness is not the recorded one
        self._prepared = prepared
        self._history = history
        self._stopwatch, self._tracer, self._watch = stopwatch, tracer, watch
        self._wall = Wall()
        self._ended = "the history is over"
        scenario, setup = prepared.scenario, prepared.setup
        self._workshop = workshop or TorchWorkshop(
            prepared.blueprint, prepared.shards, stopwatch, scenario.fleet.run.batched
        )
        endless = replace(setup, rules=replace(setup.rules, stop=Stop()))
        self._sinks: tuple[Sink, ...] = (self._note, TurnTrace(tracer), *sinks)
        self.server = SimServer(endless, self.agenda, self._sinks)
        self._bases = Bases(last_uses(history.entries(bodies=False)), self.server.newest)
        self._plans = plans
        self._devices: dict[DeviceId, RecordedDevice] = {}
        self._every_s = scenario.fleet.evaluation.every_s
        self._next_s = self._every_s or 0.0
        self._judge = False  # the newest version, once its turn is over
        self._tau: int | None = None  # of the update that was settled last

    @property
    def version(self) -> Version:
        """Of the newest model."""
        return self.server.newest.version

    def run(self) -> Result:
        """Until the history is over."""
        began_s = self._stopwatch()
        self._evaluate()
        for found in self._history.entries(bodies=False):
            self._pass_to(found.entry.at_s)
            if isinstance(found.entry, Ended):  # what came later was dropped
                self._ended = f"the history is over: {found.entry.reason}"
                break
            try:
                self._take(found)
            except HocketError as error:
                raise self._history.corrupt(found.line, error.message) from error
            self.agenda.handled += 1
            if self._watch is not None:
                self._watch(self)
        self._evaluate()
        for device in self._devices.values():
            device.counts.here_s = self.agenda.now - device.since_s
        if self.unlike:
            self._ended += f"; {self.unlike} updates were not as many versions behind as recorded"
        wall = self._wall
        wall.total_s, wall.train_s = self._stopwatch() - began_s, self._workshop.busy_s
        wall.events = self.agenda.handled
        return Result(
            scenario=self._prepared.scenario,
            reason=self._ended,
            virtual_s=self.agenda.now,
            curve=tuple(self.curve),
            counts=self.counts,
            devices=[device.counts for device in self._devices.values()],
            newest=self.server.newest,
            wall=wall,
        )

    def _pass_to(self, at_s: float) -> None:
        """Let time pass, with the evaluations that fall into it."""
        while self._every_s is not None and self._next_s <= at_s:
            self.agenda.now = self._next_s
            self._evaluate()
            self._next_s += self._every_s
        self.agenda.now = at_s

    def _take(self, found: Found) -> None:
        entry = found.entry
        match entry:
            case Held():
                self._hold(entry)
            case Settled():
                self._settle(entry)
            case Closed():
                self._close()
        if made_by(entry):
            self._bases.made(self.server.newest)
        self._bases.forget(found)
        if self._judge:
            self._judge = False
            self._evaluate()

    # --- what was recorded

    def _hold(self, held: Held) -> None:
        device = self._device(held.device_id)
        if held.version == self._bases.newest:
            base = self.server.take_base(device.caller)
        else:
            base = Base(self._bases.of(held.version), None)
            self.server.take(ev.BaseTaken(device.caller, base.model.version))
        device.base, device.held, device.began_s = base, held.version, held.at_s
        device.pulled()
        if self._tracer.wants("pull"):
            version, num_bytes = base.model.version, device.down_bytes
            row = Row("pull", held.at_s, held.device_id, version=version, bytes=num_bytes)
            self._tracer.row(row)

    def _settle(self, settled: Settled) -> None:
        told = settled.header
        device = self._device(told.device_id)
        if device.base is None or device.held != told.base_version:  # it had kept an older one
            device.base, device.began_s = Base(self._bases.of(told.base_version), None), 0.0
        if self.server.terms.exchanges and device.base.exchanged is None:
            self.unlike += 1  # what travelled with that base is gone, and it cannot be trained
            return
        fresh = None if told.refresh is None else self._bases.of(told.refresh.version)
        work = Work(told, device.base, fresh, device.began_s, settled.at_s)
        self._tau = None
        device.work(work)
        self.unlike += self._tau != settled.outcome.tau
        device.base = device.held = None

    def _close(self) -> None:
        """A deadline ended the round; with another strategy there may be nothing to close."""
        core = self.server.core
        if not isinstance(core.strategy, Closing) or not core.state.pending_ids:
            return
        effects = core.relive(RoundClosed(Version(self.version + 1)))
        for sink in self._sinks:
            sink(Turn(self.agenda.now, ev.Tick(), effects, None))

    def _device(self, device_id: DeviceId) -> RecordedDevice:
        if device_id not in self._devices:
            plan, terms = self._plans[device_id], self._prepared.setup.terms
            device = RecordedDevice(
                plan,
                terms,
                participant_rules(terms),
                self._workshop.learner(plan),
                self.server,
                self.counts,
                self.agenda.now,
            )
            self._devices[device_id] = device
            self.server.take(ev.DeviceSeen(device.record()))
        return self._devices[device_id]

    # --- what is told

    def _note(self, turn: Turn) -> None:
        """Count what came of a turn (a Sink)."""
        for effect in turn.effects:
            match effect:
                case ev.Settled(_, outcome):
                    self._tau = outcome.tau
                    if isinstance(outcome, Dropped):
                        self.counts.updates_dropped += 1
                    else:
                        self.counts.updates_accepted += 1
                        self.counts.tau_sum += outcome.tau
                        self.counts.tau_max = max(self.counts.tau_max, outcome.tau)
                case ev.Evaluate() if self._every_s is None:
                    self._judge = True

    def _evaluate(self) -> None:
        """Judge the newest model, once at a time."""
        newest, last = self.server.newest, self.curve[-1] if self.curve else None
        if last is not None and (last.at_s, last.version) == (self.agenda.now, newest.version):
            return
        began_s = self._stopwatch()
        judged = self._prepared.examine(newest.model)
        self._wall.evaluate_s += self._stopwatch() - began_s
        accuracy, loss = judged.test_accuracy, judged.test_loss
        at_s, version = self.agenda.now, newest.version
        self.curve.append(Point(at_s, version, accuracy, loss))
        if self._tracer.wants("evaluate"):
            self._tracer.row(Row("evaluate", at_s, version=version, accuracy=accuracy, loss=loss))
