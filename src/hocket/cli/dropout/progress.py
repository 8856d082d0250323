"""How far a search is: a bar with the time left for people, a line a generation otherwise."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from hocket.cli.output import in_time


class Shown:
    """A context manager around a search of so many vectors at most, told on `console`."""

    def __init__(self, console: Console, total: int) -> None:
        self._console = console
        self._bar = Progress(
            TextColumn("{task.description:<18}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._line = self._bar.add_task("", total=total, left="")
        self._total, self._done, self._run = total, 0, 0
        self._began_s = time.monotonic()

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

    def stage(self, name: str, vectors: int, kept: int, planned: int) -> None:
        """A stage of so many vectors begins, some tried in an earlier run; fewer than planned."""
        self._total -= planned - vectors
        self._done += kept
        self._bar.update(self._line, description=name, total=self._total, completed=self._done)
        if not self._console.is_terminal:
            before = f", {kept} tried before" if kept else ""
            self.say(f"[{self._done}/{self._total}] {name}: {vectors} vectors{before}{self._left}")

    def ended(self) -> None:
        """One more vector has been tried."""
        self._done += 1
        self._run += 1
        self._bar.update(self._line, completed=self._done, left=self._left.removeprefix("; "))

    @property
    def _left(self) -> str:
        if not self._run:
            return ""
        each_s = (time.monotonic() - self._began_s) / self._run
        return f"; {in_time(each_s * max(0, self._total - self._done))} left"
