"""What `hocket bench sim` simulates: tasks and fleets, without files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hocket.core.records import Evaluation
from hocket.core.scheduling import Concurrent
from hocket.core.sizing import Full
from hocket.learn.data import Digits, Iid, Lookup, Normalisation, Parquet
from hocket.learn.strategies import AnyStrategy, FedASMU, FedAsync
from hocket.learn.training import TrainingRules
from hocket.sim.fleet import FleetFile
from hocket.sim.fleet.availability import OnOff
from hocket.sim.fleet.classes import WHALE, DeviceClass
from hocket.sim.fleet.file import EvaluationTimes, VirtualStop
from hocket.sim.fleet.links import LinkClass
from hocket.sim.preparing import Prepared, prepare
from hocket.sim.scenario import scenario_of
from hocket.task import Task
from hocket.task.rules import EvaluationRules, Limits, ModelRef, RefreshSettings
from hocket.task.task import Origin

CIFAR = Parquet(
    train="cifar10-train.parquet",
    test="cifar10-test.parquet",
    normalise=Normalisation((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
)
SMALL, ONE_MB = (64,), (3495,)  # hidden units of the perceptron: 4,810 and 262,135 values
SHARDS = 10  # of the digits, where nobody trains
JUDGED = EvaluationRules(limit=10)
VERY_STALE = 1_000_000  # versions: an update of a thousand at once is a thousand behind

STRATEGIES: dict[str, AnyStrategy] = {"fedasync": FedAsync(), "fedasmu": FedASMU()}


def find_cifar(folders: Sequence[Path]) -> None:
    """Raise DataError, naming the places, where CIFAR-10's two files are not."""
    for file in (CIFAR.train, CIFAR.test):
        Lookup(tuple(folders)).find(file or "")


def cifar(folders: Sequence[Path], trainings: int, examples_each: int) -> Prepared:
    """CIFAR-10 as the study of FedASMU trains it, on a hundred devices, for so many versions."""
    task = Task(
        ModelRef("hocket.learn.models:cifar_cnn"),
        CIFAR,
        name="cifar10",
        training=TrainingRules(local_epochs=4, batch_size=20, learning_rate=0.02),
        refresh=RefreshSettings("fixed", 2),
        submodel=Full(),
        origin=Origin(lookup=Lookup(tuple(folders))),
    )
    fleet = FleetFile(
        name="bench",
        devices=100,
        examples_per_device=examples_each,
        classes=WHALE,
        links=(LinkClass("links", 200_000.0, 800_000.0, rtt_s=0.04, loss=0.01),),
        evaluation=EvaluationTimes(every_s=20.0, examples=2000),
        stop=VirtualStop(versions=1 + trainings),
    )
    return prepare(scenario_of(task, fleet))


def noop(strategy: AnyStrategy, updates: int) -> Prepared:
    """A hundred devices, fifty at a time, with a model of 1 MB and links without limit."""
    fleet = FleetFile(
        name="bench",
        devices=100,
        data_shards=SHARDS,
        classes=(DeviceClass("device", per_example_s=0.01, spread=0.3, jitter=0.1),),
        evaluation=EvaluationTimes(every_s=60.0),
        stop=VirtualStop(versions=1 + updates),
    )
    return _unjudged(_task(ONE_MB, strategy, training_at_once=50), fleet)


def registered(devices: int, training_at_once: int, updates: int) -> Prepared:
    """A fleet that comes and goes and trains a small model over links that break."""
    fleet = FleetFile(
        name="bench",
        devices=devices,
        data_shards=SHARDS,
        classes=(
            DeviceClass(
                "device", per_example_s=0.2, spread=0.3, jitter=0.1, availability="passing"
            ),
        ),
        links=(LinkClass(preset="whale", rtt_s=0.03, loss=0.01),),
        availabilities=(OnOff("passing", mean_on_s=3600.0, mean_off_s=1800.0),),
        stop=VirtualStop(versions=1 + updates),
    )
    return _unjudged(_task(SMALL, FedAsync(), training_at_once), fleet)


def _task(hidden: Sequence[int], strategy: AnyStrategy, training_at_once: int) -> Task:
    arguments = {"inputs": 64, "classes": 10, "hidden": list(hidden)}
    return Task(
        ModelRef("hocket.learn.models:mlp", arguments),
        Digits(limit=SHARDS * 100),
        name="bench",
        partition=Iid(),
        training=TrainingRules(local_epochs=1, batch_size=20, learning_rate=0.05),
        strategy=strategy,
        pace=Concurrent(training_at_once),
        submodel=Full(),
        evaluation=JUDGED,
        limits=Limits(staleness=VERY_STALE),
    )


def _unjudged(task: Task, fleet: FleetFile) -> Prepared:
    """Without the cost of judging models that nobody trains."""
    prepared = prepare(scenario_of(task, fleet))
    return replace(prepared, examine=lambda _: Evaluation(test_loss=1.0, test_accuracy=0.1))
