"""How a task takes the table that a search has written."""

from __future__ import annotations

import json
import os
from pathlib import Path


def lines_for(task: Path | None, table: Path) -> tuple[str, ...]:
    """What to put into the task file, which looks for the table from where it lies itself.

    Without a task file, one in the folder in which the command runs.
    """
    folder = Path() if task is None else task.parent
    path = os.path.relpath(table.resolve(), folder.resolve())
    where = "a task file in this folder" if task is None else str(task)
    return (
        f"for devices to choose from the table, put into {where}:",
        "[submodel]",
        'kind = "distreal"',
        f"table = {json.dumps(path, ensure_ascii=False)}",
    )
