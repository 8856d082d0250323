# ruff: noqa: N802 - a servicer's methods are named by the contract
"""An aggregator whose every answer the test chooses: real gRPC, and none of the service's code."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import torch
from support.serving import sent
from torch import Tensor

from hocket.core.device import Caller
from hocket.core.ids import FIRST_VERSION, Version
from hocket.core.payload import Payload
from hocket.core.terms import Finished, TaskTerms, Trigger
from hocket.core.update import Applied, Outcome, UpdateHeader
from hocket.errors import Unavailable, UnknownDevice
from hocket.learn.codecs import Raw
from hocket.learn.codecs.payload import decode_payload, encode_payload
from hocket.learn.submodels.layout import ChannelGraph
from hocket.learn.submodels.plan import plan_of
from hocket.rpc import convert
from hocket.rpc.chunks import Assembler, chunks
from hocket.v1 import aggregator_pb2 as pb
from hocket.v1 import aggregator_pb2_grpc


@dataclass
class TakenUpdate:
    """An update that came whole, decoded as the aggregator would."""

    header: UpdateHeader
    delta: Tensor
    wire_bytes: int


@dataclass
class FakeAggregator(aggregator_pb2_grpc.AggregatorServiceServicer):
    """Hands out `vector` as `version`; each update that comes whole is noted, not applied."""

    terms: TaskTerms
    vector: Tensor
    graph: ChannelGraph
    version: Version = FIRST_VERSION
    newer_after_pull: bool = False  # the version grows once a base was handed out
    outcome: Outcome = field(default_factory=lambda: Applied(Version(2), 0.5, 0))
    refuse_push: Exception | None = None  # of the next push
    lost_answers: list[grpc.StatusCode] = field(default_factory=list)  # of pushes, once settled
    cut_push_at: int = 0  # end the next push once this many bytes have come
    stall_push_at: int = 0  # read no more of the next push once this many bytes have come
    known: set[Caller] = field(default_factory=set)  # empty: anyone
    pulls: list[pb.PullModelRequest] = field(default_factory=list)
    hold_push: asyncio.Event | None = None  # a push that begins waits for it before settling
    hold_answer: asyncio.Event | None = None  # and for this after settling
    hold_fresh: asyncio.Event | None = None  # wait for it before answering a pull in mid-training
    fresh_given_up: asyncio.Event = field(default_factory=asyncio.Event)  # while it was held
    arrived: asyncio.Queue[str] = field(default_factory=asyncio.Queue)  # update_ids of headers
    push_ids: list[str] = field(default_factory=list)  # of each attempt
    resumed_at: list[int] = field(default_factory=list)
    subscribers: asyncio.Queue[Caller] = field(default_factory=asyncio.Queue)
    said_training: list[bool] = field(default_factory=list)  # of each subscription
    taken: asyncio.Queue[TakenUpdate] = field(default_factory=asyncio.Queue)
    _streams: dict[str, object] = field(default_factory=dict)  # the newest of each device
    _say: asyncio.Queue[Trigger | Finished] = field(default_factory=asyncio.Queue)
    _finished: Finished | None = None
    _untaken: dict[str, list[Trigger]] = field(default_factory=dict)  # said, and no base pulled
    _partial: dict[str, Assembler] = field(default_factory=dict)
    _settled: dict[str, Outcome] = field(default_factory=dict)

    def trigger(self, slot: int = 0) -> None:
        """Ask whoever listens to train, in a task that goes on."""
        self._finished = None
        self._say.put_nowait(Trigger(f"{self.version}-1", self.version, slot, 60.0))

    def finish(self) -> None:
        """The task is over, as whoever subscribes later hears, too."""
        self._finished = Finished("the test is over")
        self._say.put_nowait(self._finished)

    async def GetTask(self, _request: pb.GetTaskRequest, _context: Any) -> pb.GetTaskResponse:
        return convert.task_terms_to_pb(self.terms)

    async def Subscribe(
        self, request: pb.SubscribeRequest, _context: Any
    ) -> AsyncIterator[pb.SubscribeResponse]:
        caller = convert.caller_from_pb(request.caller)
        self._admit(caller)
        self.said_training.append(request.training)
        self.subscribers.put_nowait(caller)
        mine = self._streams[caller.device_id] = object()
        untaken = self._untaken.setdefault(caller.device_id, [])
        # What was said to a stream that its device was leaving is lost: it is said once more.
        for lost in [] if request.training else list(untaken):
            yield convert.event_to_pb(lost)
        if self._finished is not None and self._say.empty():
            yield convert.event_to_pb(self._finished)
        while True:
            said = await self._say.get()
            if self._streams[caller.device_id] is not mine:  # a newer stream is to say it
                self._say.put_nowait(said)
                return
            if isinstance(said, Trigger):
                untaken.append(said)
            yield convert.event_to_pb(said)

    async def PullModel(
        self, request: pb.PullModelRequest, _context: Any
    ) -> AsyncIterator[pb.PullModelResponse]:
        caller = convert.caller_from_pb(request.caller)
        self._admit(caller)
        self.pulls.append(request)
        if request.for_training and self._untaken.get(caller.device_id):
            self._untaken[caller.device_id].pop(0)
        if self.hold_fresh is not None and not request.for_training:
            try:
                await self.hold_fresh.wait()
            except asyncio.CancelledError:
                self.fresh_given_up.set()
                raise
        if request.only_if_newer_than >= self.version:
            unchanged = pb.PullModelResponse.Unchanged(version=self.version)
            yield pb.PullModelResponse(unchanged=unchanged)
            return
        spec = convert.spec_from_pb(request.spec)
        plan = plan_of(self.graph, spec)
        payload = encode_payload(
            plan.extract(self.vector), plan.sliced_manifest, Raw(), torch.Generator(), pack=False
        )
        yield convert.pull_header_to_pb(self.version, payload.header, spec)
        for chunk in chunks(payload.body):
            yield pb.PullModelResponse(chunk=chunk)
        if self.newer_after_pull:
            self.version = Version(self.version + 1)

    async def PushUpdate(
        self, requests: AsyncIterator[Any], context: Any
    ) -> AsyncIterator[pb.PushUpdateResponse]:
        header, payload = convert.push_header_from_pb((await anext(requests)).header)
        self._admit(Caller(header.device_id, header.incarnation))
        self.push_ids.append(header.update_id)
        self.arrived.put_nowait(header.update_id)
        hold_push, hold_answer = self.hold_push, self.hold_answer  # of now: others come later
        refusal, self.refuse_push = self.refuse_push, None
        if refusal is not None:
            raise refusal
        if header.update_id not in self._settled:
            partial = self._partial.setdefault(
                header.update_id, Assembler(payload, self.terms.max_update_bytes)
            )
            self.resumed_at.append(partial.received)
            yield pb.PushUpdateResponse(resume_offset=partial.received)
            async for request in requests:
                partial.add(sent(request))
                if 0 < self.stall_push_at <= partial.received:
                    self.stall_push_at = 0
                    await asyncio.Event().wait()
                if 0 < self.cut_push_at <= partial.received:
                    self.cut_push_at = 0
                    raise Unavailable("the line is dead")
            if hold_push is not None:
                await hold_push.wait()
            self._settle(header, partial.finish())
            if hold_answer is not None:
                await hold_answer.wait()
        if self.lost_answers:
            await context.abort(self.lost_answers.pop(0), "lost on its way back")
        outcome = convert.outcome_to_pb(self._settled[header.update_id])
        yield pb.PushUpdateResponse(outcome=outcome)

    def _settle(self, header: UpdateHeader, payload: Payload) -> None:
        self._settled[header.update_id] = self.outcome
        manifest = plan_of(self.graph, header.spec).sliced_manifest
        delta = decode_payload(payload, manifest)
        self.taken.put_nowait(TakenUpdate(header, delta, payload.header.wire_bytes))

    def _admit(self, caller: Caller) -> None:
        if self.known and caller not in self.known:
            raise UnknownDevice(f"device {caller.device_id!r} holds no lease; join first")
