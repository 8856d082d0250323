"""Does what the participant asks for, one effect at a time, and says how it went."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import TypeVar

import structlog

from hocket.core import participant_events as ev
from hocket.core.ids import UpdateId
from hocket.core.participant import Participant
from hocket.core.terms import TaskTerms
from hocket.core.update import Dropped, Outcome, UpdateHeader
from hocket.errors import HocketError, NotFinite, StaleIncarnation
from hocket.rpc.transfer import PulledModel
from hocket_device.courier import Courier
from hocket_device.learner import EpochResult, Interrupted, Learner

T = TypeVar("T")

log = structlog.get_logger()


@dataclass(slots=True)
class Performer:
    """Hands work to the training thread and transfers to the courier."""

    terms: TaskTerms
    participant: Participant
    learner: Learner
    courier: Courier
    thread: Executor  # of one worker: torch is used nowhere else
    _epochs: list[EpochResult] = field(default_factory=list)
    _fresh: PulledModel | None = None

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

    async def _perform(self, effect: ev.Effect) -> ev.Event | None:
        match effect:
            case ev.Pull():
                return await self._pull()
            case ev.TrainEpoch(epoch):
                return await self._train(epoch)
            case ev.PullFresh(base):
                limit_bytes = self.terms.manifest.dense_bytes
                spec = self.learner.spec
                self._fresh = await self.courier.pull_fresh(base, limit_bytes, spec)
                return ev.FreshArrived(None if self._fresh is None else self._fresh.version)
            case ev.Merge(_, beta):
                return await self._merge(beta)
            case ev.Push():
                return await self._push(effect)
            case ev.PutBackResidual():
                await self.in_thread(self.learner.put_back)
            case ev.ForgetResidual():
                await self.in_thread(self.learner.forget)
        return None

    async def _pull(self) -> ev.Event:
        limit_bytes = self.terms.manifest.dense_bytes
        pulled = await self.courier.pull(limit_bytes, self.learner.spec)
        training = self.participant.trainings
        await self.in_thread(lambda: self.learner.start(pulled.payload, training))
        self._epochs.clear()
        log.debug("pulled", version=pulled.version, bytes=pulled.num_bytes)
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
        return ev.EpochDone()

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
        try:
            outcome = await self.courier.push(self._header(push), payload)
        except StaleIncarnation:
            raise
        except HocketError as error:
            self.courier.tally.updates_refused += 1
            log.warning("update_refused", problem=error.message, reason=error.reason)
            return ev.PushRefused(error)
        self._settled(outcome, payload.header.wire_bytes)
        return ev.PushSettled(outcome)

    def _header(self, push: ev.Push) -> UpdateHeader:
        caller = self.courier.lease.caller
        return UpdateHeader(
            update_id=UpdateId(uuid.uuid4().hex),
            device_id=caller.device_id,
            incarnation=caller.incarnation,
            base_version=push.base_version,
            num_examples=self.learner.num_examples,
            num_steps=sum(epoch.steps for epoch in self._epochs),
            learning_rate=self.terms.training.learning_rate,
            train_loss=self._epochs[-1].mean_loss,
            train_s=push.train_s,
            spec=self.learner.spec,
            refresh=push.refresh,
        )

    def _settled(self, outcome: Outcome, wire_bytes: int) -> None:
        if isinstance(outcome, Dropped):
            self.courier.tally.updates_dropped += 1
            log.warning("update_dropped", reason=outcome.reason.name, tau=outcome.tau)
            return
        self.courier.tally.updates_accepted += 1
        log.info(
            "update_accepted",
            version=outcome.version,
            weight=round(outcome.weight, 4),
            tau=outcome.tau,
            loss=round(self._epochs[-1].mean_loss, 4),
            wire_bytes=wire_bytes,
        )

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Run blocking work in the training thread."""
        return await asyncio.get_running_loop().run_in_executor(self.thread, work)
