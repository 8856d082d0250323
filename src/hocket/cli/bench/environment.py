"""What a figure depends on besides the code: this machine, these versions, this command."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Environment:
    """Told with every result."""

    cpus: int
    system: str
    python: str
    grpcio: str
    torch: str
    hocket: str
    commit: str  # empty: not a checkout
    command: str


def environment() -> Environment:
    """Of this process."""
    return Environment(
        cpus=len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1,
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        grpcio=_version("grpcio"),
        torch=_version("torch"),
        hocket=_version("hocket"),
        commit=_commit(Path(__file__).parent),
        command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _commit(folder: Path) -> str:
    """The checkout's commit, with a + where files differ from it."""
    try:
        told = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"],  # noqa: S607 -- whichever git is on the PATH
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return told.stdout.strip() if told.returncode == 0 else ""
