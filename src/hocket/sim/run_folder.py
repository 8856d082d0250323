"""A run's folder: there whole, or not at all."""

from __future__ import annotations

import shutil
from itertools import chain, count
from pathlib import Path
from typing import Self

from hocket.errors import StartupError

LATEST = "latest"


class RunFolder:
    """A context manager around what is written into `runs/<name>/`.

    Within the block the files go to `path`, a hidden folder. When the block ends well it takes its
    name, with a number added if that is taken, and `runs/latest` leads to it; when an error or
    Ctrl-C ends the block it is removed. Raises StartupError where `runs` cannot be written.
    """

    def __init__(self, runs: Path, name: str) -> None:
        self._runs = runs
        self._wanted = name
        self.name = ""
        self.path = runs

    def __enter__(self) -> Self:
        _check_latest(self._runs)
        try:
            self._runs.mkdir(parents=True, exist_ok=True)
            self._take_name()
        except OSError as cause:
            raise StartupError(
                f"a run's folder cannot be made in {self._runs}: {cause.strerror}; choose another "
                "with --runs"
            ) from cause
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            shutil.rmtree(self.path, ignore_errors=True)
            return
        try:
            self.path = self.path.rename(self._runs / self.name)
        except OSError as cause:
            shutil.rmtree(self.path, ignore_errors=True)
            raise StartupError(
                f"{self._runs / self.name} cannot be made: {cause.strerror}; run it again"
            ) from cause
        point_latest(self._runs, self.name)

    def _take_name(self) -> None:
        """Make the hidden folder under the first name that is free, also of other processes."""
        for ending in chain([""], (f"-{number}" for number in count(2))):
            name = self._wanted + ending
            path = self._runs / f".{name}.partial"
            try:
                path.mkdir()
            except FileExistsError:
                continue
            if not (self._runs / name).exists():
                self.name, self.path = name, path
                return
            path.rmdir()


def point_latest(runs: Path, name: str) -> None:
    """`runs/latest` becomes a link to `runs/<name>`, in one step.

    Raises StartupError if something else is in its place, or it cannot be made.
    """
    _check_latest(runs)
    latest, partial = runs / LATEST, runs / f".{LATEST}-{name}"
    try:
        partial.symlink_to(name, target_is_directory=True)
        partial.replace(latest)
    except OSError as cause:
        raise StartupError(f"{latest} cannot be made: {cause.strerror}") from cause


def _check_latest(runs: Path) -> None:
    latest = runs / LATEST
    if latest.exists() and not latest.is_symlink():
        raise StartupError(f"{latest} is in the way: it is not a link; move it elsewhere")
