"""How far a simulation is, as a person sees it."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from support.simulated import FLEET, scenario

from hocket.cli.sim_progress import EventRate, share_done, view_of
from hocket.core.stop import Stop
from hocket.sim.fleet.file import VirtualStop
from hocket.sim.preparing import prepare
from hocket.sim.result import Point
from hocket.sim.scenario import scenario_of
from hocket.sim.simulation import Simulation

TINY = FLEET.replace("devices = 6", "devices = 2\nexamples_per_device = 20")


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def simulation(folder: Path, stop: str) -> Simulation:
    made = Simulation(
        prepare(scenario(folder, TINY.replace("virtual_s = 7200.0", stop))), stopwatch=Clock()
    )
    made.agenda.now, made.agenda.handled = 1800.0, 600
    made.curve.append(Point(1700.0, made.version, 0.625, 1.0))
    return made


def test_a_file_gets_a_line_now_and_then(tmp_path: Path) -> None:
    seen, clock, text = simulation(tmp_path, "virtual_s = 7200.0"), Clock(), io.StringIO()
    with view_of(seen._prepared.scenario, Console(file=text), clock) as view:
        for _ in range(12):
            clock.now_s += 1.0
            view.show(seen)
    lines = text.getvalue().splitlines()
    first = " 25%  30 min 0 s  version 1  accuracy 0.6250  120 events/s"
    assert lines == [first, first.replace("120 events", "0 events")]


def test_before_the_first_evaluation_no_accuracy_is_told(tmp_path: Path) -> None:
    seen, clock, text = simulation(tmp_path, "versions = 10"), Clock(), io.StringIO()
    seen.curve.clear()
    with view_of(seen._prepared.scenario, Console(file=text), clock) as view:
        clock.now_s += 6.0
        view.show(seen)
    assert text.getvalue() == " 10%  30 min 0 s  version 1  accuracy -  100 events/s\n"


def test_a_terminal_gets_a_bar(tmp_path: Path) -> None:
    seen, clock, text = simulation(tmp_path, "virtual_s = 3600.0"), Clock(), io.StringIO()
    console = Console(file=text, force_terminal=True, width=120)
    with view_of(seen._prepared.scenario, console, clock) as view:
        clock.now_s += 1.0
        view.show(seen)
    assert "fedasmu" in text.getvalue()
    assert " 50%" in text.getvalue()
    assert "version 1  accuracy 0.6250  600 events/s" in text.getvalue()


def test_what_is_done_is_told_by_the_nearest_end(tmp_path: Path) -> None:
    both = simulation(tmp_path, "virtual_s = 7200.0\nversions = 2")
    assert share_done(both._prepared.scenario, both) == 0.5  # version 1 of 2
    told = both._prepared.scenario
    task = replace(told.task, stop=Stop(wall_s=2400.0))  # the task's, in virtual time here
    fleet = replace(told.fleet, stop=VirtualStop())
    assert share_done(scenario_of(task, fleet), both) == 0.75


def test_the_rate_is_that_since_the_look_before() -> None:
    rate = EventRate(10.0)
    assert rate.at(12.0, 100) == 50.0
    assert rate.at(12.0, 100) == 0.0
    assert rate.at(13.0, 130) == 30.0
