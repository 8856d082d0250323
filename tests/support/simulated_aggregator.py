"""An aggregator that crashes: the coordinator, its disk, and the order in which they are used."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from support.aggregator_checks import Checks
from support.simulated_disk import Core, Disk, Entry, Snapshot
from support.simulated_life import Life
from support.simulated_world import World

from hocket.core import events as ev
from hocket.core.coordinator import header_caller
from hocket.core.device import Caller, Device
from hocket.core.ids import DeviceId, Version
from hocket.core.past import past_of
from hocket.core.terms import Finished, Trigger
from hocket.core.update import Update, UpdateHeader
from hocket.errors import HocketError, UnknownDevice

Answer = Callable[[Any], None]
Event = ev.Event[float]
Take = Callable[[Event], list[ev.Effect[float]]]
Hear = Callable[[Trigger | Finished], None]

BATCH = 4
TURN_S = 0.02
DOWN_S = 15.0
ASK_AGAIN_S = 5.0
SLACK_S = 1e-3


@dataclass(frozen=True, slots=True)
class Job:
    """Work with nothing in between, and whom to tell."""

    work: Callable[[Core, Take], Any]
    answer: Answer | None


@dataclass(slots=True)
class Turn:
    """What a job came to."""

    job: Job
    result: Any
    effects: list[ev.Effect[float]]


class SimulatedAggregator:
    """What the owner, the intake and the roster do, and what becomes of it when they die."""

    def __init__(self, world: World, life: Life, disk: Disk, checks: Checks) -> None:
        self._world, self._life, self._disk, self._checks = world, life, disk, checks
        self._jobs: deque[Job] = deque()
        self._epoch = 0.0
        self.number = 0  # of this life; 0: down
        self._lives = 0
        self._saving = 0  # the life of which a snapshot is being written
        self._ticking: float | None = None
        self._known: dict[DeviceId, int] = {}  # the newest revision passed on
        self.revision = 0  # of the registry, known in full
        self.sessions: dict[DeviceId, tuple[Caller, object, Hear]] = {}
        self.start()

    @property
    def core(self) -> Core:
        """The rules, while it is up."""
        return self._life.core

    def start(self) -> None:
        """Live again from the disk."""
        self._lives += 1
        self.number = self._lives
        self._epoch = self._world.now - self._world.chance.uniform(0.0, 100.0)
        self._jobs.clear()
        self._known.clear()
        self.sessions.clear()
        self.revision, self._ticking = 0, None
        self._life.begin(self._disk, self._disk.snapshots[-1])
        self._checks.reborn(self._life)
        self._world.say(f"aggregator starts at version {self.core.newest.version}")

    def crash(self, where: str) -> None:
        """Lose everything but the disk."""
        lost = self._disk.crash(self._world.chance)
        self._world.say(f"aggregator crashes {where}; {lost} entries lost")
        self._world.faults[f"aggregator crashes {where}"] += 1
        self.number = 0
        self._checks.dead()
        self._world.after(self._world.chance.uniform(0.5, DOWN_S), self.start)

    # What the registry tells.

    def see(self, device: Device) -> None:
        """Pass a device on unless something newer of it was passed on before."""
        if self.number and device.revision >= self._known.get(device.device_id, 0):
            self._known[device.device_id] = device.revision
            self.post(ev.DeviceSeen(device))

    # What devices ask.

    def subscribe(
        self, caller: Caller, token: object, hear: Hear, answer: Answer, *, training: bool
    ) -> None:
        def work(_: Core, take: Take) -> None:
            take(ev.Subscribed(caller, training))
            self._checks.rested(caller.device_id, really=not training)
            self.sessions[caller.device_id] = (caller, token, hear)

        self._put(Job(work, answer))

    def hang_up(self, device_id: DeviceId) -> None:
        """A stream breaks. It is looked up in its turn: a newer one may stand in line before it."""
        broken = self.sessions.get(device_id)

        def work(_: Core, take: Take) -> None:
            if broken is not None and self.sessions.get(device_id) is broken:
                del self.sessions[device_id]
                take(ev.Unsubscribed(broken[0]))

        self._put(Job(work, None))

    def pull(self, caller: Caller | None, answer: Answer) -> None:
        """The newest model; whoever trains from it says who it is."""

        def work(core: Core, take: Take) -> tuple[Version, float]:
            newest = core.newest
            if caller is not None:
                take(ev.BaseTaken(caller, newest.version))
                self._checks.took(caller.device_id, newest.version)
            return newest.version, newest.model

        self._put(Job(work, answer))

    def push(self, update: Update[float], answer: Answer) -> None:
        """The header, then the body; its stream may break."""
        header = update.header

        def told(result: Any) -> None:
            if isinstance(result, HocketError) and not isinstance(result, UnknownDevice):
                self.refuse(header)
            answer(result)

        def admit(core: Core, take: Take) -> Any:
            with self._checks.gone_for_a_reason(header):
                answer = core.offered(header)
            if answer is None:
                take(ev.PushStarted(header))
                return None
            empty: Update[float] = Update(header, 0.0)
            return _outcome(take(ev.Pushed(empty)))

        def admitted(result: Any) -> None:
            if result is not None:
                told(result)
            elif self._world.goes_wrong(self._world.rates.broken, "push streams broken"):
                self.post(ev.PushBroken(header))
            else:
                number, body_s = self.number, self._world.chance.uniform(0.05, 3.0)
                self._world.after(body_s, lambda: self._body(update, told, number))

        self._put(Job(admit, admitted))

    def refuse(self, header: UpdateHeader) -> None:
        """An update's body was unsound."""

        def work(core: Core, take: Take) -> None:
            take(ev.Refused(header))
            member = core.fleet.find(header.device_id)
            theirs = member is not None and member.caller == header_caller(header)
            self._checks.rested(header.device_id, really=theirs)

        self._put(Job(work, None))

    def look(self, look: Callable[[Core], Any]) -> None:
        """Have something looked at, or tried, between two events."""
        self._put(Job(lambda core, _: look(core), None))

    def post(self, event: Event) -> None:
        """An event that nobody waits for."""
        self._put(Job(lambda _, take: take(event), None))

    def snapshot(self) -> None:
        """Take one now; it has its name a while later, if nothing happens until then."""
        if not self.number or self._jobs or self._saving == self.number:
            return
        taken = Snapshot.of(self.core, self._life.rule, self._life.slots, self._disk.end)
        number = self._saving = self.number

        def publish() -> None:
            if number == self.number:
                self._saving = 0
                self._disk.publish(taken)
                self._checks.counts["snapshots"] += 1

        self._world.after(self._world.chance.uniform(0.0, 10.0), publish)

    def _body(self, update: Update[float], answer: Answer, number: int) -> None:
        if number == self.number:
            self._put(Job(lambda _, take: _outcome(take(ev.Pushed(update))), answer))

    def _put(self, job: Job) -> None:
        if not self.number:
            return
        self._jobs.append(job)
        if len(self._jobs) == 1:
            number = self.number
            self._world.after(TURN_S, lambda: self._run_batch(number))

    def _run_batch(self, number: int) -> None:
        """The rules speak, one sync for all of it, and only then anybody hears of it."""
        where = self._crash_in_batch() if number == self.number else None
        if where is not None:
            self.crash(where)
        elif number == self.number:
            self._arm()
            if self._jobs:
                self._world.after(TURN_S, lambda: self._run_batch(number))

    def _crash_in_batch(self) -> str | None:
        """Run some jobs; where the process ended meanwhile, if it did."""
        batch = [self._jobs[at] for at in range(min(BATCH, len(self._jobs)))]
        turns, kept = [], []
        for job in batch:
            turn, entries = self._run(job)
            turns.append(turn)
            kept += entries
        self._disk.append(kept)
        crashed, rates = self._world.goes_wrong, self._world.rates
        if crashed(rates.crashed / 4, "aggregator crashes"):
            return "before the sync"
        self._disk.sync()
        self._checks.settled(turns)
        if crashed(rates.crashed / 4, "aggregator crashes"):
            return "before the answers"
        for turn in turns:
            self._tell(turn)
            if crashed(rates.crashed / 16, "aggregator crashes"):
                return "among the answers"
        for _ in batch:
            self._jobs.popleft()
        return None

    def _run(self, job: Job) -> tuple[Turn, list[Entry]]:
        turn, kept = Turn(job, None, []), list[Entry]()

        def take(event: Event) -> list[ev.Effect[float]]:
            effects = self.core.handle(event, self._world.now - self._epoch)
            kept.extend(past_of(event, effects))
            turn.effects += effects
            self._checks.took_in(event, effects)
            return effects

        try:
            turn.result = job.work(self.core, take)
        except HocketError as error:
            turn.result = error
        return turn, kept

    def _tell(self, turn: Turn) -> None:
        self._checks.told(turn)
        for effect in turn.effects:
            match effect:
                case ev.SendTrigger(caller, trigger):
                    self._checks.triggered(caller.device_id)
                    self._hear(caller, trigger)
                case ev.TaskFinished(finished):
                    for caller, *_ in list(self.sessions.values()):
                        self._hear(caller, finished)
        if turn.job.answer is not None:
            turn.job.answer(turn.result)
        elif isinstance(turn.result, HocketError) and not isinstance(turn.result, UnknownDevice):
            self._checks.counts["events refused"] += 1

    def _hear(self, caller: Caller, said: Trigger | Finished) -> None:
        session = self.sessions.get(caller.device_id)
        if session is not None and session[0] == caller:
            hear = session[2]
            what = f"aggregator to {caller.device_id}: {said}"
            if not self._world.send(what, lambda: hear(said)):
                self.hang_up(caller.device_id)  # a stream loses nothing and lives on

    def _arm(self) -> None:
        deadline, number = self.core.next_deadline(), self.number
        if deadline is None or (self._ticking is not None and self._ticking <= deadline):
            return
        self._ticking = deadline

        def tick() -> None:
            if number == self.number:
                self._ticking = None
                self.post(ev.Tick())

        wait_s = max(0.0, deadline - (self._world.now - self._epoch))
        self._world.after(wait_s + SLACK_S, tick)


def _outcome(effects: list[ev.Effect[float]]) -> Any:
    return next(effect.outcome for effect in effects if isinstance(effect, ev.Settled))
