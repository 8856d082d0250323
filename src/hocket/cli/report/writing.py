"""Writes summary.json and report.html into a run's folder."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from string import Template

from hocket.cli.output import in_bytes, in_rate
from hocket.cli.report.run import RunData
from hocket.cli.report.summary import summarise

PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>hocket: $task</title>
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
<h1>$task</h1>
<p class="sub">$strategy · $reason · made by <code>$command</code> with seed $seed</p>
<div class="tiles">$tiles</div>
$figures
<section><h2>The fleet, as measured</h2>$fleet</section>
</main></body></html>
""")


def write_report(run: RunData, folder: Path) -> None:
    """Write both files whole or not at all. Raises OSError."""
    from hocket.cli.report.figures import render  # noqa: PLC0415 -- matplotlib takes a second

    _replace(folder / "summary.json", json.dumps(summarise(run), indent=2) + "\n")
    _replace(folder / "report.html", _page(run, render(run)))


def _replace(path: Path, text: str) -> None:
    partial = path.with_suffix(path.suffix + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def _page(run: RunData, figures: dict[str, str]) -> str:
    status = run.status
    return PAGE.substitute(
        task=escape(status.task),
        strategy=escape(status.strategy),
        reason=escape(status.finished_reason or "stopped"),
        command=escape(run.command),
        seed=run.seed,
        tiles="".join(_tile(name, value) for name, value in _tiles(run)),
        figures="".join(
            f"<section><h2>{escape(title)}</h2>{svg}</section>" for title, svg in figures.items()
        ),
        fleet=_fleet(run),
    )


def _tiles(run: RunData) -> list[tuple[str, str]]:
    status = run.status
    dense, pushed = status.bytes_dense_equivalent, status.bytes_pushed
    accuracy = f"{status.evaluation.test_accuracy:.2%}" if status.evaluation else "-"
    return [
        ("test accuracy", accuracy),
        ("versions", str(status.version)),
        ("updates accepted", str(status.updates_accepted)),
        ("updates rejected", str(status.updates_rejected)),
        ("first new version", f"{run.first_version_s:.1f} s"),
        ("wall time", f"{run.wall_s:.0f} s"),
        ("pushed", in_bytes(pushed)),
        ("saved", f"{(dense - pushed) / dense:.0%}" if dense else "-"),
    ]


def _tile(name: str, value: str) -> str:
    return f'<div class="tile"><b>{escape(value)}</b><span>{escape(name)}</span></div>'


def _fleet(run: RunData) -> str:
    members = {member.device_id: member for member in run.status.devices}
    head = ["device", "processor share", "step at 32", "up", "down", "round trip", "updates"]
    rows = []
    for device in run.devices:
        line, link = device.capability.cost_at(1.0), device.link_to()
        member = members.get(device.device_id)
        rows.append(
            [
                device.device_id,
                f"{device.capability.processor_share:.0%}",
                f"{line.step_s(32) * 1e3:.1f} ms" if line else "-",
                in_rate(link.up_bytes_per_s),
                in_rate(link.down_bytes_per_s),
                f"{link.rtt_s * 1e3:.1f} ms" if link.rtt_s else "-",
                str(member.updates_accepted) if member else "0",
            ]
        )
    return _table(head, rows)


def _table(head: list[str], rows: list[list[str]]) -> str:
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><tr>{top}</tr>{body}</table>"
