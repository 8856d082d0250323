"""What a run leaves behind: summary.json and a report with figures."""

from __future__ import annotations

from hocket.cli.report.demo_page import write_report
from hocket.cli.report.run import RunData, collect
from hocket.cli.report.summary import summarise

__all__ = ["RunData", "collect", "summarise", "write_report"]
