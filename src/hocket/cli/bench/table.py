"""The results as a person reads them, with what is asked of each beside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import typer

from hocket.cli.bench.cases import DEVICES, Case, Target
from hocket.cli.bench.environment import Environment
from hocket.cli.bench.results import Failed, Measured, Registered
from hocket.cli.output import in_bytes, in_rate, print_table

COLUMNS = (
    *("case", "codec", "updates/s", "bytes/s", "raw", "of raw", "disk", "of limit"),
    *("p50", "p99", "memory", "per update", "target", "result"),
)
LABELS = {"ratio_to_raw": "of raw", "ratio_to_limit": "of limit", "updates_per_s": "updates/s"}
NONE = "-"


def print_results(
    results: Iterable[Measured | Registered | Failed], cases: Sequence[Case], told: Environment
) -> None:
    """A row for each case; what has no row, in a line below."""
    targets = {case.name: case.targets for case in cases}
    measured = [result for result in results if isinstance(result, Measured)]
    title = (
        f"ingest on {told.cpus} processors, Python {told.python}, grpcio {told.grpcio}, "
        f"torch {told.torch}, commit {told.commit or 'unknown'}"
    )
    rows = [row(result, targets.get(result.case, ())) for result in measured]
    if rows:
        print_table(title, COLUMNS, rows)
    for result in results:
        for line in _lines(result):
            typer.echo(line)


def row(result: Measured, targets: Sequence[Target]) -> list[str]:
    """One case as the table shows it."""
    return [
        result.case,
        result.codec,
        f"{result.updates_per_s:.1f}",
        in_rate(result.bytes_per_s),
        in_rate(result.raw_bytes_per_s),
        f"{result.ratio_to_raw:.2f}",
        in_rate(result.disk_bytes_per_s or 0.0),
        NONE if result.ratio_to_limit is None else f"{result.ratio_to_limit:.2f}",
        f"{result.p50_ms:.1f} ms",
        f"{result.p99_ms:.1f} ms",
        in_bytes(result.rss_peak_bytes),
        _signed(result.rss_slope_bytes_per_update),
        ", ".join(f"{LABELS[t.figure]} {t.at_least:g}" for t in targets) or NONE,
        (("met" if _met(result, targets) else "missed") if targets else NONE),
    ]


def in_short(result: Measured) -> str:
    """One case in a few words, told as soon as it is known."""
    limit = "" if result.ratio_to_limit is None else f", {result.ratio_to_limit:.2f} of the limit"
    return (
        f"{result.updates_per_s:.1f} updates/s, {in_rate(result.bytes_per_s)}, "
        f"{result.ratio_to_raw:.2f} of raw{limit}"
    )


def _met(result: Measured, targets: Sequence[Target]) -> bool:
    return all((getattr(result, t.figure) or 0.0) >= t.at_least for t in targets)


def _lines(result: Measured | Registered | Failed) -> list[str]:
    match result:
        case Measured(recovery_s=float(recovery_s), start_s=float(start_s)):
            line = (
                f"{result.case}: answers {recovery_s:.2f} s after kill -9 with "
                f"{result.journalled_updates} journalled updates, with the same model "
                f"(a first start of both services: {start_s:.2f} s)"
            )
        case Registered():
            line = (
                f"{DEVICES}: over {result.devices} devices the registry grows by "
                f"{_signed(result.registry_rss_slope_bytes_per_device)} a device to "
                f"{in_bytes(result.registry_rss_bytes)}, the aggregator by "
                f"{_signed(result.aggregator_rss_slope_bytes_per_device)} to "
                f"{in_bytes(result.aggregator_rss_bytes)}"
            )
        case Failed(case, error):
            line = f"{case}: failed: {error}"
        case _:
            return []
    return [line]


def _signed(num_bytes: float) -> str:
    return f"-{in_bytes(-num_bytes)}" if num_bytes < 0 else in_bytes(num_bytes)
