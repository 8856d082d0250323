"""Seeded schedules: the pure core in a world where everything fails, held against a reference.

    python tests/support/schedules.py --from 0 --count 10000

runs schedules 0 to 9,999, prints what went wrong in them and what was checked, and exits with 1 at
the first broken promise, with its seed and its steps.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for the command line

from support.aggregator_checks import Checks, fingerprint
from support.reference_model import promise
from support.simulated_aggregator import SimulatedAggregator
from support.simulated_device import SimulatedDevice
from support.simulated_disk import Core, Disk
from support.simulated_life import Life, Setup
from support.simulated_registry import SimulatedRegistry
from support.simulated_world import CALM, World

from hocket.core import events as ev
from hocket.core.device import DeviceState
from hocket.core.ids import DeviceId, Incarnation, UpdateId, Version
from hocket.core.records import Evaluation
from hocket.core.update import Update, UpdateHeader
from hocket.errors import (
    HocketError,
    InvalidUpdate,
    NotFinite,
    StaleIncarnation,
    UnknownDevice,
    UnknownVersion,
)

LEASE_S = 6.0
RESYNC_S = 3.0
CALM_S = 400.0  # within which everybody must be at work again
STRANGER = DeviceId("stranger")


@dataclass(slots=True)
class Tally:
    """What happened in some schedules."""

    faults: Counter[str] = field(default_factory=Counter)
    checks: Counter[str] = field(default_factory=Counter)


class Schedule:
    """One seed's world."""

    def __init__(self, seed: int, disk: type[Disk] = Disk) -> None:
        self.world = World(Random(seed))
        self.setup = Setup.draw(self.world.chance)
        self.reference = self.setup.reference()
        self.disk = disk(self.reference, [self.setup.first_snapshot()])
        self.checks = Checks(self.disk, self.reference)
        self.life = Life(self.setup)
        self.aggregator = SimulatedAggregator(self.world, self.life, self.disk, self.checks)
        self.registry = SimulatedRegistry(self.world, LEASE_S, self.aggregator.see)
        self.devices = [
            SimulatedDevice(self.world, f"d{n}", self.registry, self.aggregator, LEASE_S)
            for n in range(self.setup.num_devices)
        ]
        self._resync()
        self._mischief()

    def run(self) -> None:
        """Trouble, then calm. Raises BrokenPromise."""
        for _ in range(self.world.chance.randint(300, 1500)):
            self.world.step()
        self.world.say("from here on nothing fails")
        self.world.rates = CALM
        self._make_progress()
        if self.aggregator.number:
            self.checks.rebuild()

    def _make_progress(self) -> None:
        """With nothing going wrong, versions advance and every device is sent to work."""
        checks, until = self.checks, self.world.now + CALM_S
        before, told = self.reference.newest, Counter(checks.triggers)

        def busy() -> bool:
            served = all(checks.triggers[d.device_id] > told[d.device_id] for d in self.devices)
            return served and self.reference.newest > before

        def over() -> bool:
            return self.reference.finished and all(device.done for device in self.devices)

        while not (busy() or over()):
            idle = [
                d.device_id
                for d in self.devices
                if checks.triggers[d.device_id] == told[d.device_id]
            ]
            promise(
                self.world.now < until,
                f"no progress: version {before}, then {self.reference.newest}; idle are {idle}",
            )
            self.world.step()
        checks.counts["schedules with progress"] += 1

    def _resync(self) -> None:
        """The roster's stream: what it lacks, in order."""
        number = self.aggregator.number
        changes = self.registry.changes_since(self.aggregator.revision)
        if number and changes is not None:
            devices, revision = changes

            def arrive() -> None:
                if number == self.aggregator.number:
                    for device in devices:
                        self.aggregator.see(device)
                    self.aggregator.revision = revision

            self.world.send("roster", arrive)
        self.world.after(RESYNC_S, self._resync)

    def _mischief(self) -> None:
        """Whatever is nobody's turn."""
        chance, rates = self.world.chance, self.world.rates
        self.world.after(chance.uniform(0.5, 3.0), self._mischief)
        if chance.random() < 0.15:
            self.aggregator.snapshot()
        if not rates.crashed:
            return
        if chance.random() < 0.06:
            chance.choice(self.devices).crash()
        if chance.random() < 0.02:
            chance.choice(self.devices).leave()
        if chance.random() < 0.3:
            self.aggregator.look(self._forge)
        if chance.random() < 0.1:
            version = Version(chance.randint(1, self.reference.newest))
            self.aggregator.post(ev.Evaluated(version, Evaluation(0.5, 0.5)))

    def _forge(self, core: Core) -> None:
        """Bad input is refused with a typed error, and leaves no trace."""
        update, expected = self._bad_update(core)
        before = fingerprint(self.life)
        kind: type[HocketError] | None = None
        try:
            core.handle(ev.Pushed(update), core_now(core))
        except HocketError as error:
            kind = type(error)
        promise(kind in expected, f"{update.header} was refused with {kind}, not {expected}")
        promise(fingerprint(self.life) == before, f"{update.header} left a trace")
        self.checks.counts["bad input refused"] += 1

    def _bad_update(self, core: Core) -> tuple[Update[float], tuple[type[HocketError], ...]]:
        chance = self.world.chance
        alive = [m for m in core.fleet if m.device.state is DeviceState.ALIVE]
        newest = core.newest.version
        name, incarnation = STRANGER, Incarnation(1)
        if alive:
            member = chance.choice(alive)
            name, incarnation = member.caller.device_id, member.caller.incarnation
        header = UpdateHeader(
            UpdateId(f"bad-{chance.random()}"), name, incarnation, newest, 1, 1, 0.1
        )
        bad = Update(header, 1.0)
        if not alive:
            return bad, (UnknownDevice,)
        options: list[tuple[Update[float], tuple[type[HocketError], ...]]] = [
            (_with(bad, device_id=STRANGER), (UnknownDevice,)),
            (_with(bad, incarnation=incarnation + 1), (UnknownDevice,)),
            (_with(bad, incarnation=incarnation - 1), (StaleIncarnation,)),
        ]
        silent = [m.caller for m in core.fleet if m.device.state is not DeviceState.ALIVE]
        if silent:
            gone = chance.choice(silent)
            who = {"device_id": gone.device_id, "incarnation": gone.incarnation}
            options.append((_with(bad, **who), (UnknownDevice,)))
        if core.finished is not None:
            return chance.choice(options)
        options.append((_with(bad, base_version=newest + 3), (UnknownVersion,)))
        options.append((replace(bad, delta=chance.choice([math.nan, math.inf])), (NotFinite,)))
        needed = self.reference.needed(core.versions.oldest)
        theirs = [x.header.update_id for x in needed if x.header.device_id != name]
        if theirs:
            options.append((_with(bad, update_id=chance.choice(theirs)), (InvalidUpdate,)))
        limit = self.setup.rules.staleness_limit
        dropped = set(range(max(1, newest - limit), newest)) - set(core.versions.retained)
        if dropped:
            version = chance.choice(sorted(dropped))
            options.append((_with(bad, base_version=version), (UnknownVersion,)))
        return chance.choice(options)


