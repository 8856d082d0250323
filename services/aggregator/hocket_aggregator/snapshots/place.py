"""Where a data folder's snapshots lie: a note in the folder, so that later commands find them."""

from __future__ import annotations

from pathlib import Path

from hocket.errors import StartupError
from hocket.hosting.files import replace_file

NOTE = "aggregator.blobs"


def note_place(data_dir: Path, blobs: str) -> None:
    """Leave word of a place that is not the folder itself (""). Raises StartupError."""
    note = data_dir / NOTE
    try:
        if not blobs:
            note.unlink(missing_ok=True)
            return
        place = blobs if "://" in blobs else str(Path(blobs).resolve())
        replace_file(note, f"{place}\n".encode())
    except OSError as error:
        raise StartupError(
            f"cannot write {note}: {error.strerror}; choose another AGGREGATOR_DATA_DIR"
        ) from error


def place_of(data_dir: Path) -> Path | str:
    """A folder, or the URL of other storage."""
    try:
        noted = (data_dir / NOTE).read_text(encoding="utf-8").strip()
    except OSError:
        return data_dir
    if not noted:
        return data_dir
    return noted if "://" in noted else Path(noted)
