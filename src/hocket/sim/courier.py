"""A simulated device's calls to the server: one at a time, over its link, until answered.

What breaks off is tried again after the waits of a service's courier; what a device that is away
wants to call waits until it is back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from hocket.core.backoff import backoff
from hocket.core.chance import Stream
from hocket.core.device import Caller
from hocket.core.ids import Incarnation
from hocket.core.link import Link
from hocket.sim.agenda import Agenda, Entry
from hocket.sim.fleet import DevicePlan
from hocket.sim.result import Counts, DeviceCounts
from hocket.sim.server import SimServer
from hocket.sim.tracer import Row, Tracer
from hocket.sim.transfers import Transfer, Transfers

LONGEST_WAIT_S = 3.0  # between two tries, as in a service


@dataclass(frozen=True, slots=True)
class Network:
    """What all calls of a simulation go through."""

    agenda: Agenda
    server: SimServer
    transfers: Transfers
    resume_s: float  # how long the server keeps half a push
    step_s: float  # what it takes to take an update in
    seed: int
    counts: Counts
    tracer: Tracer


class Call(Protocol):
    """Something to ask the server."""

    def attempt(self) -> None:
        """Ask, now that the device is there."""
        ...

    def lost(self, passed: int) -> None:
        """The device vanished with `passed` bytes through; it asks again once it is back."""
        ...


class SimCourier:
    """Speaks with the server for one device."""

    __slots__ = (
        "_attempt",
        "_call",
        "_counts",
        "_entry",
        "_retries",
        "_transfer",
        "_upward",
        "here",
        "incarnation",
        "link",
        "network",
        "plan",
    )

    def __init__(self, plan: DevicePlan, network: Network, counts: DeviceCounts) -> None:
        self.plan = plan
        self.network = network
        self.here = False
        self.incarnation = Incarnation(0)  # of a device that never joined
        self.link = Link().after_round_trip(plan.link.rtt_s)  # as measured
        self._counts = counts
        self._call: Call | None = None  # under way, or waiting for the device
        self._attempt = 0
        self._retries = 0  # of all calls: names the chance of their waits
        self._entry: Entry | None = None  # a message on its way, or a wait
        self._transfer: Transfer | None = None
        self._upward = False  # to the server

    @property
    def caller(self) -> Caller:
        """Who speaks."""
        return Caller(self.plan.device_id, self.incarnation)

    def came(self) -> None:
        """The device is there: what waited for that is asked."""
        self.here = True
        if self._call is not None:
            self._call.attempt()

    def went(self) -> None:
        """The device is gone: what was under way breaks off."""
        self.here = False
        passed = self.hang_up()
        if self._call is not None:
            self._call.lost(passed)

    def begin(self, call: Call) -> None:
        """Ask something, at once or when the device is back."""
        self._call, self._attempt = call, 0
        if self.here:
            call.attempt()

    def give_up(self) -> None:
        """Nobody wants to know any more what was asked."""
        self.hang_up()
        self.end()

    # --- for the call under way

    def end(self) -> None:
        """It is answered."""
        self._call = self._entry = self._transfer = None

    def say(self, then: Callable[[], None], *, after_s: float = 0.0) -> None:
        """A short message, one way or the other: `then` happens where it arrives."""
        delay_s = after_s + self.plan.link.rtt_s / 2.0
        if delay_s > 0.0:
            self._entry = self.network.agenda.after(delay_s, then)
        else:
            then()

    def fetch(self, num_bytes: int, done: Callable[[], None], broke: Callable[[], None]) -> None:
        """Carry bytes to the device; `broke` after what it costs was counted."""

        def arrived(seconds: float) -> None:
            self._transfer = None
            self._count(0, num_bytes)
            self.link = self.link.after_download(num_bytes, seconds)
            done()

        def broken(passed: int) -> None:
            self._broken(0, passed)
            broke()

        self._upward = False
        self._transfer = self.network.transfers.pull(self.plan, num_bytes, arrived, broken)

    def send(self, num_bytes: int, done: Callable[[], None], broke: Callable[[int], None]) -> None:
        """Carry bytes to the server; `broke` with the bytes that it has of them."""

        def arrived(seconds: float) -> None:
            self._transfer = None
            self._count(num_bytes, 0)
            self.link = self.link.after_upload(num_bytes, seconds)
            done()

        def broken(passed: int) -> None:
            self._broken(passed, 0)
            broke(passed)

        self._upward = True
        self._transfer = self.network.transfers.push(self.plan, num_bytes, arrived, broken)

    def hang_up(self) -> int:
        """End message, wait and transfer; the bytes of the transfer that had passed."""
        if self._entry is not None:
            self.network.agenda.cancel(self._entry)
            self._entry = None
        if self._transfer is None:
            return 0
        passed = self._transfer.cut()
        self._transfer = None
        self._count(*((passed, 0) if self._upward else (0, passed)))
        return passed

    def again(self) -> None:
        """Ask once more after a wait."""
        self.hang_up()
        chance = Stream(self.network.seed, "backoff", self.plan.device_id, self._retries)
        self._retries += 1
        wait_s = backoff(self._attempt, chance.random, longest_s=LONGEST_WAIT_S)
        self._attempt += 1
        if self._call is not None:
            self._entry = self.network.agenda.after(wait_s, self._call.attempt)

    def _broken(self, up: int, down: int) -> None:
        self._transfer = None
        self._count(up, down)
        self.link = self.link.after_break()
        network = self.network
        network.counts.breaks += 1
        if network.tracer.wants("break"):
            name, passed = self.plan.device_id, up + down
            network.tracer.row(Row("break", network.agenda.now, name, bytes=passed))

    def _count(self, up: int, down: int) -> None:
        self._counts.bytes_up += up
        self._counts.bytes_down += down
        self.network.counts.bytes_up += up
        self.network.counts.bytes_down += down
