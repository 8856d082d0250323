"""Everything an operator may set, read once at start-up from AGGREGATOR_* variables."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "AGGREGATOR_"
DATA_ROOTS = "HOCKET_DATA"

Positive = Field(gt=0, allow_inf_nan=False)


class Settings(BaseSettings):
    """The aggregator's settings; each field is the variable AGGREGATOR_<NAME>."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    listen: Annotated[
        str, Field(description="host:port to serve on; port 0 takes a free one", pattern=r".:\d+$")
    ] = "127.0.0.1:50052"
    registry: Annotated[str, Field(description="host:port of the registry", pattern=r".:\d+$")] = (
        "127.0.0.1:50051"
    )
    task: Annotated[
        Path | None, Field(description="task file; the digits that come with Hocket if not set")
    ] = None
    data_dir: Annotated[Path, Field(description="folder of versions; made if missing")] = Path(
        "data/aggregator"
    )
    ready_file: Annotated[
        Path | None,
        Field(description="JSON with address, port and pid, written once the aggregator serves"),
    ] = None
    staged_bytes_limit: Annotated[
        int | None,
        Field(gt=0, description="bytes of updates on the way, all together; else the task says"),
    ] = None
    staged_keep_s: Annotated[
        float, Positive, Field(description="seconds that the bytes of a broken push are kept")
    ] = 300.0
    snapshot_every_s: Annotated[
        float, Positive, Field(description="seconds between snapshots of the newest version")
    ] = 30.0
    snapshots_kept: Annotated[int, Field(ge=1, description="newest snapshots that stay")] = 5
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Field(description="least level logged")
    ] = "info"


class WrongSettings(Exception):
    """A variable holds what it must not. The message is one line and names it."""


def read_settings() -> Settings:
    """The settings of this process's environment. Raises WrongSettings."""
    try:
        return Settings()
    except ValidationError as error:
        raise WrongSettings("; ".join(map(_complaint, error.errors()))) from error


def data_roots() -> tuple[Path, ...]:
    """Folders in which data named by a task file is looked for, as HOCKET_DATA lists them."""
    listed = os.environ.get(DATA_ROOTS, "").split(os.pathsep)
    return tuple(Path(folder) for folder in listed if folder)


def help_text(command: str) -> str:
    """What a person reads who asks for help: every variable, its default and meaning."""
    rows = [
        (f"{PREFIX}{name.upper()}", field.description or "", field.default)
        for name, field in Settings.model_fields.items()
    ]
    rows.append((DATA_ROOTS, "folders of data that task files name, as PATH lists folders", None))
    width = max(len(variable) for variable, _, _ in rows)
    lines = [
        f"  {variable:<{width}}  {meaning} [{'not set' if default is None else default}]"
        for variable, meaning, default in rows
    ]
    return "\n".join(
        [
            f"usage: {command}",
            "",
            "Serves Hocket's aggregator until SIGTERM or Ctrl-C. Set by environment variables:",
            "",
            *lines,
            "",
        ]
    )


def _complaint(error: ErrorDetails) -> str:
    variable = PREFIX + "_".join(map(str, error["loc"])).upper()
    return f"{variable} is {str(error['input'])[:80]!r}: {error['msg']}"
