"""A device that crashes: `Participant`, what it keeps on disk, and calls that are tried again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from support.reference_model import promise
from support.simulated_aggregator import SimulatedAggregator
from support.simulated_registry import SimulatedRegistry
from support.simulated_world import World

from hocket.core import participant_events as pe
from hocket.core.capability import Capability, CostLine
from hocket.core.device import Caller
from hocket.core.ids import DeviceId, Incarnation, UpdateId, Version
from hocket.core.membership_events import Heartbeat, Join, Leave
from hocket.core.participant import Participant, ParticipantRules
from hocket.core.refresh import RefreshRules
from hocket.core.terms import Finished, RefreshTerms, Trigger
from hocket.core.update import Outcome, Update, UpdateHeader
from hocket.errors import HocketError, StaleIncarnation, Unavailable, UnknownDevice

RULES = ParticipantRules(3, RefreshTerms(enabled=True, rules=RefreshRules()))
TRY_AGAIN_S = 4.0
WATCH_S = 5.0
DOWN_S = 20.0
NOBODY = Incarnation(0)


class SimulatedDevice:
    """One device, over all its lives."""

    def __init__(
        self,
        world: World,
        name: str,
        registry: SimulatedRegistry,
        aggregator: SimulatedAggregator,
        lease_s: float,
    ) -> None:
        self.world, self.device_id = world, DeviceId(name)
        self.done = False
        self._registry, self._aggregator, self._lease_s = registry, aggregator, lease_s
        self._life = 0
        self._up = False
        self._kept: dict[str, Any] | None = None  # on its disk
        self._outbox: Update[float] | None = None  # on its disk
        self._updates = 0
        self._answers: dict[UpdateId, Outcome] = {}  # by the first answer
        self._speed = world.chance.uniform(0.1, 2.5)
        self._boot()

    # Its lives.

    def crash(self) -> None:
        """Stop at once, and start again later, maybe on an empty disk."""
        if self.done or not self._up:
            return
        self.world.say(f"{self.device_id} crashes with {self._outbox and self._outbox.header}")
        self.world.faults["device crashes"] += 1
        if self._outbox is not None and self.world.goes_wrong(0.3, "outboxes lost"):
            self._outbox = None
        if self.world.goes_wrong(0.2, "device memories lost"):
            self._kept = None
        self._up = False
        self._life += 1
        self.world.after(self.world.chance.uniform(0.1, DOWN_S), self._boot)

    def leave(self) -> None:
        """Give the lease back; come again later."""
        if self._up and not self.done:
            leaving = Leave(self._caller)
            self.world.send("leave", lambda: self._registry.ask(leaving, lambda _: None))
            self.world.faults["devices leave"] += 1
            self.crash()

    def _boot(self) -> None:
        self._life += 1
        self._up = True
        self._calls = 0
        self._open: set[int] = set()
        self._caller = Caller(self.device_id, NOBODY)
        self._session = object()
        self._fresh: object | None = None  # the pull of a fresh model that is on its way
        self._joining = False
        if self._kept is None:
            self._rules = Participant(RULES, self.device_id)
        else:
            self._rules = Participant.from_dict(RULES, self.device_id, self._kept)
        if self._outbox is not None:
            self._tell(pe.UnsettledPush())
        self._watch()

    def _watch(self) -> None:
        """Keep the lease and the stream; look again every few seconds."""
        if not self._lives(self._life):
            return
        if self._caller.incarnation == NOBODY:
            self._join()
        else:
            beat = Heartbeat(self._caller)
            self._ask("heartbeat", lambda answer: self._registry.ask(beat, answer))
            session = self._aggregator.sessions.get(self.device_id)
            if session is None or session[1] is not self._session:
                self._subscribe()
        if self.world.goes_wrong(self.world.rates.broken, "subscriptions broken"):
            self._aggregator.hang_up(self.device_id)
        life = self._life
        self.world.after(
            self.world.chance.uniform(0.3, 0.5) * min(WATCH_S, self._lease_s),
            lambda: self._watch() if self._lives(life) else None,
        )

    def _join(self) -> None:
        if self._joining:
            return
        self._joining = True
        cost = CostLine(1.0, self._speed / 10, 0.0)
        join = Join(self.device_id, Capability((cost,)), unix_s=self.world.unix_s)

        def joined(caller: Any) -> None:
            self._joining = False
            self._caller = caller
            self.world.say(f"{self.device_id} is incarnation {caller.incarnation}")
            self._subscribe()

        self._call("join", lambda answer: self._registry.ask(join, answer), joined)

    def _subscribe(self) -> None:
        if self._caller.incarnation == NOBODY:
            return
        life, session, training = self._life, object(), self._rules.busy

        def hear(said: Trigger | Finished) -> None:
            if not self._lives(life):
                return
            if isinstance(said, Finished):
                self._tell(pe.FinishedTask(said.reason))
            else:
                self._tell(pe.Triggered(said))

        def ask(answer: Callable[[Any], None]) -> None:
            self._aggregator.subscribe(self._caller, session, hear, answer, training=training)

        self._session = session
        self._ask("subscribe", ask)

    # What its rules ask for.

    def _tell(self, event: pe.Event) -> None:
        for effect in self._rules.handle(event, self.world.now):
            self._perform(effect)

    def _later(self, seconds: float, event: pe.Event) -> None:
        life, training = self._life, self._rules.trainings

        def happen() -> None:
            if self._lives(life) and training == self._rules.trainings:
                self._tell(event)

        self.world.after(seconds, happen)

    def _perform(self, effect: pe.Effect) -> None:  # noqa: C901 -- a table
        chance = self.world.chance
        match effect:
            case pe.Pull():
                self._call("pull", self._pull, lambda had: self._tell(pe.Pulled(had[0])))
            case pe.TrainEpoch():
                if self.world.goes_wrong(self.world.rates.crashed, "trainings failed"):
                    self._later(0.1, pe.Failed())
                else:
                    self._later(self._speed * chance.uniform(0.5, 1.5), pe.EpochDone())
            case pe.PullFresh():
                self._pull_fresh()
            case pe.GiveUpFresh():
                self._give_up_fresh()
            case pe.Merge():
                self._later(0.01, pe.Merged(chance.randint(-8, 8) / 8, chance.uniform(-1.0, 1.0)))
            case pe.Push():
                self._write(effect)
                self._push()
            case pe.PushAgain():
                self.world.faults["outboxes pushed by a later life"] += 1
                self._push()
            case pe.Rest(gave_up):
                self._kept = self._rules.to_dict()
                if gave_up:
                    self._subscribe()
            case pe.Stop():
                self.done = True
                self.world.say(f"{self.device_id} has finished")

    def _pull(self, answer: Callable[[Any], None]) -> None:
        if self.world.goes_wrong(self.world.rates.crashed / 2, "device crashes in a pull"):
            self.crash()
        else:
            self._aggregator.pull(self._caller, answer)

    def _pull_fresh(self) -> None:
        """Ask once, and wait for a while; what was given up means nothing to a later training."""
        promise(self._fresh is None, f"{self.device_id} asks for two fresh models at once")
        self._fresh = mine = object()
        life = self._life

        def had(answer: Any) -> None:
            if self._lives(life) and self._fresh is mine:
                self._fresh = None
                fresh: Version | None = None if isinstance(answer, HocketError) else answer[0]
                self._tell(pe.FreshArrived(fresh))

        self._ask("fresh pull", lambda answer: self._aggregator.pull(None, answer), had)
        self.world.after(TRY_AGAIN_S, lambda: had(Unavailable("the fresh model did not come")))

    def _give_up_fresh(self) -> None:
        promise(self._fresh is not None, f"{self.device_id} gave up what it did not ask for")
        self._fresh = None
        self.world.faults["fresh models given up"] += 1

    def _write(self, push: pe.Push) -> None:
        """Put an update on disk before the first byte of it leaves."""
        promise(self._outbox is None, f"{self.device_id} forgot what it had to push")
        self._updates += 1
        header = UpdateHeader(
            update_id=UpdateId(f"{self.device_id}-{self._updates}"),
            device_id=self.device_id,
            incarnation=self._caller.incarnation,
            base_version=push.base_version,
            num_examples=100,
            num_steps=30,
            learning_rate=0.1,
            train_s=push.train_s,
            refresh=push.refresh,
        )
        self._outbox = Update(header, self.world.chance.uniform(-4.0, 4.0), wire_bytes=1_000)

    def _push(self) -> None:
        kept = self._outbox
        assert kept is not None

        def ask(answer: Callable[[Any], None]) -> None:
            header = replace(kept.header, incarnation=self._caller.incarnation)
            self._aggregator.push(replace(kept, header=header), answer)

        def answered(outcome: Any) -> None:
            self._outbox = None
            if isinstance(outcome, HocketError):
                self.world.faults[f"pushes refused: {type(outcome).__name__}"] += 1
                self._tell(pe.PushRefused(outcome))
                return
            first = self._answers.setdefault(kept.header.update_id, outcome)
            promise(first == outcome, f"{kept.header.update_id}: {first}, then {outcome}")
            self._tell(pe.PushSettled(outcome))

        self._call("push", ask, answered)

    # Calls.

    def _lives(self, life: int) -> bool:
        return self._up and not self.done and life == self._life

    def _call(
        self, what: str, ask: Callable[[Callable[[Any], None]], None], done: Callable[[Any], None]
    ) -> None:
        """Ask until there is an answer that settles it."""
        life, self._calls = self._life, self._calls + 1
        number = self._calls
        self._open.add(number)

        def attempt() -> None:
            if not self._lives(life) or number not in self._open:
                return
            if what == "join" or self._caller.incarnation != NOBODY:
                self._ask(what, ask, settle)
            self.world.after(self.world.chance.uniform(0.5, 1.5) * TRY_AGAIN_S, attempt)

        def settle(answer: Any) -> None:
            if number in self._open and not isinstance(answer, UnknownDevice):
                self._open.discard(number)
                done(answer)

        attempt()

    def _ask(
        self,
        what: str,
        ask: Callable[[Callable[[Any], None]], None],
        done: Callable[[Any], None] = lambda _: None,
    ) -> None:
        """Ask once; question and answer may be lost."""
        life, text = self._life, f"{self.device_id}: {what}"

        def answer(said: Any) -> None:
            self.world.send(f"answer to {text}", lambda: receive(said))

        def receive(said: Any) -> None:
            if not self._lives(life):
                return
            if isinstance(said, StaleIncarnation):
                self.crash()
                return
            if isinstance(said, UnknownDevice) and what == "heartbeat":
                self._caller = Caller(self.device_id, NOBODY)
                self._join()
            done(said)

        self.world.send(text, lambda: ask(answer))
