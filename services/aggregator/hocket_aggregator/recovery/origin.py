"""Which task file a data folder belongs to, so that later commands find it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from hocket.errors import NotFound, StartupError
from hocket.hosting.files import replace_file

FILE = "task.json"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the task came from."""

    task: str  # absolute path of the task file; empty: the digits that come with Hocket
    code_folder: str  # in which the task's Python modules are looked for

    def write(self, data_dir: Path) -> None:
        """Leave a note in the folder. Raises StartupError."""
        try:
            replace_file(data_dir / FILE, json.dumps(asdict(self), indent=1).encode())
        except OSError as error:
            raise StartupError(
                f"cannot write {data_dir / FILE}: {error.strerror}; choose another "
                "AGGREGATOR_DATA_DIR"
            ) from error

    @classmethod
    def read(cls, data_dir: Path) -> Origin:
        """What the folder's last aggregator noted. Raises NotFound."""
        try:
            kept = json.loads((data_dir / FILE).read_text(encoding="utf-8"))
            return cls(str(kept["task"]), str(kept["code_folder"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise NotFound(
                f"{data_dir / FILE} does not say which task this is; name its file with --task"
            ) from error
