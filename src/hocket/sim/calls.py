"""The three things that a simulated device asks the server: a base, a fresh model, to take a push.

A push is exactly-once and resumable as it is in a service: it goes on at the byte that the server
has, and the same update_id again gets the first answer again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from torch import Tensor

from hocket.core.ids import Version
from hocket.core.sizing.size import Size
from hocket.core.strategy import Global
from hocket.core.update import Outcome, UpdateHeader
from hocket.errors import HocketError, Unavailable, UnknownDevice
from hocket.sim.courier import SimCourier
from hocket.sim.learner import Parcel
from hocket.sim.server import Base

Answer = Outcome | HocketError

PASSING = (Unavailable, UnknownDevice)
"""What says nothing against the call: it is made again."""


class BasePull:
    """The newest model's part of one size, to train from it."""

    __slots__ = ("_courier", "_done", "_num_bytes", "_size", "_taken")

    def __init__(
        self, courier: SimCourier, size: Size, num_bytes: int, done: Callable[[Base], None]
    ) -> None:
        self._courier, self._size, self._num_bytes, self._done = courier, size, num_bytes, done
        self._taken: Base | None = None

    def attempt(self) -> None:
        """See Call."""
        self._courier.fetch(self._num_bytes, self._came_in, self._courier.again)
        self._courier.say(self._asked)

    def lost(self, passed: int) -> None:
        """See Call."""

    def _asked(self) -> None:
        try:
            server, caller = self._courier.network.server, self._courier.caller
            self._taken = server.take_base(caller, self._size)
        except PASSING:
            self._courier.again()

    def _came_in(self) -> None:
        if self._taken is None:
            raise RuntimeError("a model came in that nobody sent")
        self._courier.end()
        self._done(self._taken)


class FreshPull:
    """The newest model if it is newer than `base`; `done(None)` too if it cannot be had now."""

    __slots__ = ("_base", "_courier", "_done", "_found", "_num_bytes")

    def __init__(
        self,
        courier: SimCourier,
        base: Version,
        num_bytes: int,
        done: Callable[[Global[Tensor] | None], None],
    ) -> None:
        self._courier, self._base, self._num_bytes = courier, base, num_bytes
        self._done = done
        self._found: Global[Tensor] | None = None

    def attempt(self) -> None:
        """See Call."""
        self._courier.fetch(self._num_bytes, self._came_in, partial(self._answer, None))
        self._courier.say(self._asked)

    def lost(self, passed: int) -> None:  # noqa: ARG002 -- what has come is of no use
        """Training goes on without it."""
        self._answer(None)

    def _asked(self) -> None:
        newest = self._courier.network.server.newest
        if newest.version > self._base:
            self._found = newest
            return
        self._courier.hang_up()
        self._courier.say(partial(self._answer, None))

    def _came_in(self) -> None:
        self._answer(self._found)

    def _answer(self, found: Global[Tensor] | None) -> None:
        self._courier.end()
        self._done(found)


@dataclass(slots=True)
class Push:
    """An update, offered until it is settled."""

    courier: SimCourier
    header: UpdateHeader
    parcel: Parcel
    done: Callable[[Answer], None]
    received: int = 0  # bytes that the server has
    since_s: float = 0.0  # when it got the last of them

    def attempt(self) -> None:
        """See Call."""
        courier, network = self.courier, self.courier.network
        if network.agenda.now > self.since_s + network.resume_s:
            self.received = 0
        if self.header.incarnation != courier.incarnation:
            self.header = replace(self.header, incarnation=courier.incarnation)
        left = self.parcel.payload.header.wire_bytes - self.received
        courier.send(left, self._arrived, self._broke)
        courier.say(self._offered)

    def lost(self, passed: int) -> None:
        """See Call."""
        self._keep(passed)

    def _offered(self) -> None:
        server = self.courier.network.server
        try:
            answer: Answer | None = server.offer(self.header, self.parcel.payload.header)
        except PASSING:
            self.courier.again()
            return
        except HocketError as error:
            answer = error
        if answer is not None:
            self.courier.hang_up()
            self.courier.say(partial(self._answered, answer))

    def _arrived(self) -> None:
        network = self.courier.network
        self.received, self.since_s = self.parcel.payload.header.wire_bytes, network.agenda.now
        try:
            answer: Answer = network.server.arrived(self.header, self.parcel.payload)
        except PASSING:
            self.courier.again()
            return
        except HocketError as error:
            answer = error
        self.courier.say(partial(self._answered, answer), after_s=network.step_s)

    def _broke(self, passed: int) -> None:
        self._keep(passed)
        self.courier.again()

    def _keep(self, passed: int) -> None:
        """The server keeps what it has, for a while."""
        network = self.courier.network
        self.received, self.since_s = self.received + passed, network.agenda.now
        network.server.broke_off(self.header)

    def _answered(self, answer: Answer) -> None:
        self.courier.end()
        self.done(answer)
