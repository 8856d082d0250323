"""What a search leaves besides its table: search.html for a person, search.json for a program."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from statistics import fmean
from typing import Any

from hocket.cli.dropout.figures import AXES, front_figure
from hocket.cli.dropout.findings import Beside, Candidate, Findings
from hocket.cli.report.page import page, table, write_text

PAGE_FILE = "search.html"
NUMBERS_FILE = "search.json"
FIGURE_FILE = "front.svg"
NOTHING = "-"

FRONT_HEAD = ["cost", "score", "kept", "step"]
BESIDE_HEAD = ["dropped of all", "cost", "score", "row's cost", "row's score", "ahead", "it"]


def write_search(findings: Findings, name: str, command: str, folder: Path) -> None:
    """Write the page, the figure and the numbers, each whole or not at all. Raises OSError."""
    figure = front_figure(findings)
    write_text(folder / FIGURE_FILE, figure)
    write_text(folder / NUMBERS_FILE, numbers_text(findings, name, command))
    write_text(folder / PAGE_FILE, _page(findings, name, command, figure))


def front_cells(findings: Findings) -> list[list[str]]:
    """A row of text for each row of the table."""
    measure = findings.settings.score
    return [
        [
            f"{one.cost:.4f}",
            f"{one.score(measure):+.4f}",
            f"{1.0 - fmean(one.vector):.0%}",
            NOTHING if one.seconds is None else f"{1e3 * one.seconds:.2f} ms",
        ]
        for one in findings.front
    ]


def beside_cells(findings: Findings) -> list[list[str]]:
    """A row of text for each uniform vector and the row beside it."""
    return [_beside(one) for one in findings.besides]


def numbers_text(findings: Findings, name: str, command: str) -> str:
    """A JSON document."""
    document = {
        "task": name,
        "command": command,
        "seed": findings.settings.seed,
        "settings": findings.settings.values,
        "vectors_tried": findings.tried,
        "rows": [_numbers(one, findings) for one in findings.front],
        "uniform": [
            {
                "rate": one.rate,
                **_numbers(one.uniform, findings),
                "row_cost": one.row.cost,
                "ahead": one.ahead,
                "verdict": one.verdict,
            }
            for one in findings.besides
        ],
        "statements": list(findings.statements),
    }
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


def _beside(one: Beside) -> list[str]:
    return [
        f"{one.rate:.0%}",
        f"{one.uniform.cost:.4f}",
        f"{fmean(one.uniform.proof(one.measure)):+.4f}",
        f"{one.row.cost:.4f}",
        f"{fmean(one.row.proof(one.measure)):+.4f}",
        f"{one.ahead:+.4f}",
        "is a row" if one.same else one.verdict or NOTHING,
    ]


def _numbers(one: Candidate, findings: Findings) -> dict[str, Any]:
    measure = findings.settings.score
    return {
        "cost": one.cost,
        "score": one.score(measure),
        "drop": one.vector,
        "kept": one.sizes,
        "seconds": one.seconds,
        "proof": one.proof(measure),
    }


def _page(findings: Findings, name: str, command: str, figure: str) -> str:
    said = "".join(f"<p>{escape(line)}</p>" for line in findings.statements)
    settings = findings.settings
    sections = {
        f"{AXES[settings.score].capitalize()} over training cost": figure + said,
        "The table's rows": table(FRONT_HEAD, front_cells(findings)),
        "Uniform vectors beside the row that costs no more": table(
            BESIDE_HEAD, beside_cells(findings)
        ),
        "Settings": table(
            ["setting", "value"], [[key, str(value)] for key, value in settings.values.items()]
        ),
    }
    return page(
        f"{name}: dropout vectors",
        f"NSGA-II over {len(findings.front[0].sizes)} groups of channels",
        command,
        settings.seed,
        _tiles(findings),
        sections,
    )


def _tiles(findings: Findings) -> Sequence[tuple[str, str]]:
    cheapest = findings.front[0]
    return (
        ("rows", str(len(findings.front))),
        ("vectors tried", f"{findings.tried:,}"),
        ("cost of the cheapest row", f"{cheapest.cost:.1%}"),
    )
