"""Jobs on the processor cores of this machine: one process each, kept for the next job."""

from __future__ import annotations

import multiprocessing
import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import TracebackType
from typing import Generic, Self

from hocket.cli.compare.engine import JobT, RowT, Told, Work
from hocket.cli.compare.worker import serve
from hocket.sim.study.jobs import Failure

TRIES = 2
"""A job whose worker was lost is run once more."""
ENDING_S = 5.0


@dataclass(slots=True)
class _Worker(Generic[JobT, RowT]):
    """A process, the line to it, and what it has in hand."""

    process: SpawnProcess
    line: Connection
    job: JobT | None = None

    def give(self, job: JobT) -> None:
        self.job = job
        with suppress(OSError):  # it has just died: its line says so when it is read
            self.line.send(job)

    def outcome(self) -> RowT | Failure | None:
        """What its job came to; None: it was lost, and the job with it."""
        try:
            outcome: RowT | Failure = self.line.recv()
        except (EOFError, OSError):
            return None
        return outcome


class Processes(Generic[JobT, RowT]):
    """An engine of so many spawned processes.

    Args:
        lanes: jobs that run at the same time.
        make_work: called once in each process; importable, since it is named to them.
    """

    def __init__(self, lanes: int, make_work: Callable[[], Work[JobT, RowT]]) -> None:
        self.lanes = lanes
        self._make_work = make_work
        self._context = multiprocessing.get_context("spawn")
        self._workers: list[_Worker[JobT, RowT]] = []

    def run(self, jobs: Sequence[JobT], told: Told[JobT, RowT]) -> None:
        """See Engine."""
        waiting, tries = deque(jobs), Counter[str]()
        while True:
            self._hand_out(waiting)
            busy = [worker for worker in self._workers if worker.job is not None]
            if not busy:
                return
            for worker, job in self._ended(busy):
                outcome = worker.outcome()
                if outcome is not None:
                    told(job, outcome)
                    continue
                tries[job.key] += 1
                how = self._bury(worker)
                if tries[job.key] < TRIES:
                    waiting.appendleft(job)
                else:
                    told(job, Failure(f"its worker process ended {how}, {TRIES} times over"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for worker in self._workers:
            worker.line.close()  # it ends by itself when it has no job in hand
            if worker.job is not None:
                worker.process.terminate()
        for worker in self._workers:
            worker.process.join(ENDING_S)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.process.close()
        self._workers.clear()

    def _hand_out(self, waiting: deque[JobT]) -> None:
        for worker in list(self._workers):
            if waiting and worker.job is None:
                if worker.process.is_alive():
                    worker.give(waiting.popleft())
                else:
                    self._bury(worker)
        while waiting and len(self._workers) < self.lanes:
            worker = self._started()
            worker.give(waiting.popleft())
            self._workers.append(worker)

    def _started(self) -> _Worker[JobT, RowT]:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=serve, args=(theirs, os.getpid(), self._make_work), daemon=True
        )
        process.start()
        theirs.close()  # so that a dead worker's line ends
        return _Worker(process, ours)

    def _ended(self, busy: list[_Worker[JobT, RowT]]) -> Iterator[tuple[_Worker[JobT, RowT], JobT]]:
        """The workers that have something to tell, or are dead, and the jobs that they had."""
        ready = set(wait([worker.line for worker in busy]))
        for worker in busy:
            if worker.line in ready and worker.job is not None:
                job, worker.job = worker.job, None
                yield worker, job

    def _bury(self, worker: _Worker[JobT, RowT]) -> str:
        """Forget a dead worker; how it ended."""
        self._workers.remove(worker)
        worker.line.close()
        worker.process.join(ENDING_S)
        code = worker.process.exitcode
        return f"by signal {-code}" if code is not None and code < 0 else f"with exit code {code}"
