"""AggregatorService: decodes, asks, encodes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any, TypeVar

import grpc
import structlog
from torch import Tensor
from typing_extensions import override

from hocket.core.device import Caller
from hocket.core.events import BaseTaken, Subscribed, Unsubscribed
from hocket.core.ids import Version
from hocket.core.records import VersionRecord
from hocket.core.submodel import SubmodelSpec
from hocket.core.terms import TaskTerms
from hocket.errors import CorruptPayload, InvalidRequest, Overloaded, UnknownDevice
from hocket.hosting.failpoint import Failpoint, reach
from hocket.learn.submodels.sliceable import Sliceable
from hocket.rpc import convert
from hocket.rpc.chunks import chunks
from hocket.rpc.convert import checks
from hocket.rpc.push_message import chunk_of
from hocket.rpc.transfer import PushMessage
from hocket.v1 import aggregator_pb2 as pb
from hocket.v1 import aggregator_pb2_grpc as pb_grpc
from hocket_aggregator.job import Core, Take
from hocket_aggregator.metadata.records import Records
from hocket_aggregator.owner import Owner
from hocket_aggregator.pushes.intake import Intake
from hocket_aggregator.pushes.staging import Staged
from hocket_aggregator.roster import Roster
from hocket_aggregator.subscriptions import Subscription, Subscriptions
from hocket_aggregator.tally import Tally

log = structlog.get_logger()

MAX_PULLS = 256  # at once: one that is not read holds some 2.5 MB in gRPC's buffers
PULL_AGAIN_S = 2.0

R = TypeVar("R")
Context = grpc.aio.ServicerContext[Any, Any]


class AggregatorService(pb_grpc.AggregatorServiceServicer):
    """The servicer of one task. Every error it raises is one of hocket.errors."""

    def __init__(
        self,
        *,
        terms: TaskTerms,
        model: Sliceable,
        owner: Owner,
        intake: Intake,
        subscriptions: Subscriptions,
        records: Records,
        tally: Tally,
        roster: Roster | None = None,
    ) -> None:
        self._terms = terms
        self._model = model
        self._owner = owner
        self._intake = intake
        self._subscriptions = subscriptions
        self._records = records
        self._tally = tally
        self._roster = roster
        self._pulls = 0

    @override
    async def GetTask(self, request: pb.GetTaskRequest, context: Context) -> pb.GetTaskResponse:
        """The terms never change while the aggregator runs."""
        return convert.task_terms_to_pb(self._terms)

    @override
    async def Subscribe(
        self, request: pb.SubscribeRequest, context: Context
    ) -> AsyncIterator[pb.SubscribeResponse]:
        """Until the task ends, a newer stream takes this one's place, or the device hangs up."""
        caller = convert.caller_from_pb(request.caller)

        opened: list[Subscription] = []
        gone = asyncio.Event()

        def seat(_: Core, take: Take) -> None:
            take(Subscribed(caller, request.training))

        def open_stream() -> None:
            # Before the turn's triggers are sent, and after those of the turns before it.
            if not gone.is_set():
                opened.append(self._subscriptions.open(caller, inherit=request.training))

        def is_nobody() -> bool:
            """In the owner's turn: a newer stream that waits for its own must not be told off."""
            gone.set()
            if not opened:
                return self._subscriptions.listens(caller)
            return not self._subscriptions.close(opened[0])

        try:
            await self._admitted(caller, seat, before_telling=open_stream)
        except asyncio.CancelledError:  # hung up already
            self._owner.post(Unsubscribed(caller), unless=is_nobody)
            raise
        log.info("device_subscribed", device=caller.device_id, incarnation=caller.incarnation)
        try:
            async with aclosing(opened[0].events()) as events:
                async for event in events:
                    yield convert.event_to_pb(event)
        finally:
            self._owner.post(Unsubscribed(caller), unless=is_nobody)
            log.info("device_unsubscribed", device=caller.device_id)

    @override
    async def PullModel(
        self, request: pb.PullModelRequest, context: Context
    ) -> AsyncIterator[pb.PullModelResponse]:
        """The base is held before the first byte leaves."""
        if self._pulls >= MAX_PULLS:
            raise Overloaded(
                f"{MAX_PULLS} models are on their way out already; pull again in "
                f"{PULL_AGAIN_S:g} s",
                PULL_AGAIN_S,
            )
        self._pulls += 1
        try:
            async with aclosing(self._model_parts(request)) as parts:
                async for part in parts:
                    yield part
        finally:
            self._pulls -= 1

    async def _model_parts(
        self, request: pb.PullModelRequest
    ) -> AsyncGenerator[pb.PullModelResponse, None]:
        spec = convert.spec_from_pb(request.spec)
        plan = self._model.plan(spec)
        version, model, exchanged = await self._pick(request, spec)
        if model is None:
            yield pb.PullModelResponse(unchanged=pb.PullModelResponse.Unchanged(version=version))
            return
        payload = await asyncio.to_thread(self._model.encode, model, plan, exchanged)
        yield convert.pull_header_to_pb(version, payload.header, spec)
        for chunk in chunks(payload.body, chunk_bytes=self._terms.chunk_bytes):
            yield pb.PullModelResponse(chunk=chunk)
            self._tally.bytes_pulled += len(chunk.data)

    @override
    async def PushUpdate(
        self, request_iterator: AsyncIterator[PushMessage], context: Context
    ) -> AsyncIterator[pb.PushUpdateResponse]:
        """Answered when the update is durable; the same update_id gets the same answer again."""
        first = await anext(aiter(request_iterator), None)
        if not isinstance(first, pb.PushUpdateRequest) or not first.HasField("header"):
            raise InvalidRequest("a push begins with a header; send that first", field="header")
        header, payload = convert.push_header_from_pb(first.header)
        place = await self._intake.open(header, payload)
        if not isinstance(place, Staged):
            yield pb.PushUpdateResponse(outcome=convert.outcome_to_pb(place))
            return
        with self._intake.receiving(place):
            yield pb.PushUpdateResponse(resume_offset=place.received)
            await _receive(request_iterator, place)
            if place.is_complete:
                outcome = await self._intake.finish(place)
        if not place.is_complete:
            self._intake.broke_off(place)
            raise CorruptPayload(
                f"the stream ended at byte {place.received} of the body; push again and send the "
                "rest"
            )
        yield pb.PushUpdateResponse(outcome=convert.outcome_to_pb(outcome))
        reach(Failpoint.AFTER_ACKNOWLEDGEMENT)

    @override
    async def ListVersions(
        self, request: pb.ListVersionsRequest, context: Context
    ) -> pb.ListVersionsResponse:
        """Newest first."""
        size = convert.page_size(request.page_size)
        below = _token(request.page_token)
        found = await self._records.versions(below, size + 1)
        page = await self._marked(found[:size])
        return pb.ListVersionsResponse(
            versions=map(convert.version_record_to_pb, page),
            next_page_token=str(page[-1].version) if len(found) > size else "",
        )

    @override
    async def WatchVersions(
        self, request: pb.WatchVersionsRequest, context: Context
    ) -> AsyncIterator[pb.WatchVersionsResponse]:
        """Until the caller hangs up or the aggregator stops."""
        after = checks.version("after_version", request.after_version)
        async with aclosing(self._records.watch(after)) as records:
            async for record in records:
                (marked,) = await self._marked([record])
                yield pb.WatchVersionsResponse(version=convert.version_record_to_pb(marked))

    @override
    async def GetLineage(
        self, request: pb.GetLineageRequest, context: Context
    ) -> pb.GetLineageResponse:
        """Newest first."""
        size = convert.page_size(request.page_size)
        record = await self._records.version(checks.version("version", request.version))
        updates, following = await self._records.lineage(
            record.version, _token(request.page_token), size
        )
        return pb.GetLineageResponse(
            version=record.version,
            updates=map(convert.update_record_to_pb, updates),
            next_page_token="" if following is None else str(following),
        )

    @override
    async def GetStatus(
        self, request: pb.GetStatusRequest, context: Context
    ) -> pb.GetStatusResponse:
        """All numbers of the same moment."""
        status = await self._owner.read(
            lambda core: self._tally.status(core, self._owner.newest_digest)
        )
        return convert.status_to_pb(status)

    async def _pick(
        self, request: pb.PullModelRequest, spec: SubmodelSpec
    ) -> tuple[Version, Tensor | None, Tensor | None]:
        """The version to send, its values unless the caller has nothing older, what goes with them.

        Only who takes a base must hold a lease, and gets more than the model: reading changes
        nothing.
        """
        caller = convert.caller_from_pb(request.caller) if request.for_training else None
        why = checks.line("why", request.why, checks.LONGEST_WHY)

        def pick(core: Core, take: Take) -> tuple[Version, Tensor | None, Tensor | None]:
            newest = core.newest.version
            version = Version(request.version) or newest
            model = core.versions.get(version)
            exchanged = None
            if caller is not None:
                exchanged = core.exchanged(version)
                take(BaseTaken(caller, version, spec, why))
            # A caller ahead of the newest has a version that was lost with a crash: send anew.
            known = request.only_if_newer_than
            if known == newest and not request.version:
                return version, None, None
            return version, model, exchanged

        if caller is None:
            return await self._owner.transact(pick, ahead=True)
        return await self._admitted(caller, pick)

    async def _admitted(
        self,
        caller: Caller,
        work: Callable[[Core, Take], R],
        before_telling: Callable[[], None] | None = None,
    ) -> R:
        """Run work for a device; one that the mirror does not know is looked up once."""
        try:
            return await self._owner.transact(work, ahead=True, before_telling=before_telling)
        except UnknownDevice:
            if self._roster is None:
                raise
            await self._roster.look_up(caller)
            return await self._owner.transact(work, ahead=True, before_telling=before_telling)

    async def _marked(self, records: list[VersionRecord]) -> list[VersionRecord]:
        """The records, saying which versions can be pulled now."""
        look = self._owner.transact(lambda core, _: core.versions.retained, ahead=True)
        retained = set(await look)
        return [replace(record, retained=record.version in retained) for record in records]


async def _receive(requests: AsyncIterator[PushMessage], place: Staged) -> None:
    while not place.is_complete:
        request = await anext(aiter(requests), None)
        if request is None:
            return
        chunk = chunk_of(request)
        if chunk is None:
            raise InvalidRequest("a push has one header; send chunks after it", field="chunk")
        await place.add(chunk)
        reach(Failpoint.MID_STREAM)


def _token(page_token: str) -> int | None:
    if not page_token:
        return None
    if not page_token.isdecimal() or len(page_token) > 18:
        raise InvalidRequest(
            f"page_token is {page_token[:80]!r}; send what the page before answered",
            field="page_token",
        )
    return int(page_token)
