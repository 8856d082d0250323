"""Everything an operator may set, read once at start-up from REGISTRY_* variables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator
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
    database: Annotated[
        str, Field(description="URL of the devices' database; SQLite in the data folder if not set")
    ] = ""
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
