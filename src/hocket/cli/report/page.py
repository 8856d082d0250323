"""A report's page: one HTML file that fetches nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>hocket: $title</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
 :root { font: 15px/1.5 system-ui, sans-serif; color: #0f172a; background: #f8fafc }
 main { max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
 h1 { font-size: 1.6rem; margin-bottom: 0 } h2 { font-size: 1.1rem; margin: 0 0 .5rem }
 .sub { color: #475569; margin-top: .2rem }
 .tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(12rem, 1fr)); gap: .8rem }
 .tile, section { background: #fff; border: 1px solid #e2e8f0; border-radius: .6rem; padding: 1rem }
 .tile b { display: block; font-size: 1.5rem } .tile span { color: #475569; font-size: .85rem }
 section { margin-top: 1rem; overflow-x: auto } svg { width: 100%; height: auto }
 table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
 th, td { text-align: right; padding: .25rem .6rem; border-bottom: 1px solid #e2e8f0 }
 th:first-child, td:first-child { text-align: left } code { background: #e2e8f0; padding: 0 .3em }
</style></head><body><main>
<h1>$title</h1>
<p class="sub">$about · made by <code>$command</code> with seed $seed</p>
<div class="tiles">$tiles</div>
$sections
</main></body></html>
""")


def page(
    title: str,
    about: str,
    command: str,
    seed: int | str,
    tiles: Iterable[tuple[str, str]],
    sections: Mapping[str, str],
) -> str:
    """The whole page.

    Args:
        title: of what was run.
        about: it in a line, as text.
        command: that makes the same again.
        seed: that it was made with, or several in a line.
        tiles: names and values, as text.
        sections: heading, as text, to what stands below it, as HTML (`table`, or an SVG).
    """
    return PAGE.substitute(
        title=escape(title),
        about=escape(about),
        command=escape(command),
        seed=seed,
        tiles="".join(_tile(name, value) for name, value in tiles),
        sections="\n".join(
            f"<section><h2>{escape(heading)}</h2>{body}</section>"
            for heading, body in sections.items()
        ),
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of text as HTML."""
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><tr>{top}</tr>{body}</table>"


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all. Raises OSError."""
    partial = path.with_suffix(path.suffix + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write a JSON file whole or not at all. Raises OSError, or ValueError for NaN."""
    write_text(path, json.dumps(document, indent=2, allow_nan=False) + "\n")


def _tile(name: str, value: str) -> str:
    return f'<div class="tile"><b>{escape(value)}</b><span>{escape(name)}</span></div>'
