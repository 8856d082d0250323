"""A docker-compose.yml, really built and run by whatever engine this machine has."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

COMMAND_LIMIT_S = 60.0
BUILD_LIMIT_S = 1800.0  # torch may have to be fetched first
UP_LIMIT_S = 300.0
POLL_S = 0.5


class CommandFailed(Exception):
    """A command ended with an error; the message holds what it wrote."""


class NoEngine(Exception):
    """Containers cannot be run here; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Compose:
    """One project of a compose file. `command` is what `find_compose` found."""

    command: Sequence[str]
    file: Path
    project: str
    environment: Mapping[str, str] = field(default_factory=dict)

    def build(self) -> None:
        """Build every image."""
        self._run("build", limit_s=BUILD_LIMIT_S)

    def up(self) -> None:
        """Start everything, in the file's order, without waiting for the last to be healthy."""
        self._run("up", "--detach", "--no-build", limit_s=UP_LIMIT_S)

    def stop(self) -> None:
        """Tell every service to end."""
        self._run("stop")

    def down(self) -> None:
        """Remove containers, networks and volumes."""
        self._run("down", "--volumes", "--remove-orphans", "--timeout", "5")

    def logs(self) -> str:
        """What the services wrote, mixed."""
        return self._run("logs", "--no-color", "--timestamps")

    def containers(self) -> dict[str, str]:
        """Each service's container, running or not."""
        label = f"label=com.docker.compose.project={self.project}"
        form = '{{.Label "com.docker.compose.service"}} {{.ID}}'
        rows = docker("ps", "--all", "--filter", label, "--format", form).splitlines()
        return dict(map(str.split, rows))

    def states(self) -> dict[str, dict[str, Any]]:
        """What the engine knows of each service's container, as `docker inspect` shows it."""
        containers = self.containers()
        if not containers:
            return {}
        found = json.loads(docker("inspect", *containers.values()))
        return dict(zip(containers, found, strict=True))

    def execute(self, service: str, *command: str) -> str:
        """Run a command in a service's container, as that service's user."""
        return docker("exec", self.containers()[service], *command)

    def _run(self, *arguments: str, limit_s: float = COMMAND_LIMIT_S) -> str:
        where = ["--project-name", self.project, "--file", str(self.file)]
        return run([*self.command, *where, *arguments], self.environment, limit_s)


def find_compose() -> list[str]:
    """`docker compose` or `docker-compose`. Raises NoEngine."""
    if shutil.which("docker") is None:
        raise NoEngine("there is no `docker` on the PATH: install an engine with docker compose")
    try:
        docker("info")
    except CommandFailed as error:
        raise NoEngine(f"docker is installed, but its engine does not answer: {error}") from error
    for command in (["docker", "compose"], ["docker-compose"]):
        try:
            run([*command, "version"])
        except (CommandFailed, FileNotFoundError):
            continue
        return command
    raise NoEngine("there is neither `docker compose` nor `docker-compose`: install one of them")


def docker(*arguments: str) -> str:
    """What `docker` answers. Raises CommandFailed."""
    return run(["docker", *arguments])


def run(
    command: Sequence[str],
    environment: Mapping[str, str] | None = None,
    limit_s: float = COMMAND_LIMIT_S,
) -> str:
    """What a command writes to standard output. Raises CommandFailed with all that it wrote."""
    shown = " ".join(command)
    env = {**os.environ, **(environment or {})}
    try:
        ended = subprocess.run(
            command, env=env, capture_output=True, text=True, timeout=limit_s, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise CommandFailed(f"`{shown}` took longer than {limit_s:g} s") from error
    if ended.returncode:
        said = f"{ended.stdout[-8000:]}{ended.stderr[-8000:]}"
        raise CommandFailed(f"`{shown}` ended with status {ended.returncode}:\n{said}")
    return ended.stdout


def until(limit_s: float, what: str, ask: Callable[[], T | None]) -> T:
    """The first answer of `ask` that is not None. A command that fails has not answered yet."""
    last = "nothing"
    ends_at = time.monotonic() + limit_s
    while time.monotonic() < ends_at:
        try:
            answer = ask()
        except CommandFailed as error:
            last = str(error)
        else:
            if answer is not None:
                return answer
        time.sleep(POLL_S)
    raise AssertionError(f"{what}: not within {limit_s:g} s; the last failure was {last}")
