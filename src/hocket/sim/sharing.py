"""One direction of a link that many flows share: each gets its max-min fair part.

A flow passes at min(its own cap, the fair share), where the fair share is the same for all and
uses the link up (Bertsekas, Gallager. Data Networks. 1992, section 6.5.2). Flows of equal cap
pass equally fast whenever they started, so they form a *lane*: its mark counts the bytes that a
flow has passed which was there from the lane's beginning, and each flow ends at a mark of its own
that never changes. What a flow touches when it comes and goes is therefore its own lane, and the
lanes that the fair share crosses: those below it run at their caps, those above it share.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from hocket.sim.agenda import Agenda, Entry
from hocket.sim.ordering import Ordering


class Flow:
    """A transfer on its way. Only its link writes here."""

    __slots__ = ("done", "end_mark", "lane", "left", "num_bytes")

    def __init__(self, num_bytes: float, done: Callable[[], None]) -> None:
        self.num_bytes = num_bytes
        self.done = done
        self.left = num_bytes  # bytes still to pass; brought up to date when it leaves its lane
        self.lane: Lane | None = None  # None once it has ended
        self.end_mark = 0.0  # the mark of its lane at which it ends


class Lane:
    """Flows of one cap. Its mark is `base` + V while it shares, else `base` + cap * seconds."""

    __slots__ = ("base", "cap", "flows", "shares", "since")

    def __init__(self, cap: float, *, shares: bool, base: float, since: float) -> None:
        self.cap = cap
        self.shares = shares
        self.base = base
        self.since = since  # when the mark was `base`, if it runs at its cap
        self.flows: Ordering[Flow] = Ordering()  # by end mark


class SharedLink:
    """A bottleneck of `bytes_per_s`; 0 means unlimited, every flow then passes at its cap.

    A flow costs O(log n) when it starts, stops or ends, plus O(log n) for each lane that the fair
    share crosses then: few, since one flow of n moves the share by about 1/n. The link has a
    single entry on the agenda: the next end of a flow.

    Raises ValueError for a negative or NaN rate.
    """

    def __init__(self, bytes_per_s: float, agenda: Agenda) -> None:
        if not bytes_per_s >= 0.0:
            raise ValueError(f"bytes_per_s is {bytes_per_s}; it must be at least 0 (0: unlimited)")
        self._rate = bytes_per_s or math.inf
        self._agenda = agenda
        self._entry: Entry | None = None
        self._lanes: dict[float, Lane] = {}
        # Lanes that run at their caps: by the time of their first end, and largest cap first.
        self._run_ends: Ordering[Lane] = Ordering()
        self._run_caps: Ordering[Lane] = Ordering()
        self._running = 0.0  # bytes a second of all their flows
        # Lanes that share: by V at their first end, and smallest cap first.
        self._share_ends: Ordering[Lane] = Ordering()
        self._share_caps: Ordering[Lane] = Ordering()
        self._sharing = 0  # flows in them
        self._fair = math.inf  # bytes a second of each of these flows
        self._v = 0.0  # V: bytes passed by a flow that always shared
        self._now = agenda.now  # when V was brought up to date

    @property
    def is_unlimited(self) -> bool:
        """Whether flows do not slow each other down."""
        return math.isinf(self._rate)

    def __len__(self) -> int:
        """Flows on their way."""
        return sum(len(lane.flows) for lane in self._lanes.values())

    def start(self, num_bytes: float, cap: float, done: Callable[[], None]) -> Flow:
        """Begin a flow that alone would pass at `cap` bytes a second; `done()` at its end.

        Raises ValueError for a negative size, or a cap that is not above 0.
        """
        if not num_bytes >= 0.0:
            raise ValueError(f"num_bytes is {num_bytes}; it must be at least 0")
        _check(cap)
        flow = Flow(num_bytes, done)
        self._advance()
        self._enter(flow, cap)
        self._settle()
        return flow

    def stop(self, flow: Flow) -> float:
        """End a flow before its time, without `done()`; returns the bytes that had passed."""
        if flow.lane is not None:
            self._advance()
            self._leave(flow, flow.lane)
            self._settle()
        return flow.num_bytes - flow.left

    def recap(self, flow: Flow, cap: float) -> None:
        """Give a flow another cap from now on; one that has ended stays as it is.

        Raises ValueError for a cap that is not above 0.
        """
        _check(cap)
        if flow.lane is None or flow.lane.cap == cap:
            return
        self._advance()
        self._leave(flow, flow.lane)
        self._enter(flow, cap)
        self._settle()

    # --- marks

    def _advance(self) -> None:
        """Bring V up to date."""
        if self._sharing:
            self._v += self._fair * (self._agenda.now - self._now)
        self._now = self._agenda.now

    def _mark(self, lane: Lane) -> float:
        if lane.shares:
            return lane.base + self._v
        elapsed_s = self._now - lane.since
        return lane.base + lane.cap * elapsed_s if elapsed_s else lane.base  # the cap may be inf

    # --- coming and going

    def _enter(self, flow: Flow, cap: float) -> None:
        lane = self._lanes.get(cap) or self._open(cap)
        flow.lane = lane
        flow.end_mark = self._mark(lane) + flow.left
        lane.flows.put(flow, flow.end_mark)
        self._count(lane, 1)
        self._place(lane)

    def _leave(self, flow: Flow, lane: Lane) -> None:
        flow.left = min(max(flow.end_mark - self._mark(lane), 0.0), flow.left)
        flow.lane = None
        lane.flows.discard(flow)
        self._count(lane, -1)
        self._place(lane)

    def _open(self, cap: float) -> Lane:
        if cap > min(self._fair, self._rate):
            lane = Lane(cap, shares=True, base=-self._v, since=self._now)
            self._share_caps.put(lane, cap)
        else:
            lane = Lane(cap, shares=False, base=0.0, since=self._now)
            self._run_caps.put(lane, -cap)
        self._lanes[cap] = lane
        return lane

    def _close(self, lane: Lane) -> None:
        del self._lanes[lane.cap]
        for order in (self._run_ends, self._run_caps, self._share_ends, self._share_caps):
            order.discard(lane)

    def _count(self, lane: Lane, flows: int) -> None:
        if lane.shares:
            self._sharing += flows
        else:
            self._running += flows * lane.cap

    def _place(self, lane: Lane) -> None:
        """Put a lane where its first end belongs; it ends with its last flow."""
        first = lane.flows.first()
        if first is None:
            self._close(lane)
        elif lane.shares:
            self._share_ends.put(lane, first[0] - lane.base)
        else:
            self._run_ends.put(lane, lane.since + (first[0] - lane.base) / lane.cap)

    # --- the fair share

    def _settle(self) -> None:
        """Work out the fair share anew, and when the next flow ends."""
        if not math.isinf(self._rate):
            self._balance()
        following = self._next_end()
        when = None if following is None else max(following[0], self._now)
        if self._entry is not None:
            if self._entry.do is not None and self._entry.when == when:
                return
            self._agenda.cancel(self._entry)
        self._entry = None if when is None else self._agenda.at(when, self._end)

    def _balance(self) -> None:
        """Let each lane share or run. Both kinds of move raise the share, so two passes suffice."""
        self._weigh()
        while (largest := self._run_caps.first()) and -largest[0] > self._fair:
            self._let_share(largest[1])
            self._weigh()
        while (smallest := self._share_caps.first()) and smallest[0] <= self._fair:
            self._let_run(smallest[1])
            self._weigh()

    def _weigh(self) -> None:
        if not self._run_caps:
            self._running = 0.0  # what rounding left over
        spare = self._rate - self._running
        if self._sharing:
            self._fair = max(spare, 0.0) / self._sharing
        else:
            self._v = 0.0
            self._fair = math.inf if spare >= 0.0 else 0.0

    def _let_share(self, lane: Lane) -> None:
        self._run_ends.discard(lane)
        self._run_caps.discard(lane)
        self._count(lane, -len(lane.flows))
        lane.base, lane.shares = self._mark(lane) - self._v, True
        self._share_caps.put(lane, lane.cap)
        self._count(lane, len(lane.flows))
        self._place(lane)

    def _let_run(self, lane: Lane) -> None:
        self._share_ends.discard(lane)
        self._share_caps.discard(lane)
        self._count(lane, -len(lane.flows))
        lane.base, lane.since, lane.shares = self._mark(lane), self._now, False
        self._run_caps.put(lane, -lane.cap)
        self._count(lane, len(lane.flows))
        self._place(lane)

    # --- ends

    def _next_end(self) -> tuple[float, Lane] | None:
        """When the next flow ends, and its lane."""
        running, sharing = self._run_ends.first(), self._share_ends.first()
        if sharing is not None:
            when = self._now + (sharing[0] - self._v) / self._fair
            if running is None or when < running[0]:
                return when, sharing[1]
        return running

    def _end(self) -> None:
        following = self._next_end()  # before V moves: what the entry was made for
        first = following and following[1].flows.first()
        if not following or not first:
            return
        self._advance()
        flow = first[1]
        self._leave(flow, following[1])
        flow.left = 0.0  # and not what rounding left over
        self._settle()
        flow.done()


def _check(cap: float) -> None:
    if not cap > 0.0:
        raise ValueError(f"a flow's cap is {cap} bytes/s; it must be above 0")
