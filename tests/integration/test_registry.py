"""The registry over real gRPC and SQLite, with a clock moved by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import grpc
import pytest
from support.clock import ManualClock
from support.registry import IDLE, LEASE_S, listed

from hocket.core.device import Caller, Device, DeviceFilter, DeviceState
from hocket.core.ids import DeviceId, Incarnation
from hocket.core.link import Link
from hocket.errors import InvalidRequest, NotFound, StaleIncarnation, UnknownDevice
from hocket.rpc.errors import error_from
from hocket.rpc.registry_client import RegistryClient
from hocket.v1 import registry_pb2 as pb
from hocket.v1 import registry_pb2_grpc as pb_grpc
from hocket.v1 import types_pb2


async def names(client: RegistryClient, which: DeviceFilter) -> list[str]:
    return [device.device_id for device in await listed(client, which)]


async def test_a_device_joins_and_is_listed_as_it_described_itself(
    client: RegistryClient, clock: ManualClock
) -> None:
    joined = await client.join(IDLE, "pi-1", {"room": "lab"})
    assert (joined.device_id, joined.incarnation) == ("pi-1", 1)
    assert (joined.lease_s, joined.heartbeat_s) == (15.0, 5.0)
    await client.report_links(joined.caller, [Link("aggregator", 1e6, 2e6, 0.03, 0.1, 4)])
    await clock.advance(5.0)
    (device,) = await listed(client)
    assert device == Device(
        DeviceId("pi-1"),
        Incarnation(1),
        DeviceState.ALIVE,
        IDLE,
        (Link("aggregator", 1e6, 2e6, 0.03, 0.1, 4),),
        lease_left_s=10.0,
        revision=2,
        joined_unix_s=clock.unix() - 5.0,
        labels={"room": "lab"},
    )


async def test_heartbeats_keep_a_device_alive_and_silence_ends_its_lease(
    client: RegistryClient, clock: ManualClock
) -> None:
    caller = (await client.join(IDLE, "pi")).caller
    for _ in range(4):
        await clock.advance(LEASE_S - 1)
        lease = await client.heartbeat(caller)
    assert (lease.lease_s, lease.heartbeat_s) == (15.0, 5.0)
    await clock.advance(LEASE_S)
    (device,) = await listed(client)
    assert device.state is DeviceState.EXPIRED
    with pytest.raises(UnknownDevice, match="join again"):
        await client.heartbeat(caller)
    with pytest.raises(UnknownDevice, match="join again"):
        await client.report_links(caller, [Link("aggregator", 1.0)])
    assert (await client.join(IDLE, "pi")).incarnation == 2
    assert [device.state for device in await listed(client)] == [DeviceState.ALIVE]


async def test_the_older_process_of_a_device_is_told_to_stop(client: RegistryClient) -> None:
    older = (await client.join(IDLE, "pi")).caller
    newer = (await client.join(IDLE, "pi")).caller
    with pytest.raises(StaleIncarnation):
        await client.heartbeat(older)
    with pytest.raises(StaleIncarnation):
        await client.leave(older)
    await client.heartbeat(newer)
    assert [device.incarnation for device in await listed(client)] == [2]


async def test_leaving_twice_is_no_error(client: RegistryClient) -> None:
    caller = (await client.join(IDLE, "pi")).caller
    await client.leave(caller)
    await client.leave(caller)
    assert [device.state for device in await listed(client)] == [DeviceState.LEFT]
    with pytest.raises(UnknownDevice):
        await client.leave(Caller(DeviceId("ghost"), Incarnation(1)))


async def test_nameless_devices_get_names_of_their_own(client: RegistryClient) -> None:
    first, second = await client.join(IDLE), await client.join(IDLE)
    assert first.device_id != second.device_id
    assert {first.incarnation, second.incarnation} == {1}


async def test_filters_and_pages(client: RegistryClient) -> None:
    for at in range(5):
        capability = replace(IDLE, available=at != 2, processor_share=at / 4)
        joined = await client.join(
            capability, f"d{at}", {"class": "even" if at % 2 == 0 else "odd"}
        )
        await client.report_links(joined.caller, [Link("aggregator", 1e6 * at, 1e6)])
    assert await names(client, DeviceFilter(available_only=True)) == ["d0", "d1", "d3", "d4"]
    assert await names(client, DeviceFilter(min_processor_share=0.75)) == ["d3", "d4"]
    assert await names(client, DeviceFilter(labels={"class": "odd"})) == ["d1", "d3"]
    assert await names(client, DeviceFilter(min_up_bytes_per_s=2e6)) == ["d2", "d3", "d4"]
    assert await names(client, DeviceFilter(states=frozenset({DeviceState.LEFT}))) == []
    some = frozenset({DeviceId("d4"), DeviceId("d0"), DeviceId("ghost")})
    assert await names(client, DeviceFilter(device_ids=some)) == ["d0", "d4"]


async def test_a_page_names_the_next_one(stub: pb_grpc.RegistryServiceAsyncStub) -> None:
    for at in range(5):
        await stub.Join(pb.JoinRequest(device_id=f"d{at}", capability=types_pb2.Capability()))
    request, pages = pb.ListDevicesRequest(page_size=2), []
    while True:
        page = await stub.ListDevices(request)
        pages.append([device.device_id for device in page.devices])
        assert page.revision == 5
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert pages == [["d0", "d1"], ["d2", "d3"], ["d4"]]


async def test_links_are_answered_by_device(client: RegistryClient) -> None:
    a, b = await client.join(IDLE, "a"), await client.join(IDLE, "b")
    await client.report_links(a.caller, [Link("aggregator", 1.0), Link("b", 2.0)])
    await client.report_links(a.caller, [Link("b", 3.0)])
    await client.report_links(b.caller, [Link("a", 4.0)])
    assert await client.get_links() == {
        "a": (Link("aggregator", 1.0), Link("b", 3.0)),
        "b": (Link("a", 4.0),),
    }
    assert await client.get_links([DeviceId("b")]) == {"b": (Link("a", 4.0),)}
    with pytest.raises(NotFound, match="ghost"):
        await client.get_links([DeviceId("ghost")])


async def test_more_links_than_a_message_holds_are_refused_with_advice(
    client: RegistryClient,
) -> None:
    """20 devices of 1000 links are answered, one link more is not."""
    for at in range(20):
        joined = await client.join(IDLE, f"d{at:02}")
        await client.report_links(joined.caller, [Link(f"p{n}", 1e6) for n in range(1000)])
    assert len(await client.get_links()) == 20
    more = await client.join(IDLE, "more")
    await client.report_links(more.caller, [Link("aggregator", 1e6)])
    with pytest.raises(InvalidRequest, match="fewer device_ids"):
        await client.get_links()
    assert await client.get_links([DeviceId("more")]) == {"more": (Link("aggregator", 1e6),)}


BAD_CALLS = [
    ("Join", pb.JoinRequest(device_id="a b", capability=types_pb2.Capability())),
    ("Join", pb.JoinRequest(device_id="a")),
    ("Join", pb.JoinRequest(capability=types_pb2.Capability(processor_share=math.nan))),
    ("Join", pb.JoinRequest(capability=types_pb2.Capability(memory_bytes=2**63))),
    ("Join", pb.JoinRequest(capability=types_pb2.Capability(), labels={"": "x"})),
    ("Heartbeat", pb.HeartbeatRequest()),
    ("Heartbeat", pb.HeartbeatRequest(caller=types_pb2.Caller(device_id="pi"))),
    (
        "Heartbeat",
        pb.HeartbeatRequest(
            caller=types_pb2.Caller(device_id="pi", incarnation=1),
            capability=types_pb2.Capability(energy_share=2.0),
        ),
    ),
    ("Leave", pb.LeaveRequest()),
    (
        "ReportLinks",
        pb.ReportLinksRequest(
            caller=types_pb2.Caller(device_id="pi", incarnation=1),
            links=[types_pb2.Link(peer="aggregator", up_bytes_per_s=-1.0)],
        ),
    ),
    ("ListDevices", pb.ListDevicesRequest(page_size=1001)),
    ("ListDevices", pb.ListDevicesRequest(page_token="no id")),  # noqa: S106 - no password
    ("ListDevices", pb.ListDevicesRequest(filter=pb.DeviceFilter(min_up_bytes_per_s=math.nan))),
]


@pytest.mark.parametrize(("method", "request_"), BAD_CALLS)
async def test_bad_input_gets_a_typed_error_and_leaves_no_trace(
    stub: pb_grpc.RegistryServiceAsyncStub, method: str, request_: object
) -> None:
    await stub.Join(pb.JoinRequest(device_id="pi", capability=types_pb2.Capability()))
    before = await stub.ListDevices(pb.ListDevicesRequest())
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await getattr(stub, method)(request_)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert isinstance(error_from(caught.value), InvalidRequest)
    assert await stub.ListDevices(pb.ListDevicesRequest()) == before