def _with(update: Update[float], **changes: object) -> Update[float]:
    return replace(update, header=replace(update.header, **changes))  # type: ignore[arg-type] # plain ids


def core_now(core: Core) -> float:
    """A time that is never decreasing for the rules; a refused update reads it nowhere."""
    return max((member.since for member in core.fleet), default=0.0)


def replay_command(seed: int) -> str:
    """What runs one seed again."""
    return f"python tests/support/schedules.py --from {seed} --count 1"


def run_schedule(seed: int, tally: Tally, disk: type[Disk] = Disk) -> None:
    """Run one seed; whatever is wrong is an AssertionError with its steps and how to repeat it."""
    schedule = Schedule(seed, disk)
    try:
        schedule.run()
    except Exception as wrong:
        steps = "\n".join(schedule.world.trace)
        raise AssertionError(
            f"schedule {seed}: {type(wrong).__name__}: {wrong}\n{schedule.setup}\n{steps}\n"
            f"schedule {seed}: {type(wrong).__name__}: {wrong}\nagain: {replay_command(seed)}"
        ) from wrong
    finally:
        tally.faults += schedule.world.faults
        tally.checks += schedule.checks.counts


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--from", dest="first", type=int, default=0, help="the first seed")
    parser.add_argument("--count", type=int, default=10_000, help="how many seeds")
    given = parser.parse_args()
    tally, began = Tally(), time.monotonic()
    for seed in range(given.first, given.first + given.count):
        try:
            run_schedule(seed, tally)
        except AssertionError as wrong:
            print(wrong)  # noqa: T201 -- a command's output
            return 1
    for title, counts in (("faults", tally.faults), ("checks", tally.checks)):
        for name, count in sorted(counts.items()):
            print(f"{title:7} {count:10,}  {name}")  # noqa: T201 -- a command's output
    seconds = time.monotonic() - began
    print(f"{given.count} schedules in {seconds:.1f} s: every promise was kept")  # noqa: T201 -- a command's output
    return 0


if __name__ == "__main__":
    sys.exit(main())
