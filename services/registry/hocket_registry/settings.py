"""Everything an operator may set, read once at start-up from REGISTRY_* variables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "REGISTRY_"


class Settings(BaseSettings):
    """The registry's settings; each field is the variable REGISTRY_<NAME>."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="forbid"
    )

    listen: Annotated[str, Field(description="host:port to serve on; port 0 takes a free one")] = (
        "127.0.0.1:50051"
    )
    data_dir: Annotated[Path, Field(description="folder of registry.sqlite3; made if missing")] = (
        Path("data/registry")
    )
    lease_s: Annotated[
        float,
        Field(gt=0, allow_inf_nan=False, description="seconds of silence that end a lease"),
    ] = 15.0
    heartbeat_s: Annotated[
        float,
        Field(
            gt=0,
            allow_inf_nan=False,
            description="seconds between heartbeats; below half of lease_s",
        ),
    ] = 5.0
    max_watchers: Annotated[
        int, Field(ge=1, description="WatchDevices streams served at the same time")
    ] = 64
    ready_file: Annotated[
        Path | None,
        Field(description="JSON with address, port and pid, written once the registry serves"),
    ] = None
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Field(description="least level logged")
    ] = "info"

    @field_validator("listen")
    @classmethod
    def _host_and_port(cls, listen: str) -> str:
        host, _, port = listen.rpartition(":")
        if not (host and port.isdecimal() and int(port) <= 65535):
            raise ValueError("write host:port, for example 127.0.0.1:50051")
        return listen

    @model_validator(mode="after")
    def _one_lost_heartbeat_is_forgiven(self) -> Self:
        if self.heartbeat_s >= self.lease_s / 2:
            raise ValueError(
                f"{PREFIX}HEARTBEAT_S is {self.heartbeat_s:g} and {PREFIX}LEASE_S is "
                f"{self.lease_s:g}: the heartbeat must be below half of the lease"
            )
        return self


class WrongSettings(Exception):
    """A variable holds what it must not. The message is one line and names it."""


def read_settings() -> Settings:
    """The settings of this process's environment. Raises WrongSettings."""
    try:
        return Settings()
    except ValidationError as error:
        raise WrongSettings("; ".join(map(_complaint, error.errors()))) from error


def help_text(command: str) -> str:
    """What a person reads who asks for help: every variable, its default and meaning."""
    rows = [
        (f"{PREFIX}{name.upper()}", field.description or "", field.default)
        for name, field in Settings.model_fields.items()
    ]
    width = max(len(variable) for variable, _, _ in rows)
    lines = [
        f"  {variable:<{width}}  {meaning} [{'not set' if default is None else default}]"
        for variable, meaning, default in rows
    ]
    return "\n".join(
        [
            f"usage: {command}",
            "",
            "Serves Hocket's registry until SIGTERM or Ctrl-C. Set by environment variables:",
            "",
            *lines,
            "",
        ]
    )


def _complaint(error: ErrorDetails) -> str:
    message = error["msg"].removeprefix("Value error, ")
    if not error["loc"]:  # between two settings
        return message
    variable = PREFIX + "_".join(map(str, error["loc"])).upper()
    return f"{variable} is {str(error['input'])[:80]!r}: {message}"
