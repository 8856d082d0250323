"""Who is alive: leases, incarnations and what each device says of itself.

A synchronous object that is told the time: events in, effects out. It keeps no clock, no file and
no socket; the registry's service does. Join, heartbeat and expiry cost O(log n) in the number of
devices: a lease keeps one entry in a heap, which is moved to its present end only when it surfaces.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from heapq import heappop, heappush, heapreplace

from hocket.core.admission import (
    MAX_LINKS,
    check_capability,
    check_labels,
    check_links,
    checked_device_id,
)
from hocket.core.capability import Capability
from hocket.core.chance import Stream
from hocket.core.changes import ChangeLog
from hocket.core.device import Caller, Device, DeviceFilter, DeviceState
from hocket.core.ids import DeviceId, Incarnation
from hocket.core.link import Link
from hocket.core.membership_events import (
    Changed,
    Departed,
    Effect,
    Event,
    Expired,
    Granted,
    Heartbeat,
    Join,
    Leave,
    Renewed,
    ReportLinks,
    Superseded,
    Tick,
)
from hocket.errors import InvalidRequest, NotFound, StaleIncarnation, UnknownDevice

LOG_SIZE = 10_000  # changes kept for watchers who resume
REVISION_GAP = 1 << 20  # more changes than a process can lose when it is killed


@dataclass(slots=True)
class _Lease:
    device: Device  # its lease_left_s is not kept up to date; see Membership._seen
    ends_at: float  # means something only while the device is alive
    queued: bool = False  # in the heap


class Membership:
    """The registry's rules. `ids` names the devices that come without a name."""

    def __init__(self, lease_s: float, ids: Stream, *, log_size: int = LOG_SIZE) -> None:
        self.lease_s = lease_s
        self._ids = ids
        self._log_size = log_size
        self._leases: dict[DeviceId, _Lease] = {}
        self._names: list[DeviceId] = []  # sorted, for pages
        self._ends: list[tuple[float, DeviceId]] = []  # never later than the lease really ends
        self._revision = self._first_revision = 0
        self._log = ChangeLog(log_size)

    @property
    def revision(self) -> int:
        """The number of the latest change."""
        return self._revision

    def restore(self, devices: Iterable[Device], revision: int, now: float) -> None:
        """Take over what an earlier process stored; whoever was alive gets a fresh lease.

        That process may have shown watchers changes that it never stored, so the numbering goes on
        well beyond them: each device counts as changed, lest a watcher holds what was lost for
        newer, and `changes_since` answers any earlier revision in full. Store the new `revision`
        before serving. Call it once, on an empty membership.
        """
        at = revision + REVISION_GAP
        for number, device in enumerate(devices, start=1):
            again = replace(device, lease_left_s=0.0, revision=at + number)
            lease = _Lease(again, now + self.lease_s)
            self._leases[device.device_id] = lease
            if device.state is DeviceState.ALIVE:
                self._queue(lease)
        self._names = sorted(self._leases)
        if self._leases or revision:
            self._first_revision, self._revision = at, at + len(self._leases)
            self._log = ChangeLog(self._log_size, self._revision)

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Apply one event at `now` (seconds, never decreasing).

        Raises InvalidRequest for malformed fields, UnknownDevice for a caller without a live lease,
        StaleIncarnation for one whose device has joined again. A raised event changes nothing.
        """
        match event:
            case Join():
                return self._join(event, now)
            case Heartbeat(caller, capability):
                return self._heartbeat(caller, capability, now)
            case Leave(caller):
                return self._leave(caller, now)
            case ReportLinks(caller, links):
                return self._report(caller, links, now)
            case Tick():
                return self._expire(now)

    def next_deadline(self) -> float | None:
        """When the next lease ends unless it is renewed; None if nobody is alive."""
        while self._ends:
            ends_at, device_id = self._ends[0]
            lease = self._leases[device_id]
            if lease.device.state is not DeviceState.ALIVE:
                heappop(self._ends)
                lease.queued = False
            elif lease.ends_at > ends_at:
                heapreplace(self._ends, (lease.ends_at, device_id))
            else:
                return ends_at
        return None

    def get(self, device_id: str, now: float) -> Device:
        """One device. Raises NotFound."""
        lease = self._leases.get(DeviceId(device_id))
        if lease is None:
            raise NotFound(f"no device {device_id[:80]!r} ever joined; list the devices for names")
        return self._seen(lease, now)

    def devices(
        self, wanted: DeviceFilter, now: float, *, after_id: str = "", limit: int | None = None
    ) -> list[Device]:
        """Up to `limit` matching devices, in the order of their ids, from beyond `after_id`."""
        found: list[Device] = []
        for device_id in self._candidates(wanted, after_id):
            if limit is not None and len(found) >= limit:
                break
            device = self._seen(self._leases[device_id], now)
            if wanted.matches(device):
                found.append(device)
        return found

    def changes_since(self, revision: int, now: float) -> list[Device]:
        """What a watcher who knows `revision` lacks, in the order of revisions.

        While the log reaches back that far: every change. Otherwise: each device changed since, as
        it is. A revision that was not given out since the start counts as 0. Whoever has received
        the answer up to a device may resume from that device's revision.
        """
        given_out = self._first_revision <= revision <= self._revision
        known = revision if given_out else 0
        changes = self._log.since(known) if known else None
        if changes is not None:
            return changes
        lacking = [x for x in self._leases.values() if x.device.revision > known]
        lacking.sort(key=lambda lease: lease.device.revision)
        return [self._seen(lease, now) for lease in lacking]

    def _join(self, join: Join, now: float) -> list[Effect]:
        check_labels(join.labels)
        check_capability(join.capability)
        device_id = checked_device_id(join.device_id) if join.device_id else self._new_id()
        lease = self._leases.get(device_id)
        effects: list[Effect] = []
        if lease is None:
            device = Device(device_id, Incarnation(0), DeviceState.LEFT, join.capability)
            lease = self._leases[device_id] = _Lease(device, now)
            insort(self._names, device_id)
        elif lease.device.state is DeviceState.ALIVE:
            effects.append(Superseded(_holder(lease)))
        joined = replace(
            lease.device,
            incarnation=Incarnation(lease.device.incarnation + 1),
            state=DeviceState.ALIVE,
            capability=join.capability,
            labels=dict(join.labels),
            joined_unix_s=join.unix_s,
        )
        lease.ends_at = now + self.lease_s
        changed = self._change(lease, joined, now)
        self._queue(lease)
        return [*effects, Granted(_holder(lease)), changed]

    def _heartbeat(self, caller: Caller, capability: Capability | None, now: float) -> list[Effect]:
        lease = self._live(caller, now)
        if capability is not None:
            check_capability(capability)
        lease.ends_at = now + self.lease_s
        effects: list[Effect] = [Renewed(caller)]
        if capability is not None and capability != lease.device.capability:
            effects.append(self._change(lease, replace(lease.device, capability=capability), now))
        return effects

    def _leave(self, caller: Caller, now: float) -> list[Effect]:
        lease = self._known(caller)
        if lease.device.state is DeviceState.LEFT:
            return []
        changed = self._change(lease, replace(lease.device, state=DeviceState.LEFT), now)
        return [Departed(caller), changed]

    def _report(self, caller: Caller, links: Sequence[Link], now: float) -> list[Effect]:
        lease = self._live(caller, now)
        check_links(links)
        by_peer = {link.peer: link for link in lease.device.links}
        by_peer.update((link.peer, link) for link in links)
        if len(by_peer) > MAX_LINKS:
            raise InvalidRequest(
                f"device {caller.device_id} would have links to {len(by_peer)} peers; "
                f"at most {MAX_LINKS} are kept"
            )
        known = tuple(by_peer[peer] for peer in sorted(by_peer))
        if known == lease.device.links:
            return []
        return [self._change(lease, replace(lease.device, links=known), now)]

    def _expire(self, now: float) -> list[Effect]:
        effects: list[Effect] = []
        while (ends_at := self.next_deadline()) is not None and now >= ends_at:
            lease = self._leases[heappop(self._ends)[1]]
            lease.queued = False
            changed = self._change(lease, replace(lease.device, state=DeviceState.EXPIRED), now)
            effects += [Expired(_holder(lease)), changed]
        return effects

    def _known(self, caller: Caller) -> _Lease:
        """The lease record of this very incarnation, alive or not."""
        device_id = checked_device_id(caller.device_id)
        if caller.incarnation < 1:
            raise InvalidRequest(
                f"incarnation of {device_id} is {caller.incarnation}; send the one Join answered"
            )
        lease = self._leases.get(device_id)
        if lease is None or caller.incarnation > lease.device.incarnation:
            raise UnknownDevice(
                f"device {device_id} (incarnation {caller.incarnation}) never joined this registry;"
                " join again"
            )
        if caller.incarnation < lease.device.incarnation:
            raise StaleIncarnation(
                f"incarnation {caller.incarnation} of device {device_id} ended when incarnation "
                f"{lease.device.incarnation} joined; stop this process or give it another name"
            )
        return lease

    def _live(self, caller: Caller, now: float) -> _Lease:
        lease = self._known(caller)
        if lease.device.state is not DeviceState.ALIVE or now >= lease.ends_at:
            raise UnknownDevice(f"the lease of device {caller.device_id} has ended; join again")
        return lease

    def _change(self, lease: _Lease, device: Device, now: float) -> Changed:
        self._revision += 1
        lease.device = replace(device, revision=self._revision)
        seen = self._seen(lease, now)
        self._log.append(seen)
        return Changed(seen)

    def _seen(self, lease: _Lease, now: float) -> Device:
        alive = lease.device.state is DeviceState.ALIVE
        return replace(lease.device, lease_left_s=max(0.0, lease.ends_at - now) if alive else 0.0)

    def _queue(self, lease: _Lease) -> None:
        if not lease.queued:
            heappush(self._ends, (lease.ends_at, lease.device.device_id))
            lease.queued = True

    def _new_id(self) -> DeviceId:
        while True:
            device_id = DeviceId(f"device-{self._ids.below(1 << 24):06x}")
            if device_id not in self._leases:
                return device_id

    def _candidates(self, wanted: DeviceFilter, after_id: str) -> Iterator[DeviceId]:
        if wanted.device_ids:
            named = sorted({DeviceId(x) for x in wanted.device_ids if x > after_id})
            return iter([device_id for device_id in named if device_id in self._leases])
        start = bisect_right(self._names, after_id)
        return (self._names[at] for at in range(start, len(self._names)))


def _holder(lease: _Lease) -> Caller:
    return Caller(lease.device.device_id, lease.device.incarnation)
