"""A simulation from its beginning to its end: the fleet, the server, and the agenda they share."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from hocket.core import events as ev
from hocket.core.chance import Stream
from hocket.core.ids import DeviceId, Version
from hocket.core.participant import ParticipantRules
from hocket.core.records import Evaluation
from hocket.core.terms import TaskTerms
from hocket.core.update import Dropped
from hocket.sim.agenda import Agenda
from hocket.sim.courier import Network
from hocket.sim.device import SimDevice, Surroundings
from hocket.sim.learner import Workshop
from hocket.sim.preparing import Prepared
from hocket.sim.presence import Presence
from hocket.sim.result import Counts, DeviceCounts, Point, Result, Wall
from hocket.sim.server import SimServer, Sink, Turn
from hocket.sim.tracer import UNTRACED, Row, Tracer
from hocket.sim.transfers import Transfers
from hocket.sim.turn_trace import TurnTrace
from hocket.sim.workshop import TorchWorkshop

FRUITLESS = 10_000  # trainings in vain, one after another: nothing more is hoped for
WATCH_EVENTS = 256  # between two looks of whoever watches


class Simulation:
    """Runs once.

    Args:
        prepared: what is simulated.
        stopwatch: seconds of the machine's own time; it decides nothing but `Result.wall`.
        tracer: is told of everything that happens.
        watch: is called now and then, to show how far it is.
        sinks: are told of every turn of the server, after the simulation itself.
        workshop: who learns; real training in torch if left out.
    """

    def __init__(
        self,
        prepared: Prepared,
        *,
        stopwatch: Callable[[], float],
        tracer: Tracer = UNTRACED,
        watch: Callable[[Simulation], None] | None = None,
        sinks: tuple[Sink, ...] = (),
        workshop: Workshop | None = None,
    ) -> None:
        self.agenda = Agenda()
        self.counts = Counts()
        self.curve: list[Point] = []
        self._prepared = prepared
        self._stopwatch = stopwatch
        self._tracer = tracer
        self._watch = watch
        self._wall = Wall()
        self._ended: str | None = None
        self._in_vain = 0  # trainings before the last update that was accepted
        scenario, setup = prepared.scenario, prepared.setup
        self._workshop = workshop or TorchWorkshop(
            prepared.blueprint, prepared.shards, stopwatch, scenario.fleet.run.batched
        )
        self.server = SimServer(setup, self.agenda, (self._carry_out, TurnTrace(tracer), *sinks))
        transfers = Transfers(self.agenda, prepared.roster, scenario.fleet, scenario.seed)
        limits = scenario.fleet.server
        network = Network(
            self.agenda,
            self.server,
            transfers,
            limits.resume_s,
            limits.step_s,
            scenario.seed,
            self.counts,
            tracer,
        )
        self._around = Surroundings(
            network,
            self._workshop,
            setup.terms,
            participant_rules(setup.terms),
            limits.lease_s,
            scenario.seed,
        )
        self._presence = Presence(self.agenda, self._came, self._went)
        roster = prepared.roster
        self._devices = [
            SimDevice(roster.plan(index), self._around) for index in range(roster.num_devices)
        ]
        self._by_id: dict[DeviceId, SimDevice] = {
            device.plan.device_id: device for device in self._devices
        }

    @property
    def version(self) -> Version:
        """Of the newest model."""
        return self.server.newest.version

    def run(self) -> Result:
        """Until something ends it. Raises DataError for examples that cannot be read."""
        began_s = self._stopwatch()
        scenario = self._prepared.scenario
        if scenario.virtual_s is not None:
            over = partial(self._end, f"{scenario.virtual_s:g} s of virtual time are over")
            self.agenda.at(scenario.virtual_s, over)
        self._evaluate()
        if scenario.fleet.evaluation.every_s is not None:
            self.agenda.after(scenario.fleet.evaluation.every_s, self._evaluate_on_time)
        self._let_them_come()
        self.agenda.run(self._is_over)
        self._evaluate()
        self._look()
        wall = self._wall
        wall.total_s, wall.train_s = self._stopwatch() - began_s, self._workshop.busy_s
        wall.events = self.agenda.handled
        return Result(
            scenario=scenario,
            reason=self._ended or self._stalled(),
            virtual_s=self.agenda.now,
            curve=tuple(self.curve),
            counts=self.counts,
            devices=[self._counts_of(device) for device in self._devices],
            newest=self.server.newest,
            wall=wall,
        )

    # --- devices

    def _let_them_come(self) -> None:
        """All that are there at the start, in an order of chance: no id comes first each time."""
        chance = Stream(self._prepared.scenario.seed, "arrival")
        for index in chance.sample(len(self._devices), len(self._devices)):
            if self._presence.begin(index, self._devices[index].plan):
                self._came(index)

    def _came(self, index: int) -> None:
        self._devices[index].come()

    def _went(self, index: int) -> None:
        self._devices[index].go()

    def _counts_of(self, device: SimDevice) -> DeviceCounts:
        device.counts.busy_s -= device.ahead_s
        device.counts.here_s = self._presence.here_s(device.plan.index)
        return device.counts

    # --- what the rules ask for

    def _carry_out(self, turn: Turn) -> None:
        for effect in turn.effects:
            match effect:
                case ev.SendTrigger():
                    self._send(effect)
                case ev.Settled():
                    self._settled(effect)
                case ev.Evaluate():
                    if self._prepared.scenario.fleet.evaluation.every_s is None:
                        self.agenda.after(0.0, self._evaluate)
                case ev.TaskFinished(finished):
                    self._end(finished.reason)

    def _send(self, effect: ev.SendTrigger) -> None:
        """A trigger is half a round trip on its way."""
        device = self._by_id[effect.caller.device_id]
        self.counts.triggers += 1
        arrived = partial(device.trigger, device.stream, effect.trigger)
        self.agenda.after(device.plan.link.rtt_s / 2.0, arrived)

    def _settled(self, effect: ev.Settled) -> None:
        outcome = effect.outcome
        if not effect.first_time:
            return
        if isinstance(outcome, Dropped):
            self.counts.updates_dropped += 1
        else:
            self.counts.updates_accepted += 1
            self._in_vain = self.counts.in_vain
            self.counts.tau_sum += outcome.tau
            self.counts.tau_max = max(self.counts.tau_max, outcome.tau)

    # --- evaluation

    def _evaluate_on_time(self) -> None:
        every_s = self._prepared.scenario.fleet.evaluation.every_s
        if every_s is not None and len(self.agenda):  # else nothing happens any more
            self.agenda.after(every_s, self._evaluate_on_time)
        self._evaluate()

    def _evaluate(self) -> None:
        """Judge the newest model, once at a time; one that was judged before is what it was."""
        newest, last = self.server.newest, self.curve[-1] if self.curve else None
        if last is not None and last.version == newest.version:
            if last.at_s == self.agenda.now:
                return
            evaluation = Evaluation(last.loss, last.accuracy)
        else:
            began_s = self._stopwatch()
            evaluation = self._prepared.examine(newest.model)
            self._wall.evaluate_s += self._stopwatch() - began_s
        accuracy, loss = evaluation.test_accuracy, evaluation.test_loss
        self.curve.append(Point(self.agenda.now, newest.version, accuracy, loss))
        if self._tracer.wants("evaluate"):
            at_s, version = self.agenda.now, newest.version
            self._tracer.row(Row("evaluate", at_s, version=version, accuracy=accuracy, loss=loss))
        if self.server.core.finished is None:
            self.server.take(ev.Evaluated(newest.version, evaluation))

    # --- how far it is

    def _is_over(self) -> bool:
        if self.agenda.handled % WATCH_EVENTS == 0:
            self._look()
            if self.counts.in_vain > self._in_vain + FRUITLESS:
                self._end(f"nothing came of the last {FRUITLESS} trainings")
        return self._ended is not None

    def _look(self) -> None:
        if self._watch is not None:
            self._watch(self)

    def _stalled(self) -> str:
        """Why nothing happens any more."""
        waiting = sum(self._presence.is_here(index) for index in range(len(self._devices)))
        others = f"the {waiting} that are there wait for others, and " if waiting else ""
        return f"nothing is left to happen: {others}no device will come back"

    def _end(self, reason: str) -> None:
        if self._ended is None:
            self._ended = reason


def participant_rules(terms: TaskTerms) -> ParticipantRules:
    """What a device of this task goes by."""
    return ParticipantRules.of(terms)
