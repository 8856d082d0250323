"""What a device remembers when it is restarted: its name, its controls, its tallies. JSON.

It names the files of what is too big for it; `keeper` says why.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hocket.errors import DataError, StartupError
from hocket.hosting.files import replace_file

FILE = "device.json"
FORMAT = 1
FILES = ("number", "residual", "outbox", "local", "local_before")


@dataclass(slots=True)
class Tally:
    """What became of this device's updates, over all its lives."""

    updates_accepted: int = 0
    updates_dropped: int = 0
    updates_refused: int = 0
    bytes_up: int = 0
    bytes_down: int = 0


@dataclass(slots=True)
class State:
    """Everything that is kept."""

    device_id: str = ""
    task: str = ""  # that `participant` belongs to
    participant: Mapping[str, Any] | None = None
    tally: Tally = field(default_factory=Tally)
    number: int = 0  # of the last commit; it names the files that came with it
    residual: int = 0  # number of the file with what error feedback holds; 0: it holds nothing
    outbox: int = 0  # number of the file with the update that has no outcome yet; 0: none
    local: int = 0  # number of the file with what the task's local rule keeps; 0: nothing
    local_before: int = 0  # with what it comes back to if the update in the outbox is not used


def load_state(folder: Path) -> State:
    """The state kept in `folder`; a new one if there is none.

    Raises StartupError if the folder cannot be written, DataError for a damaged file.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError("it is not writable")
        text = (folder / FILE).read_bytes()
    except FileNotFoundError:
        return State()
    except OSError as error:
        raise StartupError(
            f"the state folder {folder} cannot be used ({error}); choose another with "
            "DEVICE_STATE_DIR"
        ) from error
    try:
        return _read(json.loads(text))
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise DataError(f"{folder / FILE} is damaged ({error!r}); delete it") from error


def save_state(state: State, folder: Path) -> None:
    """Keep the state: after a crash at any moment either the old one or this one is there."""
    text = json.dumps({"format": FORMAT, **asdict(state)}, indent=1)
    replace_file(folder / FILE, text.encode())


def _read(kept: Any) -> State:
    if not isinstance(kept, dict) or kept.pop("format") != FORMAT:
        raise ValueError("another version of Hocket wrote it")
    files = {name: int(kept.get(name, 0)) for name in FILES}
    state = State(**kept | files | {"tally": Tally(**kept["tally"])})
    kinds = {"device_id": str, "task": str, "participant": dict | None}
    if not all(isinstance(kept.get(name), kind) for name, kind in kinds.items()):
        raise TypeError("a value is of another kind than it must be")
    if not all(isinstance(count, int) for count in asdict(state.tally).values()):
        raise TypeError("a tally is no whole number")
    return state
