"""The streams on which devices wait for triggers: at most one for each device."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator

from hocket.core.device import Caller
from hocket.core.events import SendTrigger, TaskFinished
from hocket.core.ids import DeviceId
from hocket.core.terms import Finished, Trigger
from hocket.errors import StaleIncarnation
from hocket_aggregator.turn import Turn

QUEUE_SIZE = 8  # an honest device has one trigger in flight


class Subscription:
    """What one device is to be told. Ends after Finished, or when a newer one takes its place."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller
        self._events: deque[Trigger | Finished] = deque()
        self._changed = asyncio.Event()
        self._ended = False
        self._error: StaleIncarnation | None = None

    def offer(self, event: Trigger | Finished) -> None:
        """Tell without waiting; a device that reads nothing misses what does not fit."""
        if len(self._events) < QUEUE_SIZE:
            self._events.append(event)
            self._changed.set()

    def undelivered(self) -> list[Trigger | Finished]:
        """What was not read; it is taken out."""
        events = list(self._events)
        self._events.clear()
        return events

    def end(self, error: StaleIncarnation | None = None) -> None:
        """Let the reader come to its end, with `error` if one is given."""
        self._ended, self._error = True, error
        self._changed.set()

    async def events(self) -> AsyncGenerator[Trigger | Finished, None]:
        """What the device is told, as it comes."""
        while True:
            while self._events:
                event = self._events.popleft()
                yield event
                if isinstance(event, Finished):
                    return
            if self._ended:
                break
            self._changed.clear()
            await self._changed.wait()
        if self._error is not None:
            raise self._error


class Subscriptions:
    """Who listens now. A sink of the owner's turns; nobody is ever waited for."""

    def __init__(self) -> None:
        self._current: dict[DeviceId, Subscription] = {}

    def open(self, caller: Caller, *, inherit: bool = False) -> Subscription:
        """The device's stream from now on.

        `inherit`: what its older one did not deliver moves over; else it is void.
        """
        made = Subscription(caller)
        older = self._current.get(caller.device_id)
        if older is not None:
            if older.caller == caller:
                for event in older.undelivered() if inherit else ():
                    made.offer(event)
                older.end()
            else:
                older.end(
                    StaleIncarnation(
                        f"incarnation {caller.incarnation} of {caller.device_id!r} has "
                        "subscribed; stop this process"
                    )
                )
        self._current[caller.device_id] = made
        return made

    def listens(self, caller: Caller) -> bool:
        """Whether this very process has a stream."""
        current = self._current.get(caller.device_id)
        return current is not None and current.caller == caller

    def close(self, subscription: Subscription) -> bool:
        """The stream has ended; says whether it was the device's current one."""
        device_id = subscription.caller.device_id
        if self._current.get(device_id) is not subscription:
            return False
        del self._current[device_id]
        return True

    def close_all(self) -> None:
        """Let every stream come to its end."""
        for subscription in self._current.values():
            subscription.end()

    def on_turn(self, turn: Turn) -> None:
        """Deliver what the coordinator sends."""
        for effect in turn.effects:
            if isinstance(effect, SendTrigger):
                self._send(effect)
            elif isinstance(effect, TaskFinished):
                for subscription in self._current.values():
                    subscription.offer(effect.finished)

    def _send(self, effect: SendTrigger) -> None:
        subscription = self._current.get(effect.caller.device_id)
        if subscription is not None and subscription.caller == effect.caller:
            subscription.offer(effect.trigger)
