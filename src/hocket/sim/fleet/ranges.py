"""The ranges of a fleet file's values, as pydantic checks them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

LARGEST_SEED = 2**63 - 1  # what a database and TOML hold

Seed = Annotated[int, Field(ge=0, le=LARGEST_SEED)]
Name = Annotated[str, Field(min_length=1, max_length=64)]
Count = Annotated[int, Field(ge=1, le=10_000_000)]
Rate = Annotated[float, Field(ge=0)]  # bytes a second; 0: unlimited
Weight = Annotated[float, Field(gt=0)]  # relative to its siblings' weights
Seconds = Annotated[float, Field(ge=0)]
LastingSeconds = Annotated[float, Field(ge=0.001)]  # of what ends and begins anew, over and over
Sigma = Annotated[float, Field(ge=0, le=3)]  # of a lognormal factor
Share = Annotated[float, Field(ge=0, le=1)]
PositiveShare = Annotated[float, Field(gt=0, le=1)]
