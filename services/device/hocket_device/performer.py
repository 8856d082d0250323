"""Does what the participant asks for, one effect at a time, and says how it went."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import structlog

from hocket.core import participant_events as ev
from hocket.core.backoff import backoff
from hocket.core.ids import UpdateId, Version
from hocket.core.participant import Participant
from hocket.core.participant_header import Trained, header_of
from hocket.core.sizing.size import Size
from hocket.core.terms import TaskTerms
from hocket.core.update import Dropped, Outcome, UpdateHeader
from hocket.errors import HocketError, NotFinite, StaleIncarnation
from hocket.hosting.failpoint import Failpoint, reach
from hocket.rpc.errors import is_unclear
from hocket.rpc.transfer import PulledModel
from hocket_device.courier import Courier
from hocket_device.keeper import Keeper
from hocket_device.learner import Interrupted, Learner
from hocket_device.outbox import Parcel

if TYPE_CHECKING:
    from hocket.learn.local_learner import EpochResult

T = TypeVar("T")

FULL_DISK_S = 60.0  # the longest wait before another try to write the outbox

log = structlog.get_logger()


@dataclass(slots=True)
class Performer:
    """Hands work to the training thread, transfers to the courier, updates on their way to disk."""

    terms: TaskTerms
    participant: Participant
    learner: Learner
    courier: Courier
    keeper: Keeper
    thread: Executor  # of one worker: torch is used nowhere else
    _epochs: list[EpochResult] = field(default_factory=list)
    _fresh: PulledModel | None = None
    _pull_began: float | None = None  # of the training in flight; None: in an earlier life

    async def perform(self, effect: ev.Effect) -> ev.Event | None:
        """Carry an effect out; the event that it comes to, if any.

        A training that diverges or is interrupted comes to Failed. Raises HocketError for what
        no retry mends.
        """
        try:
            return await self._perform(effect)
        except Interrupted:
            return ev.Failed()
        except NotFinite as error:
            log.warning("training_failed", problem=error.message)
            return ev.Failed()

    async def _perform(  # noqa: PLR0911 -- a table
        self, effect: ev.Effect
    ) -> ev.Event | None:
        match effect:
            case ev.Pull(_, size):
                return await self._pull(size)
            case ev.TrainEpoch(epoch):
                return await self._train(epoch)
            case ev.PullFresh(base):
                return await self._pull_fresh(base)
            case ev.Merge(_, beta):
                return await self._merge(beta)
            case ev.Push():
                return await self._push(effect)
            case ev.PushAgain():
                return await self._send()
            case ev.PutBackResidual():
                await self.in_thread(self.learner.put_back)
            case ev.ForgetResidual():
                await self.in_thread(self.learner.forget)
        return None

    async def _pull(self, size: Size) -> ev.Event:
        self._pull_began = self.courier.clock.now()
        limit_bytes = self.terms.down_bytes
        pulled = await self.courier.pull(limit_bytes, size)
        training = self.participant.trainings
        await self.in_thread(lambda: self.learner.start(pulled.payload, training, size))
        self._epochs.clear()
        self._fresh = None
        log.debug("pulled", version=pulled.version, bytes=pulled.num_bytes, size=size.why)
        return ev.Pulled(pulled.version)

    async def _train(self, epoch: int) -> ev.Event:
        result = await self.in_thread(lambda: self.learner.train_epoch(epoch))
        self._epochs.append(result)
        log.debug(
            "epoch_trained",
            epoch=epoch,
            loss=round(result.mean_loss, 4),
            steps=result.steps,
            seconds=round(result.seconds, 3),
            rows={str(round(cost, 3)): count for cost, count in result.rows.items()},
        )
        return ev.EpochDone(result.fisher)

    async def _pull_fresh(self, base: Version) -> ev.Event:
        limit_bytes = self.terms.manifest.dense_bytes
        self._fresh = await self.courier.pull_fresh(base, limit_bytes, self.learner.spec)
        return ev.FreshArrived(None if self._fresh is None else self._fresh.version)

    async def _merge(self, beta: float) -> ev.Event:
        fresh, self._fresh = self._fresh, None
        if fresh is None:
            raise RuntimeError("asked to merge a fresh model that was not pulled")
        report = await self.in_thread(lambda: self.learner.merge(fresh.payload, beta))
        reward = report.loss_before - report.loss_after
        log.debug("fresh_merged", version=fresh.version, beta=beta, reward=reward)
        return ev.Merged(reward, report.inner_product)

    async def _push(self, push: ev.Push) -> ev.Event:
        payload = await self.in_thread(self.learner.encode)
        if not await self._keep(Parcel(self._header(push), payload)):
            await self.in_thread(self.learner.put_back)
            return ev.Failed()
        reach(Failpoint.OUTBOX_WRITTEN)
        return await self._send()

    async def _keep(self, parcel: Parcel) -> bool:
        """Put the update in the outbox, however long the disk is full.

        False if the task is over before: then it would be of no use to anybody.
        """
        attempt = 0
        while not self.participant.finishing:
            kept = self.participant.to_dict()
            try:
                await self.in_thread(partial(self.keeper.commit, kept, parcel))
            except OSError as error:
                wait_s = 1.0 + backoff(attempt, self.courier.chance, longest_s=FULL_DISK_S)
                log.warning(
                    "update_held_back",
                    problem=f"the outbox cannot be written ({error}); make room in the state "
                    "folder: an update is pushed only once it would survive a restart",
                    retry_s=round(wait_s, 1),
                )
                await self.courier.clock.sleep_until(self.courier.clock.now() + wait_s)
                attempt += 1
            else:
                return True
        return False

    async def _send(self) -> ev.Event:
        """See what is in the outbox through to its outcome.

        Only who refuses an update says that it is not used. One whose end stays unclear may be part
        of the model, so it is given up without being put back: an update that is lost costs one
        training, as a kill does, but one that counts twice is never taken out again.
        """
        parcel = self.keeper.parcel
        if parcel is None:
            raise RuntimeError("asked to push though the outbox is empty")
        try:
            outcome = await self.courier.push(parcel.header, parcel.payload)
        except StaleIncarnation:
            raise
        except HocketError as error:
            if is_unclear(error):
                update = parcel.header.update_id
                log.warning("update_given_up", update=update, problem=error.message)
                return ev.Failed()
            reach(Failpoint.OUTCOME_KNOWN)
            self.courier.tally.updates_refused += 1
            log.warning("update_refused", problem=error.message, reason=error.reason)
            return ev.PushRefused(error)
        reach(Failpoint.OUTCOME_KNOWN)
        began, self._pull_began = self._pull_began, None
        if began is not None:
            took_s = self.courier.clock.now() - began
            await self.in_thread(lambda: self.learner.settled(took_s))
        self._settled(outcome, parcel)
        return ev.PushSettled(outcome)

    def _header(self, push: ev.Push) -> UpdateHeader:
        training = Trained(
            num_examples=self.learner.num_examples,
            num_steps=sum(epoch.steps for epoch in self._epochs),
            train_loss=self._epochs[-1].mean_loss,
            train_loss_rms=self._epochs[-1].loss_rms,
            labels=self.learner.classes,
        )
        caller, update_id = self.courier.lease.caller, UpdateId(uuid.uuid4().hex)
        return header_of(push, caller, update_id, training, self.terms)

    def _settled(self, outcome: Outcome, parcel: Parcel) -> None:
        if isinstance(outcome, Dropped):
            self.courier.tally.updates_dropped += 1
            log.warning("update_dropped", reason=outcome.reason.name, tau=outcome.tau)
            return
        self.courier.tally.updates_accepted += 1
        log.info(
            "update_accepted",
            update=parcel.header.update_id,
            version=outcome.version,
            weight=round(outcome.weight, 4),
            tau=outcome.tau,
            loss=round(parcel.header.train_loss, 4),
            wire_bytes=parcel.payload.header.wire_bytes,
        )

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Run blocking work in the training thread."""
        return await asyncio.get_running_loop().run_in_executor(self.thread, work)
