"""A study file as one frozen dataclass: which methods are compared, where, and how they are tuned.

Nothing here knows what a study came to.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from hocket.errors import TaskError
from hocket.sim.fleet.ranges import LARGEST_SEED, Count, LastingSeconds, Name, PositiveShare

FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
Seeds = Annotated[tuple[int, ...], Field(min_length=1)]
Positive = Annotated[float, Field(gt=0)]
Table = dict[str, Any]
"""Keys of a task file, nested or dotted, and what each is set to."""
Grid = dict[str, Any]
"""Likewise, each with an array of the values to be tried; every combination is a point."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """What is learned, by whom, and for how long."""

    name: FileName
    fleet: Annotated[str, Field(min_length=1)]  # a file, relative to the study's
    task: str | None = None  # likewise; None: what the fleet file names
    virtual_s: LastingSeconds | None = None  # the horizon; None: the fleet's own [stop]
    evaluations: Count = 50  # evenly; without a horizon where the fleet says no every_s
    test_examples: Count | None = None  # None: as the fleet has it
    targets: tuple[PositiveShare, ...] = ()  # accuracies; empty: by the study's rule
    changes: Table = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Method:
    """A way to train: changes to the task, and the points among which tuning chooses."""

    name: Name
    follows: str = ""  # a method of which this is a variant: it takes over its chosen point
    grid: tuple[Table, ...] = ()  # alternatives, each with every combination of the study's grid
    changes: Table = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tuning:
    """How a method's point is chosen: by its last evaluations in one short run each."""

    seed: int = 1  # of no run that is reported
    horizon: PositiveShare = 0.4  # share of the reported runs' horizon
    last: Count = 5  # evaluations whose mean decides


@dataclass(frozen=True, slots=True)
class TargetRule:
    """Accuracies to be reached: shares of the median method's final accuracy, rounded down."""

    shares: tuple[Positive, ...] = (0.95, 1.0)
    step: PositiveShare = 0.01  # to multiples of this


@dataclass(frozen=True, slots=True)
class Claims:
    """What a paper says of a method against its baselines: from the least to the most, or in words.

    points: more final accuracy; saving: less time to a target, in percent.
    """

    points: tuple[float, float] | None = None
    saving: tuple[float, float] | None = None
    says: str = ""  # the end of a sentence
    source: str = "the paper"

    def __post_init__(self) -> None:
        if self.points is None and self.saving is None and not self.says:
            raise ValueError("nothing is claimed; give points, saving or says")


@dataclass(frozen=True, slots=True)
class Contrast:
    """A method set against some others, besides the one that all are set against."""

    method: str
    against: Annotated[tuple[str, ...], Field(min_length=1)]
    claims: Claims | None = None


