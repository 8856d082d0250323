"""A fleet file: the tables of `hocket.sim.fleet`, as one frozen dataclass."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from hocket.errors import TaskError
from hocket.learn.data import AnyPartition
from hocket.sim.fleet import classes as device_classes
from hocket.sim.fleet import links as device_links
from hocket.sim.fleet.availability import ALWAYS, AnyAvailability, MidTraining
from hocket.sim.fleet.classes import DeviceClass
from hocket.sim.fleet.links import UNLIMITED, LinkClass, Uplink, expanded
from hocket.sim.fleet.ranges import (
    Count,
    LastingSeconds,
    PositiveShare,
    Rate,
    Seconds,
    Seed,
)

BY_KIND = Field(discriminator="kind")
NAME = r"^[A-Za-z0-9._-]{1,64}$"


@dataclass(frozen=True, slots=True)
class Server:
    """The server's own link, shared by all without an uplink (0: unlimited), and its patience."""

    up_bytes_per_s: Rate = 0.0  # from devices to the server
    down_bytes_per_s: Rate = 0.0
    step_s: Seconds = 0.0  # to take one update in
    lease_s: LastingSeconds = 15.0  # a device that is silent for longer has expired
    resume_s: Seconds = 300.0  # how long half a push is kept


@dataclass(frozen=True, slots=True)
class OwnDevice:
    """A device by name. Whatever is left out is decided as for any other device."""

    name: Annotated[str, Field(pattern=NAME)]
    device_class: Annotated[str, Field(alias="class")]
    link: str = ""
    availability: str = ""
    shard: Annotated[int, Field(ge=0)] | None = None


@dataclass(frozen=True, slots=True)
class TraceFile:
    """A CSV trace in place of availabilities and, where it says so, of links' rates."""

    file: Annotated[str, Field(min_length=1)]  # beside the fleet file
    repeat_s: LastingSeconds | None = None  # it starts over then; None: its last rows hold for ever
    mid_training: MidTraining = "vanish"


@dataclass(frozen=True, slots=True)
class EvaluationTimes:
    """When and on how much held-out data the newest model is judged."""

    every_s: LastingSeconds | None = None  # of virtual time; None: as the task has it, by versions
    examples: Count | None = None  # None: as the task has it


@dataclass(frozen=True, slots=True)
class VirtualStop:
    """What ends a simulation, whichever comes first; 0: not this."""

    virtual_s: Seconds = 0.0
    versions: Annotated[int, Field(ge=0)] = 0
    accuracy: Annotated[float, Field(ge=0, le=1)] = 0.0


@dataclass(frozen=True, slots=True)
class Running:
    """How a simulation is carried out."""

    batched: Literal["auto", "on", "off"] = "auto"  # train several devices at once
    device: Literal["cpu", "cuda"] = "cpu"
    record: bool = False  # keep the whole history
    targets: tuple[PositiveShare, ...] = ()  # accuracies whose virtual times are reported


