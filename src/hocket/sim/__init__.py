"""Virtual time: what a fleet does is worked out event by event, without a network or a clock.

`prepare(scenario_of(task, fleet))` reads what there is to read; `Simulation(prepared).run()` lives
through it over the very coordinator, strategies, codecs and device rules that the services run.
"""

from __future__ import annotations

from hocket.sim.preparing import Prepared, prepare
from hocket.sim.result import Result
from hocket.sim.scenario import Scenario, scenario_of
from hocket.sim.simulation import Simulation

__all__ = ["Prepared", "Result", "Scenario", "Simulation", "prepare", "scenario_of"]
