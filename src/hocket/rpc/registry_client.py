"""The registry as its callers see it: core words in, core words out, typed errors."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import grpc

from hocket.core.capability import Capability
from hocket.core.device import ANY_DEVICE, Caller, Device, DeviceFilter
from hocket.core.ids import DeviceId, Incarnation
from hocket.core.link import Link
from hocket.rpc import convert
from hocket.rpc.channel import DEADLINE_S
from hocket.rpc.convert import checks
from hocket.rpc.errors import speaking_to
from hocket.v1 import registry_pb2 as pb
from hocket.v1 import registry_pb2_grpc as pb_grpc

NO_LABELS: Mapping[str, str] = MappingProxyType({})
PAGE_SIZE = 200


@dataclass(frozen=True, slots=True)
class Lease:
    """How long silence is forgiven, and how often to call."""

    lease_s: float
    heartbeat_s: float


@dataclass(frozen=True, slots=True)
class Joined:
    """What Join granted."""

    device_id: DeviceId
    incarnation: Incarnation
    lease_s: float
    heartbeat_s: float

    @property
    def caller(self) -> Caller:
        """Who this device is in every call that follows."""
        return Caller(self.device_id, self.incarnation)


class RegistryClient:
    """Calls one registry. Raises the errors of hocket.errors; Unavailable means try again.

    `address` is used in messages only.
    """

    def __init__(self, channel: grpc.aio.Channel, address: str = "") -> None:
        self._stub = pb_grpc.RegistryServiceStub(channel)
        self._peer = f"the registry at {address}" if address else "the registry"

    async def join(
        self,
        capability: Capability,
        device_id: str = "",
        labels: Mapping[str, str] = NO_LABELS,
    ) -> Joined:
        """Take a lease; with an empty `device_id` the registry picks one."""
        request = pb.JoinRequest(
            device_id=device_id,
            capability=convert.capability_to_pb(capability),
            labels=labels,
        )
        with speaking_to(self._peer):
            answer = await self._stub.Join(request, timeout=DEADLINE_S)
        return Joined(
            checks.device_id("device_id", answer.device_id),
            checks.incarnation("incarnation", answer.incarnation),
            checks.positive("lease_s", answer.lease_s),
            checks.positive("heartbeat_s", answer.heartbeat_s),
        )

    async def heartbeat(self, caller: Caller, capability: Capability | None = None) -> Lease:
        """Keep the lease; without a capability the registry keeps the one it knows.

        Raises UnknownDevice when the lease has run out (join again) and StaleIncarnation when a
        newer process of this device has joined (stop).
        """
        request = pb.HeartbeatRequest(caller=convert.caller_to_pb(caller))
        if capability is not None:
            request.capability.CopyFrom(convert.capability_to_pb(capability))
        with speaking_to(self._peer):
            answer = await self._stub.Heartbeat(request, timeout=DEADLINE_S)
        return Lease(
            checks.positive("lease_s", answer.lease_s),
            checks.positive("heartbeat_s", answer.heartbeat_s),
        )

    async def leave(self, caller: Caller) -> None:
        """Give the lease back."""
        request = pb.LeaveRequest(caller=convert.caller_to_pb(caller))
        with speaking_to(self._peer):
            await self._stub.Leave(request, timeout=DEADLINE_S)

    async def report_links(self, caller: Caller, links: Iterable[Link]) -> None:
        """Replace what the registry knows of the links to these peers."""
        request = pb.ReportLinksRequest(
            caller=convert.caller_to_pb(caller), links=map(convert.link_to_pb, links)
        )
        with speaking_to(self._peer):
            await self._stub.ReportLinks(request, timeout=DEADLINE_S)

    async def list_devices(self, which: DeviceFilter = ANY_DEVICE) -> AsyncGenerator[Device, None]:
        """Devices that match, in the order of their ids, page after page."""
        request = pb.ListDevicesRequest(
            filter=convert.device_filter_to_pb(which), page_size=PAGE_SIZE
        )
        while True:
            with speaking_to(self._peer):
                page = await self._stub.ListDevices(request, timeout=DEADLINE_S)
            for device in page.devices:
                yield convert.device_from_pb(device)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def get_links(
        self, device_ids: Iterable[DeviceId] = ()
    ) -> dict[DeviceId, tuple[Link, ...]]:
        """Links of these devices, or of all."""
        with speaking_to(self._peer):
            answer = await self._stub.GetLinks(
                pb.GetLinksRequest(device_ids=device_ids), timeout=DEADLINE_S
            )
        return {
            checks.device_id("device_id", found.device_id): convert.links_from_pb(found.links)
            for found in answer.devices
        }

    async def watch(
        self, after_revision: int = 0
    ) -> AsyncGenerator[tuple[tuple[Device, ...], int], None]:
        """Devices that changed, and the revision to resume from; at 0, all of them first.

        Raises Unavailable when the stream breaks: call again with the last revision. Close the
        iterator (contextlib.aclosing) to end the call.
        """
        call = self._stub.WatchDevices(pb.WatchDevicesRequest(after_revision=after_revision))
        try:
            with speaking_to(self._peer):
                async for change in call:
                    devices = tuple(map(convert.device_from_pb, change.devices))
                    yield devices, checks.count("revision", change.revision)
        finally:
            call.cancel()