@dataclass(frozen=True)
class FleetFile:
    """The tables of a fleet file. Raises TaskError for names that contradict each other."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    name: Annotated[str, Field(pattern=NAME)] = "fleet"
    seed: Seed = 0
    devices: Count | None = None  # absent with [[device]]
    task: str | None = None  # a task file, relative to this one; None: the built-in digits
    data_shards: Count | None = None  # device k holds shard k % data_shards; None: one each
    examples_per_device: Count | None = None  # None: all that the task's data has
    preset: Literal["", "whale"] = ""  # classes and links, where the file names none
    server: Server = field(default_factory=Server)
    classes: Annotated[tuple[DeviceClass, ...], Field(alias="class")] = ()
    links: Annotated[tuple[LinkClass, ...], Field(alias="link")] = ()
    uplinks: Annotated[tuple[Uplink, ...], Field(alias="uplink")] = ()
    availabilities: Annotated[
        tuple[Annotated[AnyAvailability, BY_KIND], ...], Field(alias="availability")
    ] = ()
    own_devices: Annotated[tuple[OwnDevice, ...], Field(alias="device")] = ()
    trace: TraceFile | None = None
    skew: Annotated[AnyPartition, BY_KIND] | None = None  # None: the task's partition
    evaluation: EvaluationTimes = field(default_factory=EvaluationTimes)
    stop: VirtualStop = field(default_factory=VirtualStop)
    run: Running = field(default_factory=Running)
    origin: Path | None = None  # not from the file, but where it lies

    def __post_init__(self) -> None:
        self._check_size()
        self._check_names()
        for at, device in enumerate(self.own_devices):
            if device.shard is not None and device.shard >= self.num_shards:
                raise TaskError(
                    f"device[{at}].shard is {device.shard}; count the {self.num_shards} shards "
                    "from 0, or set data_shards"
                )
        if self.trace is not None and self.availabilities:
            raise TaskError(
                "there is a [trace] and an [[availability]]; the trace says when devices are "
                "there, so leave one of them out"
            )

    def _check_size(self) -> None:
        if (self.devices is None) == (not self.own_devices):
            raise TaskError(
                "say how many devices there are: either devices = 100, say, or one [[device]] each"
            )
        if not self.all_classes:
            raise TaskError('class is missing; add a [[class]], or preset = "whale"')

    def _check_names(self) -> None:
        classes = _once("class", [known.name for known in self.all_classes])
        links = _once("link", [known.name for known in self.all_links])
        uplinks = _once("uplink", [known.name for known in self.uplinks])
        times = _once("availability", [known.name for known in self.availabilities])
        _once("device", [device.name for device in self.own_devices])
        for at, device_class in enumerate(self.classes):
            _known(f"class[{at}].links", device_class.links, "link", links)
            _known(f"class[{at}].availability", [device_class.availability], "availability", times)
        for at, link in enumerate(self.links):
            _known(f"link[{at}].uplink", [link.uplink], "uplink", uplinks)
        for at, device in enumerate(self.own_devices):
            _known(f"device[{at}].class", [device.device_class], "class", classes)
            _known(f"device[{at}].link", [device.link], "link", links)
            _known(f"device[{at}].availability", [device.availability], "availability", times)

    @property
    def num_devices(self) -> int:
        """Devices in the fleet."""
        return self.devices or len(self.own_devices)

    @property
    def num_shards(self) -> int:
        """Parts into which the examples are cut."""
        return self.data_shards or self.num_devices

    @property
    def all_classes(self) -> tuple[DeviceClass, ...]:
        """The classes, those of the preset where the file names none."""
        return self.classes or (device_classes.WHALE if self.preset else ())

    @property
    def all_links(self) -> tuple[LinkClass, ...]:
        """The links, presets written out; a single unlimited one where there is none."""
        return tuple(expanded(self.links or (device_links.WHALE if self.preset else (UNLIMITED,))))

    @property
    def task_file(self) -> Path | None:
        """The task file that it names, if it does."""
        return None if self.task is None else self._beside(self.task)

    @property
    def trace_file(self) -> Path | None:
        """The CSV file that it names, if it does."""
        return None if self.trace is None else self._beside(self.trace.file)

    def availability_of(self, name: str) -> AnyAvailability:
        """The availability of that name; always there without a name."""
        return next((known for known in self.availabilities if known.name == name), ALWAYS)

    def _beside(self, path: str) -> Path:
        return Path(path) if self.origin is None else self.origin.parent / path


def _once(table: str, names: Sequence[str]) -> set[str]:
    """The names. Raises TaskError for one that is there twice."""
    known: set[str] = set()
    for at, name in enumerate(names):
        if name in known:
            raise TaskError(f"{table}[{at}].name is {name!r} once more; give each its own name")
        known.add(name)
    return known


def _known(key: str, names: Iterable[str], table: str, known: set[str]) -> None:
    """Raise TaskError for a name that is not known. The empty one names nothing."""
    for name in names:
        if name and name not in known:
            listed = ", ".join(sorted(known)) or f"none, as there is no [[{table}]]"
            raise TaskError(f"{key} names the {table} {name!r}; known: {listed}")
