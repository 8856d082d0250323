"""Pulls and pushes on their way between devices and the server.

A transfer's first byte passes one round trip after the call: that of a pull comes after the
request, that of a push after its header and the server's answer from where to go on. From then on
it has its fair part of one bottleneck, that of its device's uplink or else the server's link, and
at most what its device's own link carries at the time. A byte that has passed has arrived.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

from hocket.core.chance import Stream
from hocket.sim.agenda import Agenda, Entry
from hocket.sim.fleet import SERVER_LINK, DevicePlan, FleetFile, Roster
from hocket.sim.sharing import Flow, SharedLink

UP, DOWN = 0, 1  # where Rates.at has them


class Transfer:
    """One transfer on its way. Made by Transfers.

    Waits for its first byte, then passes until the last one or until it breaks off; while its own
    link carries nothing, it stays away from the bottleneck. Keeps no callable once it has ended.
    """

    __slots__ = (
        "_agenda",
        "_began_s",
        "_broke",
        "_direction",
        "_done",
        "_entry",
        "_flow",
        "_link",
        "_passed",
        "_plan",
        "_size",
    )

    def __init__(
        self,
        plan: DevicePlan,
        direction: int,
        size: int,
        done: Callable[[float], None],
        broke: Callable[[int], None] | None,
        link: SharedLink,
        agenda: Agenda,
    ) -> None:
        self._plan, self._direction = plan, direction
        self._size = size  # bytes until it ends; fewer than it was asked for if it breaks off
        self._passed = 0.0  # of them, brought up to date when its flow stops
        self._done: Callable[[float], None] | None = done
        self._broke = broke  # None: it will not break off
        self._link, self._agenda = link, agenda
        self._flow: Flow | None = None
        self._began_s = agenda.now
        # Its first byte, then the next change of its own link's rate, then the news of its break.
        self._entry: Entry | None = agenda.after(plan.link.rtt_s, self._pass)

    def cut(self) -> int:
        """End it now, without a call; the whole bytes that had passed. Later: the same again."""
        self._leave()
        self._forget()
        return int(self._passed)

    def _pass(self) -> None:
        """Go on as fast as its own link carries it from now on."""
        now, rates = self._agenda.now, self._plan.rates
        cap = rates.at(now)[self._direction]
        if math.isinf(cap) and self._link.is_unlimited:
            self._leave()
            self._entry = None
            self._end()  # nothing holds it back
            return
        if cap <= 0.0:
            self._leave()
        elif self._flow is None:
            self._flow = self._link.start(self._size - self._passed, cap, self._end)
        else:
            self._link.recap(self._flow, cap)
        change_s = rates.next_change(now)
        self._entry = None if change_s is None else self._agenda.at(change_s, self._pass)

    def _leave(self) -> None:
        if self._flow is not None:
            flow, self._flow = self._flow, None
            self._passed = min(self._passed + self._link.stop(flow), self._size)

    def _end(self) -> None:
        """The last byte has arrived, or the last one before the break."""
        self._passed, done = self._size, self._done
        if self._broke is not None:
            self._flow = None
            self._cancel()
            self._entry = self._agenda.after(self._plan.link.rtt_s / 2.0, self._break_off)
        elif done is not None:
            self._forget()
            done(self._agenda.now - self._began_s)

    def _break_off(self) -> None:
        broke = self._broke
        self._forget()
        if broke is not None:
            broke(self._size)

    def _cancel(self) -> None:
        if self._entry is not None:
            self._agenda.cancel(self._entry)

    def _forget(self) -> None:
        self._cancel()
        self._entry = self._flow = self._done = self._broke = None


class Transfers:
    """Begins transfers, and knows the bottlenecks that they share.

    Every transfer of a link with loss breaks off with that chance, after a part of its bytes that
    is uniform; both are drawn by the device's name and the number of its transfer, so they do not
    depend on anything else that happens.
    """

    def __init__(self, agenda: Agenda, roster: Roster, fleet: FleetFile, seed: int) -> None:
        self._agenda, self._roster, self._server, self._seed = agenda, roster, fleet.server, seed
        self._links: dict[tuple[int, int], SharedLink] = {}  # by uplink and direction, once used
        self._counts = Counter[int]()  # transfers of each device whose link has loss

    def pull(
        self,
        plan: DevicePlan,
        num_bytes: int,
        done: Callable[[float], None],
        broke: Callable[[int], None],
    ) -> Transfer:
        """Begin to carry `num_bytes` to a device.

        `done(seconds)` is called when the last byte has arrived, that many seconds after this
        call; or `broke(bytes)` half a round trip after it broke off, with what had passed. Neither
        is called before this method returns. Raises ValueError for a negative size.
        """
        return self._begin(DOWN, plan, num_bytes, done, broke)

    def push(
        self,
        plan: DevicePlan,
        num_bytes: int,
        done: Callable[[float], None],
        broke: Callable[[int], None],
    ) -> Transfer:
        """Begin to carry `num_bytes` from a device; as `pull`.

        The last byte arrives at the server. Its answer is not part of this: it takes half a round
        trip more.
        """
        return self._begin(UP, plan, num_bytes, done, broke)

    def _begin(
        self,
        direction: int,
        plan: DevicePlan,
        num_bytes: int,
        done: Callable[[float], None],
        broke: Callable[[int], None],
    ) -> Transfer:
        if num_bytes < 0:
            raise ValueError(f"num_bytes is {num_bytes}; it must be at least 0")
        link = self._links.get((plan.uplink, direction))
        if link is None:
            link = self._open(plan.uplink, direction)
        part = self._break(plan) if plan.link.loss else None
        if part is None:
            return Transfer(plan, direction, num_bytes, done, None, link, self._agenda)
        return Transfer(plan, direction, int(part * num_bytes), done, broke, link, self._agenda)

    def _break(self, plan: DevicePlan) -> float | None:
        """The part of its bytes after which a device's next transfer breaks off; None: none."""
        number = self._counts[plan.index]
        self._counts[plan.index] += 1
        chance = Stream(self._seed, "loss", plan.device_id, number)
        return chance.random() if chance.random() < plan.link.loss else None

    def _open(self, uplink: int, direction: int) -> SharedLink:
        owner = self._server if uplink == SERVER_LINK else self._roster.uplinks[uplink]
        rate = owner.up_bytes_per_s if direction == UP else owner.down_bytes_per_s
        link = self._links[uplink, direction] = SharedLink(rate, self._agenda)
        return link
