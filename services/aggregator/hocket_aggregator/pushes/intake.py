"""Updates on their way in: everything is checked before it can touch the model."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import structlog
import torch
from torch import Tensor

from hocket.core.coordinator import header_caller
from hocket.core.events import PushBroken, Pushed, PushStarted, Refused, Settled
from hocket.core.payload import Payload, PayloadHeader
from hocket.core.terms import TaskTerms
from hocket.core.update import Outcome, Update, UpdateHeader
from hocket.errors import (
    HocketError,
    Overloaded,
    Unavailable,
    UnknownDevice,
    UnknownVersion,
)
from hocket.learn.submodels.plan import IndexPlan
from hocket.learn.submodels.sliceable import Sliceable, main_codec
from hocket.task.soundness import check_update
from hocket_aggregator.finishing import finished
from hocket_aggregator.job import Core, Take
from hocket_aggregator.metadata.records import Records
from hocket_aggregator.owner import Owner
from hocket_aggregator.pushes.staging import Staged, Staging
from hocket_aggregator.roster import Roster
from hocket_aggregator.size import is_small

log = structlog.get_logger()

R = TypeVar("R")

DECODED_BYTES = 512 * 1024 * 1024  # of updates between their body and the rules, all together
MOST_DECODED = 32

PASSING = (Overloaded, Unavailable, UnknownDevice)
"""Errors that say nothing against the update: it may be pushed again, after a Join if need be."""


class Intake:
    """Takes one update after the other through admission, staging, decoding and the rules."""

    def __init__(
        self,
        owner: Owner,
        terms: TaskTerms,
        model: Sliceable,
        staging: Staging,
        records: Records,
        roster: Roster | None = None,
    ) -> None:
        self._owner = owner
        self._terms = terms
        self._model = model
        self._staging = staging
        self._records = records
        self._roster = roster
        room = DECODED_BYTES // terms.down_bytes
        self._decoded = asyncio.Semaphore(max(2, min(MOST_DECODED, room)))

    async def open(self, header: UpdateHeader, payload: PayloadHeader) -> Outcome | Staged:
        """Admit an update by its header: a place for its body, or an answer that needs none.

        Raises UnknownDevice, StaleIncarnation, UnknownVersion, InvalidUpdate, PayloadTooLarge,
        InvalidRequest or Overloaded.
        """
        try:
            answered = await self._admit(header, main_codec(payload))
        except HocketError as error:
            self._refused(header, error)
            raise
        if answered is not None:
            return answered
        try:
            check_update(header, payload, self._terms, self._model)
            return self._staging.open(header, payload)
        except HocketError as error:
            if isinstance(error, PASSING):
                self._owner.post(PushBroken(header))
            self._refused(header, error)
            raise

    async def finish(self, staged: Staged) -> Outcome:
        """Decode the whole body and have it applied. Raises what makes it unusable.

        Once begun it is done to the end, also when the caller has gone.
        """
        return await finished(self._apply(staged))

    async def _apply(self, staged: Staged) -> Outcome:
        header = staged.header
        plan = self._model.plan(header.spec)
        payload = await staged.finish()
        try:
            async with self._decoded:  # a small body can unpack to a whole model
                update = await self._decode(header, payload, plan)
                effects = await self._owner.handle(Pushed(update))
            staged.settle()
        finally:
            staged.give_up()
        return next(effect.outcome for effect in effects if isinstance(effect, Settled))

    async def _decode(
        self, header: UpdateHeader, payload: Payload, plan: IndexPlan
    ) -> Update[Tensor]:
        if is_small(self._terms.travelling):
            return self._model.decode(header, payload, plan)
        return await asyncio.to_thread(self._model.decode, header, payload, plan)

    @contextmanager
    def receiving(self, staged: Staged) -> Iterator[None]:
        """While a body comes in: what breaks off may be resumed, what is unsound is forgotten."""
        try:
            yield
        except HocketError as error:
            if isinstance(error, PASSING):
                self.broke_off(staged)
            else:
                staged.discard()
                self._refused(staged.header, error)
            raise
        except BaseException:  # the stream was cancelled, or there is a bug
            self.broke_off(staged)
            raise

    def broke_off(self, staged: Staged) -> None:
        """The stream ended before its time; the bytes stay for another."""
        staged.leave()
        self._owner.post(PushBroken(staged.header))

    def _refused(self, header: UpdateHeader, error: HocketError) -> None:
        """Tell the rules that an update was answered with an error."""
        if isinstance(error, PASSING):
            return
        log.info(
            "update_refused",
            device=header.device_id,
            update=header.update_id,
            reason=error.reason,
            message=error.message,
        )
        self._owner.post(Refused(header))

    async def _admit(self, header: UpdateHeader, codec: str) -> Outcome | None:
        """The answer to an update that needs no body: it was settled, or would be dropped.

        None for any other, which has begun then: one turn, since each may wait for a server step.
        """
        # Whatever the body of such an update holds, spare the device the transfer.
        empty: Update[Tensor] = Update(header, torch.empty(0), codec=codec)

        def take_in(_: Core, take: Take) -> Outcome:
            effects = take(Pushed(empty))
            return next(effect.outcome for effect in effects if isinstance(effect, Settled))

        def look(core: Core, take: Take) -> Outcome | bool:
            answer = core.offered(header)
            if answer is None:
                take(PushStarted(header))
            elif core.settled(header) is not None:
                return take_in(core, take)
            return answer is not None

        try:
            found = await self._admitted(header, look)
        except UnknownVersion:
            earlier = await self._records.outcome(header)
            if earlier is None:
                raise
            return earlier
        if not isinstance(found, bool):
            return found
        if not found:
            return None
        # So old that the rules may have forgotten what became of it; the records have not.
        return await self._records.outcome(header) or await self._admitted(header, take_in)

    async def _admitted(self, header: UpdateHeader, work: Callable[[Core, Take], R]) -> R:
        """Run work for a device; one that the mirror does not know is looked up once."""
        try:
            return await self._owner.transact(work, ahead=True)
        except UnknownDevice:
            if self._roster is None:
                raise
            await self._roster.look_up(header_caller(header))
            return await self._owner.transact(work, ahead=True)
