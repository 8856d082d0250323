"""Shared links: against water-filling that integrates step by step, and by hand."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, field
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hocket.core.chance import Stream
from hocket.sim.agenda import Agenda
from hocket.sim.ordering import Ordering
from hocket.sim.sharing import Flow, SharedLink


def never() -> bool:
    return False


def water_filling(rate: float, caps: dict[int, float]) -> dict[int, float]:
    """Max-min fair rates: the flow of the smallest cap takes it, or an even part of what is left.

    (Bertsekas, Gallager: 6.5.2.) O(n log n) each time, and no memory of what was before.
    """
    left, rates = rate, {}
    for waiting, flow in enumerate(sorted(caps, key=lambda flow: caps[flow])):
        rates[flow] = min(caps[flow], left / (len(caps) - waiting))
        left -= rates[flow]
    return rates


@dataclass(frozen=True)
class Command:
    at_s: float
    do: str  # start, stop or recap
    flow: int
    num_bytes: float = 0.0
    cap: float = 1.0


@dataclass
class Outcome:
    ended: dict[int, float] = field(default_factory=dict)  # when
    stopped: dict[int, float] = field(default_factory=dict)  # bytes passed


def integrated(rate: float, commands: list[Command]) -> Outcome:
    """From one change of any rate to the next, every flow's bytes counted each time."""
    now, outcome = 0.0, Outcome()
    left: dict[int, float] = {}
    caps: dict[int, float] = {}
    sizes = {c.flow: c.num_bytes for c in commands if c.do == "start"}
    pending = sorted(commands, key=lambda command: command.at_s)
    while left or pending:
        rates = water_filling(rate, caps)
        ends = {flow: now + left[flow] / rates[flow] for flow in left}
        flow = min(ends, key=lambda flow: ends[flow], default=None)
        command = pending[0] if pending else None
        ends_first = flow is not None and (command is None or ends[flow] <= command.at_s)
        then = ends[flow] if ends_first and flow is not None else pending[0].at_s
        left = {f: left[f] - rates[f] * (then - now) for f in left}
        now = then
        if ends_first and flow is not None:
            outcome.ended[flow] = now
            del left[flow], caps[flow]
            continue
        command = pending.pop(0)
        if command.do == "start":
            left[command.flow], caps[command.flow] = command.num_bytes, command.cap
        elif command.do == "recap" and command.flow in left:
            caps[command.flow] = command.cap
        elif command.do == "stop" and command.flow not in outcome.stopped:
            passed = sizes[command.flow] - left.pop(command.flow, 0.0)
            caps.pop(command.flow, None)
            outcome.stopped[command.flow] = passed
    return outcome


def simulated(rate: float, commands: list[Command]) -> Outcome:
    agenda, outcome = Agenda(), Outcome()
    link = SharedLink(0.0 if math.isinf(rate) else rate, agenda)
    flows: dict[int, Flow] = {}

    def ended(flow: int) -> None:
        outcome.ended[flow] = agenda.now

    def obey(command: Command) -> None:
        number = command.flow
        if command.do == "start":
            flows[number] = link.start(command.num_bytes, command.cap, partial(ended, number))
        elif command.do == "recap":
            link.recap(flows[number], command.cap)
        else:
            outcome.stopped[number] = link.stop(flows[number])

    for command in sorted(commands, key=lambda command: command.at_s):
        agenda.at(command.at_s, partial(obey, command))
    agenda.run(never)
    assert len(link) == 0
    return outcome


CAPS = st.sampled_from([1.0, 2.0, 2.0, 5.0, 50.0, math.inf]) | st.floats(0.5, 20.0)


