"""One simulated device's standing: its lease, its subscription, and what the registry knows of it.

What lease holder and subscription do in a service, without heartbeats: they cannot fail between
two changes.
"""

from __future__ import annotations

from hocket.core import events as ev
from hocket.core.device import Device, DeviceState
from hocket.core.ids import Incarnation
from hocket.sim.agenda import Entry
from hocket.sim.courier import SimCourier
from hocket.sim.learner import Workshop

Measured = tuple[float, float, float, float, float]


class Attendance:
    """Says to the server when a device is there. `busy`: whether a training is in flight."""

    __slots__ = (
        "_courier",
        "_expiry",
        "_lease_s",
        "_reported",
        "_said_busy",
        "_workshop",
        "leaving",
        "stream",
    )

    def __init__(self, courier: SimCourier, workshop: Workshop, lease_s: float) -> None:
        self.leaving = False  # as soon as this training is over
        self.stream = 0  # number of the subscription that it listens on
        self._courier = courier
        self._workshop = workshop
        self._lease_s = lease_s
        self._reported: Measured | None = None  # what the registry knows of it
        self._said_busy = False  # when it subscribed last
        self._expiry: Entry | None = None

    def come(self, *, busy: bool) -> None:
        """It is there: joins if it holds no lease, subscribes, and goes on with its calls."""
        courier = self._courier
        if self.leaving:
            self.leaving = False  # it never went
            self._subscribe(busy=busy)
            return
        if self._expiry is None:
            courier.incarnation = Incarnation(courier.incarnation + 1)
            self._report()
        else:
            courier.network.agenda.cancel(self._expiry)
            self._expiry = None
        self._subscribe(busy=busy)
        courier.came()

    def go_later(self) -> None:
        """It finishes its training first, and is asked for no other."""
        self.leaving = True
        self._unsubscribe()

    def go(self) -> None:
        """It is gone."""
        self.leaving = False
        self._courier.went()
        self._unsubscribe()
        self._expiry = self._courier.network.agenda.after(self._lease_s, self._expire)

    def rested(self, *, gave_up: bool, busy: bool) -> None:
        """Between two trainings: tell the registry what the link carries.

        An aggregator that was told of a training when the device subscribed may have had its
        update before: it too must hear that there is none.
        """
        listens = self._courier.here and not self.leaving
        if listens and (gave_up or (self._said_busy and not busy)):
            self._unsubscribe()
            self._subscribe(busy=busy)
        if self._courier.here and self._measured() != self._reported:
            self._report()

    def _subscribe(self, *, busy: bool) -> None:
        """Wait for triggers; what an older stream has not brought never comes."""
        self.stream += 1
        self._said_busy = busy
        server = self._courier.network.server
        server.take(ev.Subscribed(self._courier.caller, training=busy))

    def _unsubscribe(self) -> None:
        self.stream += 1
        self._courier.network.server.take(ev.Unsubscribed(self._courier.caller))

    def _expire(self) -> None:
        """Silent for longer than its lease: the next time it joins anew."""
        self._expiry = None
        self._courier.network.server.take(ev.DeviceSeen(self._record(DeviceState.EXPIRED)))

    def _report(self) -> None:
        """What the registry hears of it, and tells the aggregator."""
        self._reported = self._measured()
        self._courier.network.server.take(ev.DeviceSeen(self._record(DeviceState.ALIVE)))

    def _measured(self) -> Measured:
        """What rules go by; how many transfers it is from is nothing new to them."""
        link, courier = self._courier.link, self._courier
        share = courier.plan.device_class.shares.at(courier.network.agenda.now)
        return link.up_bytes_per_s, link.down_bytes_per_s, link.rtt_s, link.loss, share

    def _record(self, state: DeviceState) -> Device:
        courier, plan = self._courier, self._courier.plan
        num_examples = self._workshop.num_examples_of(plan)
        return Device(
            plan.device_id,
            courier.incarnation,
            state,
            plan.capability(courier.network.agenda.now, num_examples),
            (courier.link,),
            labels=plan.device_class.labels,
        )
