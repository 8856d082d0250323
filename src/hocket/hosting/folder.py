"""A service's own folder: one process at a time, and a note of where its records are."""

from __future__ import annotations

import fcntl
from contextlib import suppress
from pathlib import Path
from typing import IO

from hocket.errors import StartupError
from hocket.hosting.files import replace_file


def take_folder(folder: Path, owner: str, variable: str) -> IO[str]:
    """Make the folder and lock it for this process, until what is returned is closed.

    Raises StartupError that names `owner` (what kind of service may hold it) and the setting.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / f"{owner}.lock").open("w")
    except OSError as error:
        raise StartupError(
            f"cannot write to {folder}: {error.strerror}; choose another {variable}"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise StartupError(
            f"another {owner} uses {folder}; stop it or choose another {variable}"
        ) from error
    return lock


def note_database(folder: Path, owner: str, url: str | None) -> None:
    """Leave word of a database that is not the folder's own file (None: it is that file).

    `url` holds no password. Raises OSError.
    """
    note = folder / f"{owner}.database"
    if url is None:
        note.unlink(missing_ok=True)
    else:
        replace_file(note, f"{url}\n".encode())


def noted_database(folder: Path, owner: str) -> str | None:
    """The URL noted, without its password; None where the records are in the folder itself."""
    with suppress(OSError):
        return (folder / f"{owner}.database").read_text(encoding="utf-8").strip()
    return None
