# ruff: noqa: N802 - a servicer's methods are named by the contract
"""The clients' unary calls, pages and watches against small services of known answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
from support.serving import serving

from hocket.core.capability import Capability, CostLine
from hocket.core.device import Caller, Device, DeviceFilter, DeviceState
from hocket.core.ids import DeviceId, Incarnation, UpdateId, Version
from hocket.core.link import Link
from hocket.core.records import Evaluation, Status, UpdateRecord, VersionRecord
from hocket.core.update import Applied, UpdateHeader
from hocket.errors import InvalidRequest, Unavailable, UnknownDevice
from hocket.rpc import convert
from hocket.rpc.aggregator_client import AggregatorClient
from hocket.rpc.channel import open_channel
from hocket.rpc.registry_client import Joined, Lease, RegistryClient
from hocket.rpc.server import aggregator_service, registry_service
from hocket.v1 import aggregator_pb2, aggregator_pb2_grpc, registry_pb2, registry_pb2_grpc

ME = Caller(DeviceId("pi-4"), Incarnation(2))
CAN = Capability((CostLine(1.0, 0.01, 0.002),), processor_share=0.5, num_examples=120)
UPLINK = Link(up_bytes_per_s=2e5, rtt_s=0.03, transfers=4)


def device(number: int) -> Device:
    return Device(
        DeviceId(f"d{number}"), Incarnation(1), DeviceState.ALIVE, CAN, (UPLINK,), 9.5, number
    )


class SmallRegistry(registry_pb2_grpc.RegistryServiceServicer):
    """Three devices, two a page."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.fail_first: list[Exception] = []

    async def Join(self, request: Any, _context: Any) -> Any:
        self.asked.append(request)
        return registry_pb2.JoinResponse(
            device_id=request.device_id or "picked", incarnation=2, lease_s=15, heartbeat_s=5
        )

    async def Heartbeat(self, request: Any, _context: Any) -> Any:
        self.asked.append(request)
        if self.fail_first:
            raise self.fail_first.pop(0)
        return registry_pb2.HeartbeatResponse(lease_s=30, heartbeat_s=10)

    async def Leave(self, request: Any, _context: Any) -> Any:
        self.asked.append(request)
        return registry_pb2.LeaveResponse()

    async def ReportLinks(self, request: Any, _context: Any) -> Any:
        self.asked.append(request)
        return registry_pb2.ReportLinksResponse()

    async def ListDevices(self, request: Any, _context: Any) -> Any:
        self.asked.append(type(request).FromString(request.SerializeToString()))
        if request.page_token:
            return registry_pb2.ListDevicesResponse(devices=[convert.device_to_pb(device(3))])
        first = [convert.device_to_pb(device(number)) for number in (1, 2)]
        return registry_pb2.ListDevicesResponse(devices=first, next_page_token="after d2")  # noqa: S106 - no secret

    async def GetLinks(self, request: Any, _context: Any) -> Any:
        links = [convert.link_to_pb(UPLINK)]
        found = [
            registry_pb2.GetLinksResponse.DeviceLinks(device_id=each, links=links)
            for each in request.device_ids
        ]
        return registry_pb2.GetLinksResponse(devices=found)

    async def WatchDevices(self, request: Any, _context: Any) -> AsyncIterator[Any]:
        changed = [convert.device_to_pb(device(7))]
        yield registry_pb2.WatchDevicesResponse(
            devices=changed, revision=request.after_revision + 1
        )
        raise Unavailable("shutting down")


@pytest.fixture
def registry() -> SmallRegistry:
    return SmallRegistry()


@pytest.fixture
async def client(registry: SmallRegistry) -> AsyncIterator[RegistryClient]:
    async with serving(registry_service(registry)) as address, open_channel(address) as channel:
        yield RegistryClient(channel, address)


async def test_joining_says_what_was_granted(
    client: RegistryClient, registry: SmallRegistry
) -> None:
    joined = await client.join(CAN, labels={"room": "2"})
    assert joined == Joined(DeviceId("picked"), Incarnation(2), 15.0, 5.0)
    assert joined.caller == Caller(DeviceId("picked"), Incarnation(2))
    assert convert.capability_from_pb(registry.asked[0].capability) == CAN
    assert registry.asked[0].labels == {"room": "2"}
    assert (await client.join(CAN, "pi-4")).device_id == "pi-4"


async def test_a_heartbeat_carries_the_capability_only_when_given(
    client: RegistryClient, registry: SmallRegistry
) -> None:
    assert await client.heartbeat(ME) == Lease(30.0, 10.0)
    await client.heartbeat(ME, CAN)
    silent, telling = registry.asked
    assert convert.caller_from_pb(silent.caller) == ME
    assert not silent.HasField("capability")
    assert convert.capability_from_pb(telling.capability) == CAN


