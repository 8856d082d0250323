"""One life of an aggregator's rules, from a snapshot and the journal behind it."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from support.reference_model import ReferenceModel, promise
from support.scalar_rules import AnyScalarRule, Buffering, Controlled, Mixing, RunningMean
from support.simulated_disk import Core, Disk, Entry, Shelf, Snapshot

from hocket.core.coordinator import Coordinator
from hocket.core.events import VersionMade
from hocket.core.past import Answered, BaseHeld
from hocket.core.scheduling import (
    AnyPace,
    AnySelection,
    ByCapability,
    Concurrent,
    Periodic,
    Rounds,
    Tifl,
    Uniform,
    Work,
)
from hocket.core.state import TaskState
from hocket.core.stop import Stop
from hocket.core.strategy import Global
from hocket.core.triggering import CoordinatorRules
from hocket.core.versions import Versions

TRAIN_TIMEOUT_S = 25.0


@dataclass(frozen=True, slots=True)
class Setup:
    """A task, drawn from a seed."""

    rules: CoordinatorRules
    kind: str
    goal: int
    num_devices: int
    ledger_entries: int
    in_memory: int

    @classmethod
    def draw(cls, chance: Random) -> Setup:
        """Any task with 2 to 5 devices."""
        num_devices = chance.randint(2, 5)
        kind = chance.choice(["mixing", "controlled", "buffering", "rounds"])
        goal = chance.randint(2, num_devices) if kind in {"buffering", "rounds"} else 1
        paces: list[AnyPace] = [
            Concurrent(chance.randint(1, num_devices)),
            draw_rounds(goal, chance),
        ]
        if kind in {"mixing", "controlled"}:
            paces[1] = Periodic(chance.uniform(1.0, 8.0), chance.randint(1, 3))
        selections: list[AnySelection] = [Uniform(), ByCapability(), Tifl()]
        rules = CoordinatorRules(
            pace=chance.choice(paces),
            selection=chance.choice(selections),
            work=Work(local_epochs=3, batch_size=10, up_bytes=1_000, down_bytes=4_000),
            stop=Stop(versions=chance.choice([None, None, None, chance.randint(3, 12)])),
            staleness_limit=chance.choice([1, 2, 4, 12]),
            train_timeout_s=TRAIN_TIMEOUT_S,
            evaluate_every=chance.randint(1, 3),
            seed=chance.randint(0, 99),
        )
        return cls(rules, kind, goal, num_devices, chance.choice([3, 8, 50]), chance.randint(0, 3))

    def rule(self) -> AnyScalarRule:
        """The aggregation rule."""
        match self.kind:
            case "mixing":
                return Mixing()
            case "controlled":
                return Controlled()
        return Buffering(self.goal, rounds=self.kind == "rounds")

    def reference(self) -> ReferenceModel:
        """What it is held against."""
        limit = self.rules.staleness_limit
        return ReferenceModel(self.kind, self.goal, limit, self.ledger_entries)

    def first_snapshot(self) -> Snapshot:
        """As taken at the task's very start."""
        rule, slots = self.rule(), RunningMean()
        versions = Versions(Global(0.0), self.rules.staleness_limit)
        state = TaskState(versions, rule.init(0.0))
        return Snapshot.of(Coordinator(self.rules, rule, state, slots), rule, slots, 0)


def draw_rounds(cohort: int, chance: Random) -> Rounds:
    """Rounds that wait for all, or only until a deadline, and then maybe without the lost."""
    over_selection = chance.choice([1.0, 1.0, 1.5])
    if chance.random() < 0.4:
        return Rounds(cohort, over_selection)
    deadline_s, replace_lost = chance.uniform(4.0, 40.0), chance.random() < 0.5
    return Rounds(cohort, over_selection, deadline_s, replace_lost)


class Life:
    """A coordinator with what it works on."""

    core: Core

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.rule: AnyScalarRule = setup.rule()
        self.slots = RunningMean()
        self.shelf = Shelf()
        self.holds: dict[str, int] = {}  # the base of each device, by the entries

    def begin(self, disk: Disk, snapshot: Snapshot) -> None:
        """Live through everything again."""
        self.rule, self.slots, self.shelf = self.setup.rule(), RunningMean(), Shelf()
        self.slots.recall(snapshot.slots)
        versions = Versions(
            snapshot.newest,
            self.setup.rules.staleness_limit,
            shelf=self.shelf,
            in_memory=self.setup.in_memory,
        )
        ledger = disk.ledger(snapshot, self.setup.ledger_entries)
        state = snapshot.state(self.rule, versions, ledger)
        self.core = Coordinator(self.setup.rules, self.rule, state, self.slots)
        self.holds = {str(device): int(version) for device, version in snapshot.holds.items()}
        for entry in disk.since(snapshot):
            self._relive(entry, disk.reference)

    def _relive(self, entry: Entry, reference: ReferenceModel) -> None:
        for effect in self.core.relive(entry):
            if isinstance(effect, VersionMade):
                at = effect.made.version - 1
                promise(effect.made.model == reference.models[at], f"version {at + 1} was rebuilt")
                promise(effect.update_ids == reference.made_of[at], f"parents of version {at + 1}")
        match entry:
            case BaseHeld(device_id, version):
                self.holds[device_id] = version
            case Answered(update):
                self.holds.pop(update.header.device_id, None)
