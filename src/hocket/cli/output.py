"""How answers are shown: a table for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum, StrEnum
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

KIB = 1024.0
MINUTE_S, HOUR_S = 60, 3600
PIPED_WIDTH = 160  # a pipe has no width of its own
LONG_COLUMNS = frozenset({"what to do", "why this size", ""})


class Format(StrEnum):
    """What `--format` takes."""

    TABLE = "table"
    JSON = "json"


FormatOption = Annotated[
    Format, typer.Option("--format", help="A table for people or JSON for programs.")
]


def plain(value: Any) -> Any:
    """A core record as JSON types: enums by their lower-case names, outcomes with their kind."""
    if isinstance(value, Enum):
        return value.name.lower()
    if is_dataclass(value) and not isinstance(value, type):
        items = {field.name: plain(getattr(value, field.name)) for field in fields(value)}
        return {"kind": type(value).__name__.lower()} | items if _is_outcome(value) else items
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    return value


def _is_outcome(value: object) -> bool:
    return type(value).__name__ in {"Applied", "Buffered", "Dropped"}


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    typer.echo(json.dumps(plain(value), indent=2, allow_nan=False))


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on standard output: text to the left, numbers to the right, rows never broken."""
    table = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for column in columns:
        justify: Literal["left", "right"] = "left" if column in TEXT_COLUMNS else "right"
        table.add_column(column, justify=justify, no_wrap=column not in LONG_COLUMNS)
    for row in rows:
        table.add_row(*row)
    console = Console(markup=False, emoji=False)  # what others say of themselves is no markup
    if not console.is_terminal:
        console.width = PIPED_WIDTH
    console.print(table)


TEXT_COLUMNS = frozenset(
    {"device", "state", "phase", "digest", "update", "outcome", "codec", "check", "result",
     "what to do", "why this size", "", "created", "labels", "method", "it"}
)  # fmt: skip


def in_bytes(count: float) -> str:
    """1536 as '1.5 KiB'."""
    for unit in ("B", "KiB", "MiB"):
        if count < KIB:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= KIB
    return f"{count:.1f} GiB"


def in_rate(bytes_per_s: float) -> str:
    """A measured rate; a dash where nothing was measured."""
    return f"{in_bytes(bytes_per_s)}/s" if bytes_per_s else "-"


def in_time(seconds: float) -> str:
    """A span of time in its two largest units: '0.5 s', '3 min 20 s', '26 h 40 min'."""
    if seconds < MINUTE_S:
        return f"{seconds:.3g} s"
    whole = round(seconds)
    if whole < 2 * HOUR_S:
        return f"{whole // MINUTE_S} min {whole % MINUTE_S} s"
    return f"{whole // HOUR_S} h {whole % HOUR_S // MINUTE_S} min"
