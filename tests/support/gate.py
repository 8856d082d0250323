"""A learner's epochs, held back until the test has seen what it waits for."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import pytest
from support.limits import LIMIT_S

from hocket.learn.local_learner import EpochResult, LocalLearner


@dataclass
class Gate:
    """Local epochs: which have ended, and one that begins only once the gate is open."""

    closed_before: int = 0  # 0: no epoch
    open: threading.Event = field(default_factory=threading.Event)
    ended: list[int] = field(default_factory=list)

    def put(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Into the way of every learner."""
        train = LocalLearner.train_epoch

        def train_epoch(learner: LocalLearner, epoch: int) -> EpochResult:
            if epoch == self.closed_before:
                assert self.open.wait(LIMIT_S)
            result = train(learner, epoch)
            self.ended.append(epoch)
            return result

        monkeypatch.setattr(LocalLearner, "train_epoch", train_epoch)
