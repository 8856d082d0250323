"""Everything an owner of a device may set, read once at start-up from DEVICE_* variables."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AliasChoices, Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

PREFIX = "DEVICE_"

Share = Annotated[float, Field(gt=0.0, le=1.0)]
Seconds = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
Rate = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """The device's settings; each field is the variable DEVICE_<NAME>. Lists and maps are JSON."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", populate_by_name=True
    )

    registry: Annotated[str, Field(description="host:port of the registry", pattern=r".:\d+$")] = (
        "127.0.0.1:50051"
    )
    aggregator: Annotated[
        str, Field(description="host:port of the aggregator", pattern=r".:\d+$")
    ] = "127.0.0.1:50052"
    device_id: Annotated[
        str,
        Field(
            description="lasting name; empty: the registry picks one, and the device keeps it",
            pattern=r"^[A-Za-z0-9._-]{0,64}$",
        ),
    ] = ""
    labels: Annotated[
        dict[str, str], Field(description='for people and filters, such as {"site": "attic"}')
    ] = {}
    task: Annotated[
        Path | None, Field(description="task file, the same as the aggregator's; not set: digits")
    ] = None
    data_roots: Annotated[
        tuple[Path, ...],
        NoDecode,
        Field(
            description="folders in which to look for data, as in PATH; else HOCKET_DATA",
            validation_alias=AliasChoices("DEVICE_DATA_ROOTS", "HOCKET_DATA"),
        ),
    ] = ()
    shard: Annotated[
        int, Field(ge=0, description="which part of the task's training data, counted from 0")
    ] = 0
    shards: Annotated[
        int, Field(ge=1, description="into how many parts the task's training data is divided")
    ] = 1
    state_dir: Annotated[
        Path, Field(description="folder of what survives a restart; made if missing")
    ] = Path("data/device")
    keep: Annotated[
        Share, Field(description="largest share of each layer's channels to pull, train and push")
    ] = 1.0
    processor_share: Annotated[
        Share, Field(description="share of one processor that training may take")
    ] = 1.0
    share_schedule: Annotated[
        tuple[tuple[Seconds, Share], ...],
        Field(description="[[seconds, share], ...], repeating, instead of processor_share"),
    ] = ()
    memory_bytes: Annotated[
        int, Field(ge=0, description="memory to report; 0: as the system says")
    ] = 0
    up_bytes_per_s: Annotated[Rate, Field(description="limit of pushes; 0: none")] = 0.0
    down_bytes_per_s: Annotated[Rate, Field(description="limit of pulls; 0: none")] = 0.0
    available_schedule: Annotated[
        tuple[tuple[Seconds, bool], ...],
        Field(description="[[seconds, true or false], ...], repeating: willing to train"),
    ] = ()
    exit_when_finished: Annotated[
        bool, Field(description="end with the task; else stay until SIGTERM")
    ] = True
    ready_file: Annotated[
        Path | None,
        Field(description="JSON with device_id and pid, written once the device can be triggered"),
    ] = None
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Field(description="least level logged")
    ] = "info"

    @field_validator("data_roots", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(Path(part) for part in value.split(os.pathsep) if part)
        return value

    @model_validator(mode="after")
    def _known_shard(self) -> Self:
        if self.shard >= self.shards:
            raise ValueError(
                f"shard is {self.shard} and shards is {self.shards}: shards are counted from 0"
            )
        return self
