"""A fleet file becomes a FleetFile, and a FleetFile a Roster; or a TaskError says what is wrong."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from hocket.errors import TaskError
from hocket.sim.fleet.csv_trace import read_trace
from hocket.sim.fleet.file import NAME, FleetFile
from hocket.sim.fleet.roster import Roster, device_ids
from hocket.task.document import parse_document, read_document


def read_fleet(path: Path | str) -> FleetFile:
    """Read a fleet file (TOML), but not the files that it names.

    Raises TaskError naming file and key, or file and line.
    """
    file = Path(path).absolute()
    _, document = read_document(file, "fleet file")
    if "name" not in document and re.fullmatch(NAME, file.stem):
        document["name"] = file.stem
    try:
        fleet = parse_document(document, FleetFile, file)
    except TaskError as error:
        # A partition complains of the table that task files have it in.
        raise TaskError(error.message.replace(": partition.", ": skew.")) from None
    return replace(fleet, origin=file)


def read_roster(fleet: FleetFile, seed: int | None = None, model_macs: int = 0) -> Roster:
    """The devices of a fleet, by the file's own seed if none is given; reads its trace.

    `model_macs` is as for `Roster`.

    Raises DataError naming the trace's file and line.
    """
    trace = None
    if fleet.trace is not None and fleet.trace_file is not None:
        numbers = {device_id: index for index, device_id in enumerate(device_ids(fleet))}
        trace = read_trace(fleet.trace_file, numbers, fleet.trace.repeat_s or 0.0)
    return Roster(fleet, fleet.seed if seed is None else seed, trace, model_macs)
