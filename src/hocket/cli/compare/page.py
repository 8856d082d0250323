"""compare.html and rows.json: a comparison for a person, and for a program."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path

from hocket.cli.compare.figures import accuracy_figure
from hocket.cli.compare.words import (
    NOTHING,
    cells,
    chance,
    changes_text,
    header,
    statements,
    unbroken,
)
from hocket.cli.output import in_time
from hocket.cli.report.page import page, table, write_text
from hocket.sim.study.sweeping import Findings

PAGE_FILE = "compare.html"
ROWS_FILE = "rows.json"


def write_comparison(findings: Findings, command: str, folder: Path) -> None:
    """Write both files, each whole or not at all. Raises OSError."""
    write_text(folder / ROWS_FILE, rows_text(findings))
    write_text(folder / PAGE_FILE, _page(findings, command))


def rows_text(findings: Findings) -> str:
    """A JSON list, one row for each dataset, method, seed and target."""
    return json.dumps(findings.rows, indent=1, allow_nan=False) + "\n"


def _page(findings: Findings, command: str) -> str:
    plan, sections = findings.plan, {}
    for known in findings.tables:
        said = "".join(f"<p>{escape(line)}</p>" for line in statements(known))
        sections[f"{known.dataset}: accuracy over virtual time"] = accuracy_figure(known) + said
        sections[f"{known.dataset}: every method"] = table(
            unbroken(header(known)),
            [unbroken(cells(known, standing)) for standing in known.standings],
        )
    others = [line for known in findings.contrasts for line in statements(known)]
    remarks = [*others, *chance(findings.told), *plan.study.notes]
    if remarks:
        sections["Notes"] = "".join(f"<p>{escape(line)}</p>" for line in remarks)
    if findings.tuned:
        rows = [
            [
                one.dataset,
                one.method,
                changes_text(one.points[at]),
                _share(one.scores[at]),
                _mark(at == one.chosen),
            ]
            for one in findings.tuned
            for at in one.distinct
        ]
        head = ["dataset", "method", "point", "accuracy when tuned", ""]
        sections["What was tried"] = table(head, rows)
    if findings.failures:
        rows = [[job.name, message] for job, message in findings.failures]
        sections["What failed"] = table(["job", "why"], rows)
    seeds = ", ".join(map(str, plan.run_seeds))
    tiles = [
        ("methods", str(len(plan.methods))),
        ("seeds", str(len(plan.run_seeds))),
        ("machine time of all runs", in_time(findings.process_s)),
    ]
    about = f"{len(plan.methods)} methods side by side"
    return page(plan.study.title or plan.study.name, about, command, seeds, tiles, sections)


def _share(score: float | None) -> str:
    return NOTHING if score is None else f"{score:.2%}"


def _mark(chosen: bool) -> str:
    return "chosen" if chosen else ""