@st.composite
def histories(draw: st.DrawFn) -> list[Command]:
    commands = []
    for flow in range(draw(st.integers(1, 12))):
        began_s = draw(st.floats(0.0, 20.0))
        size = draw(st.floats(0.1, 100.0))
        commands.append(Command(began_s, "start", flow, size, draw(CAPS)))
        for _ in range(draw(st.integers(0, 2))):
            later_s = began_s + draw(st.floats(0.01, 20.0))
            do = draw(st.sampled_from(["recap", "recap", "stop"]))
            commands.append(Command(later_s, do, flow, cap=draw(CAPS)))
    return commands


@given(st.floats(0.5, 40.0), histories())
def test_it_equals_water_filling_step_by_step(rate: float, commands: list[Command]) -> None:
    check(simulated(rate, commands), integrated(rate, commands), commands)


def check(found: Outcome, expected: Outcome, commands: list[Command]) -> None:
    """A flow that is stopped at the very moment of its end may have ended or not."""
    assert found.stopped == pytest.approx(expected.stopped, rel=1e-9, abs=1e-9)
    sizes = {c.flow: c.num_bytes for c in commands if c.do == "start"}
    either = {f for f, passed in found.stopped.items() if passed > sizes[f] * (1.0 - 1e-9)}
    ended = {flow: when for flow, when in found.ended.items() if flow not in either}
    wanted = {flow: when for flow, when in expected.ended.items() if flow not in either}
    assert ended == pytest.approx(wanted, rel=1e-9, abs=1e-9)


@given(histories())
def test_an_unlimited_link_lets_every_flow_run_at_its_cap(commands: list[Command]) -> None:
    finite = [c for c in commands if c.cap < math.inf]
    started = {c.flow for c in finite if c.do == "start"}
    finite = [c for c in finite if c.flow in started]
    check(simulated(math.inf, finite), integrated(1e12, finite), finite)


@pytest.mark.parametrize("cap", [math.inf, 80.0, 10.0])
def test_n_equal_flows_take_n_times_as_long(cap: float) -> None:
    flows = 7
    commands = [Command(0.0, "start", flow, 30.0, cap) for flow in range(flows)]
    found = simulated(10.0, commands)
    assert list(found.ended) == list(range(flows))  # equal ends come in order of their starts
    assert list(found.ended.values()) == pytest.approx([30.0 / 10.0 * flows] * flows, rel=1e-12)


def test_by_hand_a_slow_flow_leaves_the_others_its_part() -> None:
    # 10 B/s: a flow capped at 2 leaves 8, shared by two: 4 each. The first of them passes its
    # 12 B in 3 s; the other has 28 left and goes on with 8 B/s for 3.5 s.
    ended = simulated(
        10.0,
        [
            Command(0.0, "start", 0, 20.0, 2.0),
            Command(0.0, "start", 1, 12.0, 100.0),
            Command(0.0, "start", 2, 40.0, math.inf),
        ],
    ).ended
    assert ended == pytest.approx({1: 3.0, 2: 6.5, 0: 10.0}, rel=1e-12)


def test_by_hand_a_flow_whose_cap_falls_is_overtaken() -> None:
    # Alone at 10 B/s for 2 s (20 of 50 B), then capped at 3: 10 s more.
    found = simulated(10.0, [Command(0.0, "start", 0, 50.0, 20.0), Command(2.0, "recap", 0, cap=3)])
    assert found.ended == pytest.approx({0: 12.0})


def test_bytes_are_conserved_while_the_link_is_full() -> None:
    agenda, chance = Agenda(), Stream(3, "conserved")
    link = SharedLink(25.0, agenda)
    flows: list[Flow] = []

    def change() -> None:
        if len(flows) > 50:
            link.stop(flows[chance.below(len(flows))])
        flows.append(link.start(40.0 * chance.random(), 0.1 + 5.0 * chance.random(), idle))
        flows.append(link.start(1e5, math.inf, idle))  # there is always something to send

    for number in range(200):
        agenda.at(float(number), change)
    agenda.at(200.0, idle)
    agenda.run(lambda: agenda.now >= 200.0)
    assert sum(flow.lane is None for flow in flows) > 150
    assert sum(map(link.stop, flows)) == pytest.approx(25.0 * 200.0, rel=1e-9)


