"""RegistryService: decodes, asks the roster, encodes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc
from typing_extensions import override

from hocket.core.device import ANY_DEVICE
from hocket.core.membership_events import Granted, Heartbeat, Join, Leave, ReportLinks
from hocket.errors import InvalidRequest
from hocket.rpc import convert
from hocket.rpc.convert import checks
from hocket.v1 import registry_pb2 as pb
from hocket.v1 import registry_pb2_grpc as pb_grpc
from hocket_registry.batches import batches
from hocket_registry.roster import Roster

MAX_NAMED = 1000  # devices asked for by name in one call
MAX_LINKS_ANSWERED = 20_000  # about 2.5 MB, below what gRPC takes in one message

Context = grpc.aio.ServicerContext[Any, Any]


class RegistryService(pb_grpc.RegistryServiceServicer):
    """The servicer of one roster. Every error it raises is one of hocket.errors."""

    def __init__(self, roster: Roster, *, heartbeat_s: float) -> None:
        self._roster = roster
        self._lease_s = roster.membership.lease_s
        self._heartbeat_s = heartbeat_s

    @override
    async def Join(self, request: pb.JoinRequest, context: Context) -> pb.JoinResponse:
        """Answered once the new incarnation is on disk."""
        checks.present("capability", request.HasField("capability"))
        effects = await self._roster.handle_saved(
            Join(
                request.device_id,
                convert.capability_from_pb(request.capability),
                checks.labels("labels", request.labels),
                self._roster.unix(),
            )
        )
        caller = next(effect.caller for effect in effects if isinstance(effect, Granted))
        return pb.JoinResponse(
            device_id=caller.device_id,
            incarnation=caller.incarnation,
            lease_s=self._lease_s,
            heartbeat_s=self._heartbeat_s,
        )

    @override
    async def Heartbeat(
        self, request: pb.HeartbeatRequest, context: Context
    ) -> pb.HeartbeatResponse:
        """Answered at once; a changed capability is on disk soon after."""
        told = request.HasField("capability")
        capability = convert.capability_from_pb(request.capability) if told else None
        self._roster.handle(Heartbeat(convert.caller_from_pb(request.caller), capability))
        return pb.HeartbeatResponse(lease_s=self._lease_s, heartbeat_s=self._heartbeat_s)

    @override
    async def Leave(self, request: pb.LeaveRequest, context: Context) -> pb.LeaveResponse:
        """Answered once it is on disk."""
        await self._roster.handle_saved(Leave(convert.caller_from_pb(request.caller)))
        return pb.LeaveResponse()

    @override
    async def ReportLinks(
        self, request: pb.ReportLinksRequest, context: Context
    ) -> pb.ReportLinksResponse:
        """Answered at once; the links are on disk soon after."""
        links = convert.links_from_pb(request.links)
        self._roster.handle(ReportLinks(convert.caller_from_pb(request.caller), links))
        return pb.ReportLinksResponse()

    @override
    async def ListDevices(
        self, request: pb.ListDevicesRequest, context: Context
    ) -> pb.ListDevicesResponse:
        """A page; its token is the last device's id."""
        size = checks.page_size(request.page_size)
        after = request.page_token and checks.device_id("page_token", request.page_token)
        wanted = convert.device_filter_from_pb(request.filter)
        members = self._roster.membership
        found = members.devices(wanted, self._roster.now(), after_id=after, limit=size + 1)
        page = next(batches(found, size), [])
        return pb.ListDevicesResponse(
            devices=map(convert.device_to_pb, page),
            next_page_token=page[-1].device_id if len(found) > len(page) else "",
            revision=members.revision,
        )

    @override
    async def GetLinks(self, request: pb.GetLinksRequest, context: Context) -> pb.GetLinksResponse:
        """Links of the devices named, each of which must be known, or of all that have any."""
        checks.count("the number of device_ids", len(request.device_ids), most=MAX_NAMED)
        members, now = self._roster.membership, self._roster.now()
        if request.device_ids:
            devices = [members.get(device_id, now) for device_id in request.device_ids]
        else:
            devices = [each for each in members.devices(ANY_DEVICE, now) if each.links]
        if sum(len(device.links) for device in devices) > MAX_LINKS_ANSWERED:
            raise InvalidRequest(
                f"these {len(devices)} devices have more than {MAX_LINKS_ANSWERED} links; name "
                "fewer device_ids in one call"
            )
        return pb.GetLinksResponse(
            devices=[
                pb.GetLinksResponse.DeviceLinks(
                    device_id=device.device_id, links=map(convert.link_to_pb, device.links)
                )
                for device in devices
            ]
        )

    @override
    async def WatchDevices(
        self, request: pb.WatchDevicesRequest, context: Context
    ) -> AsyncIterator[pb.WatchDevicesResponse]:
        """Changes as they happen, until the caller hangs up or the registry stops."""
        async with aclosing(self._roster.watch(request.after_revision)) as steps:
            async for devices, revision in steps:
                yield pb.WatchDevicesResponse(
                    devices=map(convert.device_to_pb, devices), revision=revision
                )