async def test_a_lost_lease_is_told_and_not_retried(
    client: RegistryClient, registry: SmallRegistry
) -> None:
    registry.fail_first = [UnknownDevice("pi-4 holds no lease: join again")]
    with pytest.raises(UnknownDevice, match="join again"):
        await client.heartbeat(ME)
    assert len(registry.asked) == 1


async def test_what_is_idempotent_is_retried_by_itself(
    client: RegistryClient, registry: SmallRegistry
) -> None:
    registry.fail_first = [Unavailable("restarting")]
    assert await client.heartbeat(ME) == Lease(30.0, 10.0)
    assert len(registry.asked) == 2


async def test_leaving_and_links_reach_the_registry(
    client: RegistryClient, registry: SmallRegistry
) -> None:
    await client.report_links(ME, [UPLINK])
    await client.leave(ME)
    report, leave = registry.asked
    assert convert.links_from_pb(report.links) == (UPLINK,)
    assert convert.caller_from_pb(leave.caller) == ME


async def test_a_list_runs_over_all_pages(client: RegistryClient, registry: SmallRegistry) -> None:
    which = DeviceFilter(available_only=True, labels={"room": "2"})
    assert [each async for each in client.list_devices(which)] == [device(n) for n in (1, 2, 3)]
    assert [convert.device_filter_from_pb(asked.filter) for asked in registry.asked] == [which] * 2
    assert [asked.page_token for asked in registry.asked] == ["", "after d2"]


async def test_links_come_by_device(client: RegistryClient) -> None:
    wanted = [DeviceId("d1"), DeviceId("d2")]
    assert await client.get_links(wanted) == dict.fromkeys(wanted, (UPLINK,))


async def test_a_watch_gives_the_revision_to_resume_from(client: RegistryClient) -> None:
    async with aclosing(client.watch(41)) as changes:
        assert await anext(changes) == ((device(7),), 42)
        with pytest.raises(Unavailable, match="shutting down"):
            await anext(changes)


VERSIONS = [
    VersionRecord(
        Version(2), Version(1), "ab" * 8, 5.0, ("u1",), Evaluation(0.4, 0.9), retained=True
    ),
    VersionRecord(Version(1), Version(0), "cd" * 8, 1.0),
]
UPDATES = [
    UpdateRecord(
        UpdateHeader(
            UpdateId(name), ME.device_id, ME.incarnation, Version(1), 10, 5, learning_rate=0.1
        ),
        Applied(Version(2), 0.5, 0),
        100,
        400,
        "topk",
        3.0,
    )
    for name in ("u2", "u1")
]
STATUS = Status(
    "digits",
    "fedasmu",
    Version(2),
    "ab" * 8,
    "",
    9.0,
    4.0,
    1,
    0,
    100,
    400,
    800,
    Version(0),
    None,
    (),
)


class SmallHistory(aggregator_pb2_grpc.AggregatorServiceServicer):
    """Two versions and two updates, one a page; the newest version moves on between pages."""

    def __init__(self) -> None:
        self.lineages: list[int] = []

    async def ListVersions(self, request: Any, _context: Any) -> Any:
        at = int(request.page_token or 0)
        return aggregator_pb2.ListVersionsResponse(
            versions=[convert.version_record_to_pb(VERSIONS[at])],
            next_page_token="" if at else "1",
        )

    async def GetLineage(self, request: Any, _context: Any) -> Any:
        self.lineages.append(request.version)
        at = int(request.page_token or 0)
        return aggregator_pb2.GetLineageResponse(
            version=2,
            updates=[convert.update_record_to_pb(UPDATES[at])],
            next_page_token="" if at else "1",
        )

    async def WatchVersions(self, request: Any, _context: Any) -> AsyncIterator[Any]:
        for record in reversed(VERSIONS[: 2 - request.after_version]):
            info = convert.version_record_to_pb(record)
            yield aggregator_pb2.WatchVersionsResponse(version=info)

    async def GetStatus(self, _request: Any, _context: Any) -> Any:
        return convert.status_to_pb(STATUS)

    async def GetTask(self, _request: Any, _context: Any) -> Any:
        return aggregator_pb2.GetTaskResponse(name="digits")


async def test_history_is_read_over_all_pages() -> None:
    history = SmallHistory()  # type: ignore[abstract] # nobody calls its other methods
    async with (
        serving(aggregator_service(history)) as address,
        open_channel(address) as channel,
    ):
        client = AggregatorClient(channel, address)
        assert [each async for each in client.list_versions()] == VERSIONS
        assert [each async for each in client.get_lineage()] == UPDATES
        assert [each async for each in client.watch_versions(1)] == VERSIONS[:1]
        assert await client.get_status() == STATUS
        with pytest.raises(InvalidRequest, match=r"manifest\.tensors"):
            await client.get_task()
    assert history.lineages == [0, 2]  # later pages ask for the version that the first one named