@dataclass(frozen=True, slots=True)
class Scale:
    """The same study, larger or smaller. What is left out stays as the study has it."""

    datasets: tuple[str, ...] = ()  # names; empty: all
    methods: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    devices: Count | None = None
    examples_per_device: Count | None = None
    horizon: Positive = 1.0  # times each dataset's
    evaluations: Count | None = None
    test_examples: Count | None = None
    tuned: bool = True  # False: every method takes its grid's first point
    grid: Grid | None = None  # in place of the study's
    rounds: Table = field(default_factory=dict)  # changes to the methods of rounds, after their own
    wall_s: Positive | None = None  # what it is meant to take; more is said before it begins
    changes: Table = field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """The tables of a study file. Raises TaskError for what contradicts itself."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    datasets: Annotated[tuple[Dataset, ...], Field(alias="dataset", min_length=1)]
    methods: Annotated[tuple[Method, ...], Field(alias="method", min_length=1)]
    seeds: Seeds
    name: FileName = "study"
    title: str = ""
    compared: str = ""  # the method that all others are set against; empty: none
    default_scale: str = ""  # empty: the study as it stands
    grid: Grid = field(default_factory=dict)  # tried with every method
    changes: Table = field(default_factory=dict)
    notes: tuple[str, ...] = ()  # for the report: what its reader must know and no key can say
    tuning: Tuning = field(default_factory=Tuning)
    targets: TargetRule = field(default_factory=TargetRule)
    claims: Claims | None = None  # of the compared method
    contrasts: Annotated[tuple[Contrast, ...], Field(alias="contrast")] = ()
    scales: Annotated[dict[str, Scale], Field(alias="scale")] = field(default_factory=dict)
    origin: Path | None = None  # not from the file, but where it lies

    def __post_init__(self) -> None:
        datasets = _once("dataset", [dataset.name for dataset in self.datasets])
        methods = _once("method", [method.name for method in self.methods])
        _known("compared", self.compared, methods)
        _known("default_scale", self.default_scale, self.scales)
        for at, contrast in enumerate(self.contrasts):
            for key, named in (("method", (contrast.method,)), ("against", contrast.against)):
                for name in named:
                    _known(f"contrast[{at}].{key}", name, methods)
            if contrast.method in contrast.against:
                raise TaskError(
                    f"contrast[{at}] sets {contrast.method!r} against itself; leave it out of "
                    "'against'"
                )
        self._check_followers()
        self.check_seeds("seeds", self.seeds)
        _check_grid("grid", self.grid)
        for name, scale in self.scales.items():
            self.check_seeds(f"scale.{name}.seeds", scale.seeds)
            _check_grid(f"scale.{name}.grid", scale.grid or {})
            for dataset in scale.datasets:
                _known(f"scale.{name}.datasets", dataset, datasets)
            for method in scale.methods:
                _known(f"scale.{name}.methods", method, methods)

    def check_seeds(self, key: str, seeds: Iterable[int]) -> None:
        """Raise TaskError for a seed out of range or that comes twice, or by which is tuned."""
        seen: set[int] = set()
        for seed in seeds:
            if not 0 <= seed <= LARGEST_SEED:
                raise TaskError(f"{key} has {seed}; choose seeds from 0 to 2**63 - 1")
            if seed in seen:
                raise TaskError(f"{key} has {seed} twice; each seed is one run, leave one out")
            if seed == self.tuning.seed:
                raise TaskError(
                    f"{key} has {seed}, the seed of [tuning]; report other seeds than those by "
                    "which the methods' settings were chosen"
                )
            seen.add(seed)

    def method(self, name: str) -> Method:
        """A method by its name; KeyError for none."""
        return {method.name: method for method in self.methods}[name]

    def _check_followers(self) -> None:
        leaders = [method.name for method in self.methods if not method.follows]
        for at, method in enumerate(self.methods):
            if not method.follows:
                continue
            _known(f"method[{at}].follows", method.follows, leaders)
            if method.grid:
                raise TaskError(
                    f"method[{at}] follows {method.follows!r} and has a grid of its own; it takes "
                    "over the point chosen there, so leave one of the two out"
                )


def _once(table: str, names: list[str]) -> set[str]:
    for at, name in enumerate(names):
        if name in names[:at]:
            raise TaskError(f"{table}[{at}].name is {name!r} a second time; give it another name")
    return set(names)


def _known(key: str, name: str, known: Iterable[str]) -> None:
    if name and name not in known:
        raise TaskError(f"{key} names {name!r}, which is not there; choose {', '.join(known)}")


def _check_grid(within: str, grid: Grid) -> None:
    for key, values in flat(grid).items():
        if not (isinstance(values, list) and values):
            raise TaskError(
                f"{within}.{key} is {values!r}; write the values to be tried as an array"
            )


def flat(table: Mapping[str, Any]) -> dict[str, Any]:
    """Nested tables as dotted keys."""
    return dict(_flat(table, ""))


def _flat(table: Mapping[str, Any], within: str) -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        dotted = f"{within}.{key}" if within else key
        if isinstance(value, Mapping):
            yield from _flat(value, dotted)
        else:
            yield dotted, value
