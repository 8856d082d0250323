"""What a worker does: it takes jobs until none is left, and tells what each came to."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from multiprocessing.connection import Connection

from hocket.cli.bench.environment import environment
from hocket.cli.compare.engine import JobT, RowT, Work
from hocket.errors import HocketError
from hocket.hosting.parent import PARENT_VARIABLE, end_with_parent
from hocket.sim.study.jobs import Failure, Job, Made, Row


def serve(connection: Connection, parent: int, make_work: Callable[[], Work[JobT, RowT]]) -> None:
    """A worker process's main: jobs come in and outcomes go out, until the other end closes.

    Ctrl-C is the parent's to answer; if the parent dies, so does the worker.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ[PARENT_VARIABLE] = str(parent)
    end_with_parent()
    work = make_work()
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        connection.send(outcome_of(job, work))


def outcome_of(job: JobT, work: Work[JobT, RowT]) -> RowT | Failure:
    """The job's row, or why there is none: one failing job must not stop the others."""
    here = _here()  # before the work: the files may change while it lasts
    try:
        row = work(job)
        return replace(row, made=replace(here, finished_unix_s=time.time()))
    except HocketError as error:
        return Failure(error.message)
    except Exception as error:  # noqa: BLE001 - whatever it was, it is told by the job's name
        return Failure(f"{type(error).__name__}: {error}")


@cache
def _here() -> Made:
    """This process's code and machine; when is told with each row."""
    known = environment()
    return Made(
        code=known.commit or f"Hocket {known.hocket}",
        torch=known.torch,
        machine=f"{known.system}, {known.cpus} processor cores",
        finished_unix_s=time.time(),
    )


@cache
def simulating() -> Work[Job, Row]:
    """The work of every study: real simulations, one torch thread each, data read once."""
    import torch  # noqa: PLC0415 -- takes seconds, and the parent needs none

    from hocket.sim.study.run_job import JobRunner  # noqa: PLC0415 -- imports torch

    torch.set_num_threads(1)
    return JobRunner(time.perf_counter)
