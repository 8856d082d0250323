"""How far a study is: a bar with the time left for people, a line for each job otherwise."""

from __future__ import annotations

import math
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from hocket.cli.output import in_time
from hocket.sim.study.jobs import Failure, Job, Outcome

STAGES = {"calibration": "measuring", "tuning": "tuning", "report": "running"}


class Shown:
    """A context manager around the jobs of a study, told on `console`."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Progress(
            TextColumn("{task.description:<10}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._line = self._bar.add_task("", total=None, left="")
        self._done = self._total = 0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        """A line of its own."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def stage(self, name: str, total: int, done: int) -> None:
        """Another stage begins, part of it done in an earlier run."""
        self._total, self._done = total, done
        self._bar.update(self._line, description=name, total=total, completed=done, left="")
        kept = f" ({done} were run before)" if done else ""
        self.say(f"{name} {total} jobs{kept}")

    def ended(self, job: Job, outcome: Outcome, left_s: float) -> None:
        """One more job has ended."""
        self._done += 1
        left = f"{in_time(left_s)} left" if math.isfinite(left_s) else ""
        self._bar.update(self._line, completed=self._done, left=left)
        if isinstance(outcome, Failure):
            self.say(f"failed: {job.name}: {outcome.message}")
        elif not self._console.is_terminal:
            accuracy = outcome.accuracy()
            shown = "-" if accuracy is None else f"{accuracy:.4f}"
            self.say(
                f"[{self._done}/{self._total}] {job.name}: accuracy {shown} in "
                f"{outcome.wall_s:.0f} s; {left}"
            )
