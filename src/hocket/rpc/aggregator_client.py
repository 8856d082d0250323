"""The aggregator as its callers see it: core words in, core words out, typed errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import grpc

from hocket.core.device import Caller
from hocket.core.ids import Version
from hocket.core.payload import Payload
from hocket.core.records import Status, UpdateRecord, VersionRecord
from hocket.core.submodel import FULL, SubmodelSpec
from hocket.core.terms import Finished, TaskTerms, Trigger
from hocket.core.update import UpdateHeader
from hocket.errors import Unavailable
from hocket.rpc import convert
from hocket.rpc.channel import DEADLINE_S
from hocket.rpc.errors import speaking_to
from hocket.rpc.push_message import PUSH_METHOD, write_push
from hocket.rpc.transfer import Pacer, PulledModel, Pushed, Unpaced, receive_model, send_update
from hocket.v1 import aggregator_pb2 as pb
from hocket.v1 import aggregator_pb2_grpc as pb_grpc

PAGE_SIZE = 200
UNPACED = Unpaced()


class AggregatorClient:
    """Calls one aggregator. Raises the errors of hocket.errors; Unavailable means try again.

    `address` is used in messages only.
    """

    def __init__(self, channel: grpc.aio.Channel, address: str = "") -> None:
        self._stub = pb_grpc.AggregatorServiceStub(channel)
        self._push = channel.stream_stream(
            PUSH_METHOD,
            request_serializer=write_push,
            response_deserializer=pb.PushUpdateResponse.FromString,
        )
        self._peer = f"the aggregator at {address}" if address else "the aggregator"

    async def get_task(self) -> TaskTerms:
        """What is being trained, and how."""
        with speaking_to(self._peer):
            answer = await self._stub.GetTask(pb.GetTaskRequest(), timeout=DEADLINE_S)
        return convert.task_terms_from_pb(answer)

    async def subscribe(
        self, caller: Caller, *, training: bool = False
    ) -> AsyncGenerator[Trigger | Finished, None]:
        """Triggers as they come; Finished is the last. `training`: one is in flight already.

        Raises Unavailable when the stream breaks: subscribe again. Close the iterator
        (contextlib.aclosing) to end the call.
        """
        request = pb.SubscribeRequest(caller=convert.caller_to_pb(caller), training=training)
        call = self._stub.Subscribe(request)
        try:
            with speaking_to(self._peer):
                async for answer in call:
                    yield convert.event_from_pb(answer)
        finally:
            call.cancel()

    async def pull(
        self,
        caller: Caller | None,
        *,
        limit_bytes: int,
        version: int = 0,
        only_if_newer_than: int = 0,
        spec: SubmodelSpec = FULL,
        why: str = "",
        for_training: bool = False,
        pace: Pacer = UNPACED,
        deadline_s: float | None = None,
    ) -> PulledModel | None:
        """A version (0: the newest), whole or a part; None if the newest is not newer.

        Only a pull `for_training` needs a caller; `why` says what made it choose `spec`.

        `limit_bytes` is the largest body to take memory for: the manifest's `dense_bytes`.
        Raises UnknownVersion, PayloadTooLarge, CorruptPayload, Unavailable.
        """
        request = pb.PullModelRequest(
            caller=None if caller is None else convert.caller_to_pb(caller),
            version=version,
            only_if_newer_than=only_if_newer_than,
            spec=convert.spec_to_pb(spec),
            why=why,
            for_training=for_training,
        )
        call = self._stub.PullModel(request)
        try:
            with speaking_to(self._peer):
                async with self._within(deadline_s):
                    return await receive_model(call, limit_bytes, pace)
        finally:
            call.cancel()

    async def push(
        self,
        header: UpdateHeader,
        payload: Payload,
        *,
        pace: Pacer = UNPACED,
        deadline_s: float | None = None,
    ) -> Pushed:
        """Offer an update; returns once the aggregator has said what became of it.

        Raises Unavailable when the stream breaks: call again with the same header, and the
        transfer goes on where it broke off; an update that had arrived gets its first outcome
        again. So does an error that `is_unclear`. Other errors of hocket.errors are final.
        """
        call = self._push()
        try:
            with speaking_to(self._peer):
                async with self._within(deadline_s):
                    return await send_update(call, header, payload, pace)
        finally:
            call.cancel()

    async def list_versions(self) -> AsyncGenerator[VersionRecord, None]:
        """Every version in falling order, page after page."""
        request = pb.ListVersionsRequest(page_size=PAGE_SIZE)
        while True:
            with speaking_to(self._peer):
                page = await self._stub.ListVersions(request, timeout=DEADLINE_S)
            for version in page.versions:
                yield convert.version_record_from_pb(version)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def watch_versions(self, after_version: int = 0) -> AsyncGenerator[VersionRecord, None]:
        """Every version after this one, and again when its evaluation is known.

        Raises Unavailable when the stream breaks: call again with the last version seen. Close
        the iterator (contextlib.aclosing) to end the call.
        """
        call = self._stub.WatchVersions(pb.WatchVersionsRequest(after_version=after_version))
        try:
            with speaking_to(self._peer):
                async for answer in call:
                    yield convert.version_record_from_pb(answer.version)
        finally:
            call.cancel()

    async def get_lineage(self, version: int = 0) -> AsyncGenerator[UpdateRecord, None]:
        """The updates behind a version (0: the newest), newest first, page after page."""
        request = pb.GetLineageRequest(version=version, page_size=PAGE_SIZE)
        while True:
            with speaking_to(self._peer):
                page = await self._stub.GetLineage(request, timeout=DEADLINE_S)
            for update in page.updates:
                yield convert.update_record_from_pb(update)
            if not page.next_page_token:
                return
            request.version = Version(page.version)  # "the newest" must not move between pages
            request.page_token = page.next_page_token

    async def get_status(self) -> Status:
        """Where the task stands, and what each device is doing."""
        with speaking_to(self._peer):
            answer = await self._stub.GetStatus(pb.GetStatusRequest(), timeout=DEADLINE_S)
        return convert.status_from_pb(answer)

    @asynccontextmanager
    async def _within(self, deadline_s: float | None) -> AsyncIterator[None]:
        """A deadline that holds while the pacer waits, too; gRPC's own does not."""
        try:
            async with asyncio.timeout(deadline_s):
                yield
        except TimeoutError as error:
            raise Unavailable(
                f"the transfer with {self._peer} took longer than {deadline_s} s: try again"
            ) from error
