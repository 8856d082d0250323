"""Where a comparison is written: looked at before hours are spent on it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from hocket.cli.compare.page import PAGE_FILE, ROWS_FILE
from hocket.errors import StartupError, TaskError

JOBS = "jobs"
"""The folder of job files within that of the results."""


def check_places(folder: Path, report: Path | None) -> None:
    """Try whether the results can be written to a folder, and a report to its files.

    Nothing is left behind. Raises StartupError where they cannot, TaskError for a report that
    another file of the comparison would overwrite.
    """
    files = [folder / PAGE_FILE, folder / ROWS_FILE, folder / JOBS / "one.json"]
    if report is not None:
        if report.suffix.lower() == ".json":
            raise TaskError(
                f"--report {report} is a page with its numbers beside it, in a file of the same "
                "name that ends in .json; let the page end in .md"
            )
        if report.absolute() == files[0].absolute():
            raise TaskError(f"--report {report} is a page of --out; take another file")
        files += [report, report.parent / f"{report.stem}.json"]
    for file in files:
        try:
            try_file(file)
        except OSError as cause:
            raise unwritable(file, cause) from cause


def unwritable(path: Path, cause: OSError, option: str = "--report") -> StartupError:
    """What is said of a place that cannot be written to; `option` names the file beside --out."""
    return StartupError(
        f"{path} cannot be written: {cause.strerror}; choose another folder with --out, another "
        f"file with {option}"
    )


def try_file(file: Path) -> None:
    """Raise OSError unless the file, and the folders above that are missing, can be made."""
    if file.is_dir():
        raise IsADirectoryError(None, "it is a folder")
    folder = file.parent
    while not os.path.lexists(folder):
        folder = folder.parent
    with tempfile.TemporaryFile(dir=folder):
        pass
