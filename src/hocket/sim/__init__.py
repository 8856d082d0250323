"""Virtual time: what a fleet does is worked out event by event, without a network or a clock.

`prepare(scenario_of(task, fleet))` reads what there is to read; `Simulation(prepared).run()` lives
through it over the very coordinator, strategies, codecs and device rules that the services run.
"""