def idle() -> None:
    pass


def test_nothing_to_send_and_no_limit_end_at_once() -> None:
    found = simulated(math.inf, [Command(4.0, "start", 0, 1e9, math.inf)])
    assert found.ended == {0: 4.0}
    found = simulated(5.0, [Command(4.0, "start", 0, 0.0, 1.0)])
    assert found.ended == {0: 4.0}


def test_done_may_start_the_next_flow_and_is_not_called_for_a_stopped_one() -> None:
    agenda = Agenda()
    link, ends = SharedLink(10.0, agenda), list[float]()

    def again() -> None:
        ends.append(agenda.now)
        if len(ends) < 3:
            link.start(10.0, math.inf, again)

    link.start(10.0, math.inf, again)
    stopped = link.start(1e6, 5.0, lambda: ends.append(-1.0))
    agenda.at(3.0, lambda: ends.append(link.stop(stopped)))
    agenda.run(never)
    # Half of the link each for 3 s (15 B of the one that is stopped), then all of it.
    assert ends == pytest.approx([2.0, 15.0, 3.5])
    assert link.stop(stopped) == pytest.approx(15.0)  # once more changes nothing


def test_what_cannot_be_is_refused() -> None:
    agenda = Agenda()
    link = SharedLink(1.0, agenda)
    for cap in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="cap is"):
            link.start(1.0, cap, lambda: None)
    flow = link.start(1.0, 1.0, lambda: None)
    with pytest.raises(ValueError, match="cap is 0"):
        link.recap(flow, 0.0)
    for size in (-1.0, math.nan):
        with pytest.raises(ValueError, match="num_bytes is"):
            link.start(size, 1.0, lambda: None)
    for rate in (-1.0, math.nan):
        with pytest.raises(ValueError, match="bytes_per_s is"):
            SharedLink(rate, agenda)


def calls_per_flow(flows: int, *, classes: int) -> float:
    """Calls, into C too, while one flow after another stops and another starts."""
    agenda, chance = Agenda(), Stream(5, "calls")

    def cap() -> float:
        return 1.0 + (chance.below(classes) if classes else 4.0 * chance.random())

    link = SharedLink(2.0 * flows, agenda)
    here = [link.start(1e6 * (1.0 + chance.random()), cap(), lambda: None) for _ in range(flows)]
    calls, changes = 0, 200

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        for _ in range(changes):
            link.stop(here.pop(chance.below(len(here))))
            here.append(link.start(1e6 * (1.0 + chance.random()), cap(), lambda: None))
    finally:
        sys.setprofile(None)
    return calls / changes


@pytest.mark.parametrize("classes", [0, 4])
def test_a_flow_touches_no_more_when_there_are_many(classes: int) -> None:
    """Heap operations are calls of O(log n) each; their number must not follow n."""
    few, many = calls_per_flow(100, classes=classes), calls_per_flow(6400, classes=classes)
    assert many < 2.0 * few
    assert many < 400  # 6,400 flows: going through them all would be 6,400 at least


@given(st.lists(st.tuples(st.integers(0, 8), st.none() | st.integers(0, 9)), max_size=200))
def test_an_ordering_finds_the_smallest_key(changes: list[tuple[int, int | None]]) -> None:
    order, plain, put = Ordering[str](), dict[str, tuple[int, int]](), 0
    for item, key in changes:
        name = f"{item}"
        if key is None:
            order.discard(name)
            plain.pop(name, None)
        else:
            put += 1
            order.put(name, key)
            plain[name] = (key, put)
        found = order.first()
        least = min(plain, key=lambda name: plain[name], default=None)
        assert len(order) == len(plain)
        assert found == (None if least is None else (plain[least][0], least))
    assert len(order._heap) <= 2 * len(order) + 16
