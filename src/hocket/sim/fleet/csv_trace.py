"""A trace of real devices: when each was there, and what its link carried then, from a CSV file.

    device,at_s,available,up_bytes_per_s,down_bytes_per_s
    device-0,0,1,125000,500000
    device-0,3600,0,,

A row holds until the device's next one; its first is at 0, and times ascend. An empty rate is that
of the device's link in the fleet file.
"""

from __future__ import annotations

import csv
import math
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hocket.core.ids import DeviceId
from hocket.errors import DataError
from hocket.sim.fleet.availability import Availability, PlannedTimes
from hocket.sim.fleet.links import Rates, SteadyRates
from hocket.sim.fleet.steps import Steps

COLUMNS = ("device", "at_s", "available", "up_bytes_per_s", "down_bytes_per_s")


@dataclass(frozen=True)
class Trace:
    """Every device's rows, one device after the other."""

    first_row: NDArray[np.int64]  # of each device, and one beyond the last
    at_s: NDArray[np.float64]
    available: NDArray[np.bool_]
    up_bytes_per_s: NDArray[np.float64]  # NaN: what the link carries anyway
    down_bytes_per_s: NDArray[np.float64]
    repeat_s: float = 0.0  # seconds after which it starts over; 0: the last rows hold for ever

    def availability(self, index: int) -> Availability:
        """When device number `index` is there."""
        return PlannedTimes(self._steps(index), self.available[self._rows(index)].tolist())

    def rates(self, index: int, steady: SteadyRates) -> Rates:
        """What the link of device number `index` carries, where the trace says nothing `steady`."""
        rows = self._rows(index)
        up, down = self.up_bytes_per_s[rows], self.down_bytes_per_s[rows]
        return TracedRates(
            self._steps(index),
            np.where(np.isnan(up), steady.up_bytes_per_s, up),
            np.where(np.isnan(down), steady.down_bytes_per_s, down),
        )

    def _rows(self, index: int) -> slice:
        return slice(int(self.first_row[index]), int(self.first_row[index + 1]))

    def _steps(self, index: int) -> Steps:
        return Steps(self.at_s[self._rows(index)].tolist(), self.repeat_s)


@dataclass(frozen=True, slots=True)
class TracedRates:
    """A link whose rates change with the steps of a trace."""

    steps: Steps
    up_bytes_per_s: NDArray[np.float64]
    down_bytes_per_s: NDArray[np.float64]

    def at(self, at_s: float) -> tuple[float, float]:
        """See Rates. A rate is 0 only while the device is away."""
        return self._of(self.steps.at(at_s))

    def next_change(self, after_s: float) -> float | None:
        """See Rates."""
        return self.steps.next_change(after_s, lambda one, other: self._of(one) == self._of(other))

    def _of(self, step: int) -> tuple[float, float]:
        return float(self.up_bytes_per_s[step]), float(self.down_bytes_per_s[step])


def read_trace(file: Path, devices: Mapping[DeviceId, int], repeat_s: float = 0.0) -> Trace:
    """Read a trace in which each of `devices` (id to number) has its rows.

    Raises DataError naming file and line.
    """
    rows = _Rows(devices)
    try:
        with file.open(newline="", encoding="utf-8-sig") as text:
            lines = csv.reader(text, strict=True)
            for number, row in enumerate(lines):
                try:
                    if number == 0:
                        _check_header(row)
                    elif row:
                        rows.add(row)
                except ValueError as error:
                    raise DataError(f"{file}, line {lines.line_num}: {error}") from None
    except FileNotFoundError as error:
        raise DataError(f"there is no trace file {file}; check trace.file") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"the trace file {file} cannot be read: {error}") from error
    return rows.trace(file, repeat_s)


class _Rows:
    """The rows read so far. `add` raises ValueError for a wrong one."""

    def __init__(self, devices: Mapping[DeviceId, int]) -> None:
        self._devices = devices
        self._last_s: dict[int, float] = {}  # of each device
        self._device, self._available = array("q"), array("b")
        self._at_s, self._up, self._down = array("d"), array("d"), array("d")

    def add(self, row: Sequence[str]) -> None:
        """Take one more row in."""
        if len(row) != len(COLUMNS):
            raise ValueError(f"{len(row)} cells; the header names {len(COLUMNS)} columns")
        name, at, available, up, down = (cell.strip() for cell in row)
        device = self._devices.get(DeviceId(name))
        if device is None:
            raise ValueError(f"device is {name!r}; the fleet has no such device")
        if available not in {"0", "1"}:
            raise ValueError(f"available is {available!r}; write 1 (there) or 0 (away)")
        self._at_s.append(self._time(name, device, at))
        self._device.append(device)
        self._available.append(available == "1")
        self._up.append(_rate("up_bytes_per_s", up, needed=available == "1"))
        self._down.append(_rate("down_bytes_per_s", down, needed=available == "1"))

    def _time(self, name: str, device: int, cell: str) -> float:
        at_s, last_s = _number("at_s", cell), self._last_s.get(device)
        if last_s is None and at_s != 0.0:
            raise ValueError(
                f"the first row of {name!r} is at {cell} s, which leaves a gap; let it begin at 0"
            )
        if last_s is not None and at_s <= last_s:
            raise ValueError(
                f"at_s of {name!r} is {cell} after {last_s:g}; sort each device's rows by time and "
                "name no time twice"
            )
        self._last_s[device] = at_s
        return at_s

    def trace(self, file: Path, repeat_s: float) -> Trace:
        """All of them, device by device. Raises DataError for a device without rows."""
        absent = [name for name, device in self._devices.items() if device not in self._last_s]
        if absent:
            raise DataError(
                f"{file} has no row of {absent[0]!r} (devices without rows: {len(absent)}); each "
                "device of the fleet needs one at 0 s"
            )
        if 0.0 < repeat_s <= max(self._last_s.values()):
            raise DataError(
                f"{file} goes on until {max(self._last_s.values()):g} s, but trace.repeat_s is "
                f"{repeat_s:g}; make it larger"
            )
        device = np.frombuffer(self._device, np.int64)
        order = np.argsort(device, kind="stable")
        return Trace(
            np.searchsorted(device[order], np.arange(len(self._devices) + 1)),
            np.frombuffer(self._at_s)[order],
            np.frombuffer(self._available, np.int8)[order].astype(np.bool_),
            np.frombuffer(self._up)[order],
            np.frombuffer(self._down)[order],
            repeat_s,
        )


def _check_header(row: Sequence[str]) -> None:
    names = [cell.strip() for cell in row]
    if tuple(names) != COLUMNS:
        raise ValueError(f"the columns are {', '.join(names)}; they must be {', '.join(COLUMNS)}")


def _rate(column: str, cell: str, *, needed: bool) -> float:
    """Bytes a second; NaN for an empty cell."""
    if not cell:
        return math.nan
    rate = _number(column, cell)
    if rate < 0.0 or (needed and rate == 0.0):
        raise ValueError(
            f"{column} is {cell} while the device is there; it must be above 0, or empty for what "
            "its link carries"
            if needed
            else f"{column} is {cell}; it must be at least 0, or empty for what its link carries"
        )
    return rate


def _number(column: str, cell: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{column} is {cell!r}; it must be a finite number")
    return value
