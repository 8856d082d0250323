"""Jobs on a Ray cluster: the one that RAY_ADDRESS names, else one of this machine's cores.

Files are named by their paths, so every machine of the cluster must have them at the same places.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Generic, Literal, Self

from hocket.cli.compare.engine import JobT, RowT, Told, Work
from hocket.cli.compare.worker import outcome_of
from hocket.errors import StartupError, TaskError
from hocket.sim.study.jobs import Failure

ADDRESS = "RAY_ADDRESS"  # read by Ray


class OnRay(Generic[JobT, RowT]):
    """An engine of a Ray cluster: each job has a processor core, and for "cuda" a GPU of its own.

    Args:
        make_work: called in the processes of the cluster, for each job; it remembers its answer.
        device: where nets are trained.

    Raises StartupError where Ray is not installed or does not start, TaskError where a GPU is
    asked for and the cluster has none.
    """

    def __init__(
        self,
        make_work: Callable[[], Work[JobT, RowT]],
        device: Literal["cpu", "cuda"] = "cpu",
    ) -> None:
        try:
            import ray  # noqa: PLC0415 - only who asks for it needs it
        except ImportError as missing:
            raise StartupError(
                "--engine ray needs Ray, which is not installed: pip install 'hocket[ray]', or "
                "leave the option out and use this machine's cores"
            ) from missing
        self._ray: Any = ray
        try:
            ray.init(ignore_reinit_error=True, log_to_driver=False, include_dashboard=False)
        except Exception as error:  # it raises errors of many kinds, and each means: no cluster
            raise _no_cluster(error) from error
        self._needs = ("CPU", "GPU") if device == "cuda" else ("CPU",)
        if device == "cuda" and not ray.cluster_resources().get("GPU"):
            ray.shutdown()
            raise TaskError(
                "device is 'cuda', but no machine of the Ray cluster offers a GPU; start Ray on "
                "one that has, or take device 'cpu'"
            )
        asked = {f"num_{kind.lower()}s": 1 for kind in self._needs}

        def carry_out(job: JobT) -> RowT | Failure:
            return outcome_of(job, make_work())

        # A lost worker's job is run once more; what a job itself raises is its outcome.
        self._remote = ray.remote(**asked, max_retries=1)(carry_out)

    @property
    def lanes(self) -> int:
        """For how many jobs the cluster has cores, and GPUs where they need them."""
        there = self._ray.cluster_resources()
        return max(1, min(int(there.get(kind, 1)) for kind in self._needs))

    def run(self, jobs: Sequence[JobT], told: Told[JobT, RowT]) -> None:
        """See Engine."""
        pending = {self._remote.remote(job): job for job in jobs}
        while pending:
            done, _ = self._ray.wait(list(pending), num_returns=1)
            for reference in done:
                job = pending.pop(reference)
                try:
                    outcome = self._ray.get(reference)
                except self._ray.exceptions.RayError as error:
                    outcome = Failure(f"{type(error).__name__}: {error}")
                told(job, outcome)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ray.shutdown()


def _no_cluster(error: Exception) -> StartupError:
    address = os.environ.get(ADDRESS)
    why = str(error).partition("\n")[0] or type(error).__name__
    if address:
        return StartupError(
            f"the Ray cluster at {address} ({ADDRESS}) cannot be used: {why}; start it, correct "
            "the address, set RAY_AUTH_MODE=token if it wants a token, or leave --engine ray out "
            "and use this machine's cores"
        )
    return StartupError(
        f"Ray cannot be started on this machine: {why}; set {ADDRESS} to a running cluster, or "
        "leave --engine ray out"
    )
