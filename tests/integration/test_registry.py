"""The registry over real gRPC and SQLite, with a clock moved by hand."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from hocket_registry.store import DeviceStore, read_devices
from support.clock import ManualClock
from support.registry import registry_client, serving_registry

from hocket.core.capability import Capability, CostLine
from hocket.core.device import Caller, Device, DeviceFilter, DeviceState
from hocket.core.ids import DeviceId, Incarnation
from hocket.core.link import Link
from hocket.errors import (
    HocketError,
    InvalidRequest,
    NotFound,
    Overloaded,
    StaleIncarnation,
    StartupError,
    Unavailable,
    UnknownDevice,
)
from hocket.rpc.channel import open_channel
from hocket.rpc.errors import error_from
from hocket.rpc.registry_client import RegistryClient
from hocket.v1 import registry_pb2 as pb
from hocket.v1 import registry_pb2_grpc as pb_grpc
from hocket.v1 import types_pb2

LEASE_S = 15.0
# Values that a float32 holds exactly, since a cost line's width travels as one.
IDLE = Capability(
    costs=(CostLine(1.0, 0.01, 0.001), CostLine(0.5, 0.005, 0.0005)),
    processor_share=0.75,
    memory_bytes=2**33,
    num_examples=200,
)
BUSY = replace(IDLE, available=False)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(now=100.0)


@pytest.fixture
async def client(tmp_path: Path, clock: ManualClock) -> AsyncIterator[RegistryClient]:
    async with registry_client(tmp_path, clock) as connected:
        yield connected


@pytest.fixture
async def stub(
    tmp_path: Path, clock: ManualClock
) -> AsyncIterator[pb_grpc.RegistryServiceAsyncStub]:
    async with serving_registry(tmp_path, clock) as address, open_channel(address) as channel:
        yield pb_grpc.RegistryServiceStub(channel)


async def listed(client: RegistryClient, which: DeviceFilter | None = None) -> list[Device]:
    return [device async for device in client.list_devices(which or DeviceFilter())]


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


Seen = tuple[str, DeviceState, bool, int]


def brief(devices: tuple[Device, ...]) -> list[Seen]:
    return [(d.device_id, d.state, d.capability.available, d.revision) for d in devices]


async def test_a_watcher_sees_all_devices_and_then_every_change(
    client: RegistryClient, clock: ManualClock
) -> None:
    pi = (await client.join(IDLE, "pi")).caller
    async with aclosing(client.watch()) as watch:
        assert brief((await anext(watch))[0]) == [("pi", DeviceState.ALIVE, True, 1)]
        await client.heartbeat(pi, BUSY)
        assert brief((await anext(watch))[0]) == [("pi", DeviceState.ALIVE, False, 2)]
        await client.heartbeat(pi, BUSY)  # changes nothing that could be seen
        await client.join(IDLE, "zero")
        assert brief((await anext(watch))[0]) == [("zero", DeviceState.ALIVE, True, 3)]
        await clock.advance(LEASE_S - 1)
        await client.heartbeat(pi)
        await clock.advance(1.0)
        devices, revision = await anext(watch)
        assert brief(devices) == [("zero", DeviceState.EXPIRED, True, 4)]
        assert revision == 4


async def test_a_watch_resumes_from_a_revision(client: RegistryClient) -> None:
    pi = (await client.join(IDLE, "pi")).caller
    await client.join(IDLE, "zero")
    await client.heartbeat(pi, BUSY)
    await client.leave(pi)
    async with aclosing(client.watch(after_revision=2)) as watch:
        devices, revision = await anext(watch)
    assert brief(devices) == [
        ("pi", DeviceState.ALIVE, False, 3),
        ("pi", DeviceState.LEFT, False, 4),
    ]
    async with aclosing(client.watch(after_revision=revision)) as watch:
        assert await anext(watch) == ((), 4)  # up to date


async def test_a_watcher_who_reads_nothing_holds_nobody_up(client: RegistryClient) -> None:
    async with aclosing(client.watch()) as slow:
        await anext(slow)
        callers = [(await client.join(IDLE, f"d{at}")).caller for at in range(20)]
        for turn in range(20):
            for caller in callers:
                await client.heartbeat(caller, BUSY if turn % 2 == 0 else IDLE)
        last, revisions = 0, []
        while last < 420:
            devices, last = await anext(slow)
            revisions += [device.revision for device in devices]
    assert revisions == list(range(1, 421))


async def test_watchers_are_bounded_and_make_room_when_they_go(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with registry_client(tmp_path, clock, max_watchers=1) as client:
        async with aclosing(client.watch()) as watch:
            await anext(watch)
            with pytest.raises(Overloaded) as refused:
                await anext(client.watch())
            assert refused.value.retry_after_s == 5.0
        for _ in range(100):  # until the server has noticed that the first one hung up
            try:
                await anext(client.watch())
            except Overloaded:
                continue
            return
        pytest.fail("the place of the watcher who left was never given to another")


async def test_a_registry_that_stops_sends_its_watchers_away(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(AsyncExitStack())
        address = await server.enter_async_context(serving_registry(tmp_path, clock))
        channel = await stack.enter_async_context(open_channel(address))
        watch = await stack.enter_async_context(aclosing(RegistryClient(channel).watch()))
        await anext(watch)
        await server.aclose()
        with pytest.raises(Unavailable):
            await anext(watch)


async def test_a_restart_forgets_neither_incarnations_nor_leases(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with registry_client(tmp_path, clock) as client:
        a = (await client.join(IDLE, "a", {"room": "lab"})).caller
        b = (await client.join(IDLE, "b")).caller
        await client.join(IDLE, "c")
        await client.leave(b)
        await client.heartbeat(a, BUSY)
        await client.report_links(a, [Link("aggregator", 1e6, 2e6, 0.03, 0.1, 4)])
        before = await listed(client)
    await clock.advance(1000.0)  # a registry that is down cannot hear heartbeats
    async with registry_client(tmp_path, clock) as client:
        after = await listed(client)
        # Each counts as changed: a watcher may hold a later word that was lost.
        assert min(device.revision for device in after) > max(d.revision for d in before)
        assert [replace(device, revision=0) for device in after] == [
            replace(
                device,
                lease_left_s=LEASE_S if device.state is DeviceState.ALIVE else 0.0,
                revision=0,
            )
            for device in before
        ]
        await client.heartbeat(a)
        assert (await client.join(IDLE, "b")).incarnation == 2
        await clock.advance(LEASE_S)
        states = {device.device_id: device.state for device in await listed(client)}
        assert states[DeviceId("c")] is DeviceState.EXPIRED


async def test_revisions_grow_over_restarts(tmp_path: Path, clock: ManualClock) -> None:
    revisions: list[int] = []
    for _ in range(3):
        async with registry_client(tmp_path, clock) as client:
            await client.join(IDLE, "pi")
            async with aclosing(client.watch(revisions[-1] if revisions else 0)) as watch:
                (device,), revision = await anext(watch)
            assert device.incarnation == len(revisions) + 1
            assert revision == device.revision
            revisions.append(revision)
    assert revisions == sorted(set(revisions))


async def test_a_join_is_on_disk_before_it_is_answered(tmp_path: Path, clock: ManualClock) -> None:
    async with registry_client(tmp_path, clock) as client:
        pi = (await client.join(IDLE, "pi")).caller
        devices, _ = await read_devices(tmp_path)
        assert [(d.device_id, d.incarnation) for d in devices] == [("pi", 1)]
        await client.leave(pi)
        devices, revision = await read_devices(tmp_path)
        assert [(d.state, d.capability) for d in devices] == [(DeviceState.LEFT, IDLE)]
        assert revision == 2


async def test_two_registries_do_not_share_a_folder(tmp_path: Path, clock: ManualClock) -> None:
    async with registry_client(tmp_path, clock):
        with pytest.raises(StartupError, match="another registry"):
            await DeviceStore.open(tmp_path)
    await (await DeviceStore.open(tmp_path)).close()


@pytest.mark.parametrize("read", [read_devices, DeviceStore.open])
async def test_a_file_that_is_no_database_stops_the_start(tmp_path: Path, read: object) -> None:
    (tmp_path / "registry.sqlite3").write_bytes(b"not a database, " * 100)
    assert callable(read)
    with pytest.raises(StartupError, match="choose another REGISTRY_DATA_DIR"):
        await read(tmp_path)


async def test_reading_where_no_registry_ever_was_says_so(tmp_path: Path) -> None:
    with pytest.raises(HocketError, match="no registry has stored"):
        await read_devices(tmp_path)
