"""Everything an operator may set, read once at start-up from AGGREGATOR_* variables."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
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
    snapshot_every_bytes: Annotated[
        int, Field(gt=0, description="bytes of journal after which a snapshot is taken anyway")
    ] = 4 << 30
    snapshots_kept: Annotated[int, Field(ge=1, description="newest snapshots that stay")] = 5
    journal_kept_bytes: Annotated[
        int,
        Field(ge=0, description="most bytes of journal that stay to rebuild older versions from"),
    ] = 8 << 30
    durability: Annotated[
        Literal["sync", "none"],
        Field(
            description="sync: acknowledge when the update is on disk; none: at once, no journal"
        ),
    ] = "sync"
    bases_in_memory: Annotated[
        int, Field(ge=0, description="versions in main memory that devices train from; others map")
    ] = 8
    database: Annotated[
        str, Field(description="URL of the records; SQLite in the data folder if not set")
    ] = ""
    blobs: Annotated[
        str, Field(description="where snapshots go: s3://bucket/prefix; the data folder if not set")
    ] = ""
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Field(description="least level logged")
    ] = "info"


def data_roots() -> tuple[Path, ...]:
    """Folders in which data named by a task file is looked for, as HOCKET_DATA lists them."""
    listed = os.environ.get(DATA_ROOTS, "").split(os.pathsep)
    return tuple(Path(folder) for folder in listed if folder)
