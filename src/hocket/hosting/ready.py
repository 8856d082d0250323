"""The file that says a service is ready: there while it works, whole or not there."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

from hocket.errors import StartupError


def write_ready(file: Path, told: dict[str, str | int], variable: str) -> None:
    """Tell whoever waits for the file, with this process's pid added.

    Raises StartupError naming the setting `variable` when it cannot be written.
    """
    partial = file.with_name(f"{file.name}.{os.getpid()}.partial")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(told | {"pid": os.getpid()}) + "\n", encoding="utf-8")
        partial.replace(file)
    except OSError as error:
        raise StartupError(f"cannot write {file}: {error.strerror}; change {variable}") from error


def remove_ready(file: Path | None) -> None:
    """The service works no more."""
    if file is not None:
        with suppress(OSError):  # where it could not be written, there is nothing to remove
            file.unlink(missing_ok=True)
