"""Writes a demo's summary.json and report.html into its folder."""

from __future__ import annotations

from pathlib import Path

from hocket.cli.output import in_bytes, in_rate
from hocket.cli.report.page import page, table, write_json, write_text
from hocket.cli.report.run import RunData
from hocket.cli.report.summary import summarise


def write_report(run: RunData, folder: Path) -> None:
    """Write both files, each whole or not at all. Raises OSError."""
    from hocket.cli.report.demo_figures import render  # noqa: PLC0415 -- matplotlib takes a second

    write_json(folder / "summary.json", summarise(run))
    write_text(folder / "report.html", _page(run, render(run)))


def _page(run: RunData, figures: dict[str, str]) -> str:
    status = run.status
    return page(
        status.task,
        f"{status.strategy} · {status.finished_reason or 'stopped'}",
        run.command,
        run.seed,
        _tiles(run),
        figures | {"The fleet, as measured": _fleet(run)},
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
    return table(head, rows)
