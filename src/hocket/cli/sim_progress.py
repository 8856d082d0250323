"""How far a simulation is, for a person to watch: on standard error, so that answers stay clean."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn
from rich.progress import TimeElapsedColumn as Elapsed

from hocket.cli.output import in_time
from hocket.core.ids import Version
from hocket.sim.agenda import Agenda
from hocket.sim.result import Point
from hocket.sim.scenario import Scenario

BAR_EVERY_S = 0.1
LINE_EVERY_S = 5.0
Clock = Callable[[], float]


class Watched(Protocol):
    """A simulation, or a recorded timing that is lived through again."""

    agenda: Agenda
    curve: list[Point]

    @property
    def version(self) -> Version:
        """Of the newest model."""
        ...


class View(Protocol):
    """Shows how far a simulation is. A context manager."""

    def __enter__(self) -> Self:
        """Begin."""
        ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End."""
        ...

    def show(self, simulation: Watched) -> None:
        """Show it, if it is time to."""
        ...


def view_of(scenario: Scenario, console: Console, clock: Clock = time.monotonic) -> View:
    """A bar on a terminal, a line now and then in a file; `clock` tells seconds."""
    kind = Bar if console.is_terminal else Lines
    return kind(scenario, console, clock)


class Bar:
    """A bar with virtual time, version, accuracy and events a second."""

    def __init__(self, scenario: Scenario, console: Console, clock: Clock) -> None:
        self._scenario, self._clock = scenario, clock
        self._bar = Progress(
            TextColumn("[bold]{task.description}"), BarColumn(), TaskProgressColumn(),
            TextColumn("{task.fields[told]}"), Elapsed(), console=console,
        )  # fmt: skip
        self._row: TaskID | None = None
        self._rate = EventRate(clock())
        self._next_s = clock()

    def __enter__(self) -> Self:
        self._bar.start()
        name = self._scenario.task.strategy.kind
        self._row = self._bar.add_task(name, total=1.0, told="")
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, simulation: Watched) -> None:
        """See View."""
        now = self._clock()
        if now < self._next_s or self._row is None:
            return
        self._next_s = now + BAR_EVERY_S
        told = _told(simulation, self._rate.at(now, simulation.agenda.handled))
        self._bar.update(self._row, completed=share_done(self._scenario, simulation), told=told)


class Lines:
    """A line now and then."""

    def __init__(self, scenario: Scenario, console: Console, clock: Clock) -> None:
        self._scenario, self._console, self._clock = scenario, console, clock
        self._rate = EventRate(clock())
        self._next_s = clock() + LINE_EVERY_S

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to clean up."""

    def show(self, simulation: Watched) -> None:
        """See View."""
        now = self._clock()
        if now < self._next_s:
            return
        self._next_s = now + LINE_EVERY_S
        told = _told(simulation, self._rate.at(now, simulation.agenda.handled))
        done = share_done(self._scenario, simulation)
        self._console.print(f"{done:4.0%}  {told}", highlight=False, soft_wrap=True)


class EventRate:
    """Events a second since the last look."""

    def __init__(self, now: float) -> None:
        self._at_s, self._events = now, 0

    def at(self, now: float, events: int) -> float:
        """The rate up to now, when so many have happened in all."""
        elapsed_s, happened = now - self._at_s, events - self._events
        self._at_s, self._events = now, events
        return happened / elapsed_s if elapsed_s > 0.0 else 0.0


def share_done(scenario: Scenario, simulation: Watched) -> float:
    """How much of it is done, by whichever of its ends is nearest."""
    stop = scenario.task.stop
    horizon_s, shares = scenario.virtual_s or stop.wall_s, [0.0]
    if horizon_s:
        shares.append(simulation.agenda.now / horizon_s)
    if stop.versions:
        shares.append(simulation.version / stop.versions)
    return min(max(shares), 1.0)


def _told(simulation: Watched, events_per_s: float) -> str:
    accuracy = f"{simulation.curve[-1].accuracy:.4f}" if simulation.curve else "-"
    return (
        f"{in_time(simulation.agenda.now)}  version {simulation.version}  accuracy {accuracy}  "
        f"{events_per_s:,.0f} events/s"
    )
