"""Held-out evaluation: the newest version wins, the last one is never skipped."""

from __future__ import annotations

import asyncio
import threading

import pytest
import torch
from hocket_aggregator.evaluation import Evaluator
from support.aggregating import until
from support.limits import LIMIT_S
from torch import Tensor

from hocket.core.events import Evaluated
from hocket.core.ids import Version
from hocket.core.records import Evaluation
from hocket.errors import DataError
from hocket.task.setup import Examine


async def test_overtaken_versions_are_skipped_and_the_last_is_not() -> None:
    go, begun, reported = threading.Event(), threading.Event(), list[int]()

    def examine(model: Tensor) -> Evaluation:
        begun.set()
        assert go.wait(LIMIT_S)
        return Evaluation(0.0, float(model))

    async def report(event: Evaluated) -> None:
        assert event.evaluation.test_accuracy == event.version / 10
        reported.append(event.version)

    evaluator = Evaluator(lambda: examine, report)
    running = asyncio.ensure_future(evaluator.run())
    evaluator.offer(Version(1), torch.tensor(0.1, dtype=torch.float64))
    await until(begun.is_set)
    for version in (2, 3, 4):
        evaluator.offer(Version(version), torch.tensor(version / 10, dtype=torch.float64))
    evaluator.offer(Version(4), torch.tensor(9.9))  # once is enough
    go.set()
    await evaluator.settled()
    assert reported == [1, 4]
    running.cancel()
    await asyncio.wait((running,))


async def test_data_that_cannot_be_read_ends_the_service() -> None:
    def load() -> Examine:
        raise DataError("no data at 'x'")

    async def report(_: Evaluated) -> None:
        """Never called."""

    with pytest.raises(DataError):
        await Evaluator(load, report).run()
