"""One history through the simulator and through the services: the same bits, both ways."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import xxhash
from hocket_device.__main__ import compose
from hocket_device.settings import Settings
from support.aggregating import Running, aggregating, until
from support.clock import ManualClock
from support.gate import Gate
from support.histories import entries, exported, recorded
from support.limits import LIMIT_S
from support.lives import digests
from support.registry import IDLE, serving_registry
from support.serving import serving
from support.simulations import Rows, fleet, ready, stopwatch, task

from hocket.core.device import Caller
from hocket.core.ids import DeviceId
from hocket.core.records import DevicePhase
from hocket.core.scheduling import Periodic
from hocket.core.update import Applied
from hocket.learn.strategies import FedAvg, FedBuff
from hocket.rpc.aggregator_client import AggregatorClient
from hocket.rpc.channel import open_channel
from hocket.rpc.registry_client import RegistryClient
from hocket.rpc.server import aggregator_service
from hocket.rpc.transfer import PulledModel
from hocket.sim.fleet import FleetFile
from hocket.sim.history import Ended, Held, History, Settled
from hocket.sim.reliving import relive
from hocket.sim.timing import Replay, plans_of
from hocket.task import Task, load_task
from hocket.task.setup import set_up

SEED = 3
MLP = """
[model]
function = "hocket.learn.models:mlp"
arguments = { inputs = 64, classes = 10, hidden = [16] }
"""
TASK = """
name = "both"
seed = 3
[data]
kind = "digits"
limit = 240
[training]
local_epochs = 3
batch_size = 8
learning_rate = 0.1
[codec]
kind = "topk"
ratio = 0.1
[evaluation]
limit = 50
"""
WHOLE = f"""{MLP}
[submodel]
kind = "full"
"""
STRATEGIES = {
    "fedasmu": f"""{WHOLE}
[pace]
kind = "periodic"
period_s = 1.0
triggers = 3
[stop]
versions = 20
""",
    "fedbuff": f"""{WHOLE}
[strategy]
kind = "fedbuff"
goal = 3
[pace]
kind = "periodic"
period_s = 1.0
triggers = 3
[stop]
versions = 7
""",
    "parts": """
[model]
function = "hocket.learn.models:digits_cnn"
[submodel]
kind = "federated-dropout"
ratios = [0.5]
[strategy]
kind = "fedavg"
cohort = 3
[pace]
kind = "periodic"
period_s = 1.0
triggers = 3
[stop]
versions = 5
""",
}
ALONE = f"""{WHOLE}
[refresh]
kind = "none"
[pace]
kind = "concurrent"
devices = 1
[stop]
versions = 6
"""
CNN = "hocket.learn.models:digits_cnn"
NAMES = ("pi", "phone", "laptop")
SHARDS = 6


# --- from the simulator to the services


PARTS = {"kind": "fedrolex", "mode": "dynamic", "levels": [1.0, 0.5, 0.25]}


@pytest.mark.parametrize("submodel", [{"kind": "full"}, PARTS], ids=["whole", "parts"])
async def test_a_recorded_simulation_gives_the_services_the_same_bits(
    tmp_path: Path, submodel: dict[str, Any]
) -> None:
    model = {} if submodel is not PARTS else {"model": {"function": CNN}}
    small = task(
        **model,
        submodel=submodel,
        training={"local_epochs": 3, "batch_size": 8, "learning_rate": 0.1},
        strategy={"kind": "fedasmu"},
        codec={"kind": "topk", "ratio": 0.1},
        error_feedback=True,
        refresh={"kind": "learned"},
    )
    wider = 1 if submodel is not PARTS else 12  # the network is so much larger
    rates = {"up_bytes_per_s": 3000.0 * wider, "down_bytes_per_s": 20000.0 * wider}
    link = {"name": "l", **rates, "loss": 0.2}
    devices = fleet(6, link=[link], stop={"versions": 40})
    result, history = recorded(small, devices, tmp_path / "history")
    assert result.counts.breaks > 5
    assert result.counts.merges > 5
    assert result.counts.tau_max > 1
    same = result.scenario.task
    async with services(tmp_path, replace(same, pace=Periodic(1e9, 1))) as (running, _, registry):
        made = await told_again(running, registry, history)
        assert made == await digests(running)
        assert await running.digest() == result.digest
        assert len(made) == 40


@asynccontextmanager
async def services(
    folder: Path, of_task: Task
) -> AsyncIterator[tuple[Running, str, RegistryClient]]:
    """A real registry and a real aggregator of a task."""
    told = {field.name: getattr(of_task, field.name) for field in fields(of_task)}
    told = {name: value for name, value in told.items() if name not in {"limits", "origin"}}
    clock = ManualClock()
    async with AsyncExitStack() as stack:
        address = await stack.enter_async_context(serving_registry(folder / "registry", clock))
        registry = RegistryClient(await stack.enter_async_context(open_channel(address)), address)
        running = await stack.enter_async_context(
            aggregating(folder / "aggregator", clock=clock, registry=registry, devices="", **told)
        )
        yield running, address, registry


async def told_again(
    running: Running, registry: RegistryClient, history: History
) -> Mapping[int, str]:
    """Do over gRPC what the history says; the digest of each of its versions."""
    limit = running.manifest.dense_bytes
    known = {1: history.beginning.digest}
    callers: dict[DeviceId, Caller] = {}
    for entry in entries(history):
        match entry:
            case Held(_, name, version):
                if name not in callers:
                    callers[name] = (await registry.join(IDLE, name)).caller
                pulled = await running.client.pull(
                    callers[name], limit_bytes=limit, for_training=True
                )
                assert pulled is not None
                assert pulled.version == version
                assert digest_of_bytes(pulled) == known[version]
            case Settled(_, header, payload, outcome, digest):
                assert payload is not None
                mine = replace(header, incarnation=callers[header.device_id].incarnation)
                assert await running.push(mine, payload) == outcome
                if digest:
                    assert isinstance(outcome, Applied)
                    known[outcome.version] = digest
    return known


def digest_of_bytes(pulled: PulledModel) -> str:
    return f"{xxhash.xxh3_64_intdigest(pulled.payload.body):016x}"


# --- from the services to the simulator


@pytest.fixture(scope="module", params=STRATEGIES)
def lived(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a real registry, a real aggregator and real devices left of a task."""
    folder = tmp_path_factory.mktemp("lived")
    (folder / "task.toml").write_text(TASK + STRATEGIES[request.param])
    asyncio.run(live(folder, NAMES))
    return folder


async def live(folder: Path, names: tuple[str, ...]) -> None:
    """A task from start to end: `folder` holds its file, and then what an aggregator left."""
    of_task, gate = load_task(folder / "task.toml"), Gate(closed_before=1)
    gate.open.set()
    with pytest.MonkeyPatch.context() as patch:
        gate.put(patch)
        async with asyncio.timeout(LIMIT_S), services(folder, of_task) as (running, registry, _):
            async with (
                serving(aggregator_service(running.aggregator.service)) as aggregator,
                agents(names, folder, registry, aggregator),
            ):
                await all_periods(running, names, gate)
            (folder / "digest").write_text(await running.digest())


async def all_periods(running: Running, names: tuple[str, ...], gate: Gate) -> None:
    """Let a period end whenever all devices wait for it, until the task is over.

    They train once all have pulled: so from one base, however long one of them takes to come.
    """
    core, clock = running.aggregator.core, running.clock
    assert isinstance(clock, ManualClock)

    def idle() -> bool:
        return len(core.fleet.idle) == len(names) or core.finished is not None

    def training() -> bool:
        phases = {running.phase(name) for name in names}
        return phases == {DevicePhase.TRAINING} or core.finished is not None

    while core.finished is None:
        await until(idle)
        gate.open.clear()
        await clock.advance(1.0)
        await until(training)
        gate.open.set()


@asynccontextmanager
async def agents(
    names: tuple[str, ...], folder: Path, registry: str, aggregator: str
) -> AsyncIterator[None]:
    """Whole devices at work for the length of the block."""
    stop = asyncio.Event()

    async def one(shard: int, name: str) -> None:
        settings = Settings(
            registry=registry,
            aggregator=aggregator,
            device_id=name,
            shard=shard,
            shards=SHARDS,
            state_dir=folder / name,
            task=folder / "task.toml",
        )
        async with open_channel(registry) as to_registry, open_channel(aggregator) as to_aggregator:
            with ThreadPoolExecutor(1) as thread:
                there = RegistryClient(to_registry), AggregatorClient(to_aggregator)
                await compose(settings, *there, thread, lambda: 0.02).run(stop)

    async with asyncio.TaskGroup() as group:
        for shard, name in enumerate(names):
            group.create_task(one(shard, name))
        yield
        stop.set()


def history_of(folder: Path, where: Path) -> History:
    setup = set_up(load_task(folder / "task.toml"))
    return exported(setup, folder / "aggregator", where / "history")


def settled(history: History) -> list[Settled]:
    return [entry for entry in entries(history) if isinstance(entry, Settled)]


def test_what_services_have_lived_comes_to_the_same_bits_here(lived: Path, tmp_path: Path) -> None:
    history, of_task = history_of(lived, tmp_path), load_task(lived / "task.toml")
    relived = relive(set_up(of_task), history)
    assert relived.difference is None
    assert relived.version == of_task.stop.versions
    assert relived.versions == relived.version - 1
    assert relived.digest == (lived / "digest").read_text()
    assert relived.updates == len(settled(history)) >= relived.versions


def test_another_seed_is_no_history_of_this_task(lived: Path, tmp_path: Path) -> None:
    history, of_task = history_of(lived, tmp_path), load_task(lived / "task.toml")
    relived = relive(set_up(replace(of_task, seed=SEED + 1)), history)
    assert relived.difference is not None
    assert relived.difference.line == 1
    slower = relive(set_up(replace(of_task, strategy=changed(of_task.strategy))), history)
    assert slower.difference is not None
    assert slower.version < relive(set_up(of_task), history).version


def test_a_recorded_timing_is_lived_through_with_real_training(lived: Path, tmp_path: Path) -> None:
    history, of_task = history_of(lived, tmp_path), load_task(lived / "task.toml")
    rows = Rows()
    prepared = ready(of_task, same_fleet(), seed=SEED)
    plans = plans_of(history, prepared)
    replay = Replay(prepared, history, plans, stopwatch=stopwatch, tracer=rows)
    result = replay.run()
    told = before_the_end(history)
    there = [
        (e.header.update_id, e.header.device_id, e.header.base_version, e.outcome.tau, e.at_s)
        for e in told
    ]
    here = [(r.update_id, r.device, r.version, r.tau, r.at_s) for r in rows.of("settle")]
    assert here == there
    assert replay.unlike == 0
    if not isinstance(of_task.strategy, FedAvg):  # whose rounds take in nothing stale
        assert len({e.outcome.tau for e in told}) > 1
    assert result.newest.version == of_task.stop.versions
    assert result.counts.trainings == len(told)
    assert result.curve[-1].loss < result.curve[0].loss - 0.1


def before_the_end(history: History) -> list[Settled]:
    """What the rules took in before the task was over."""
    until_end = itertools.takewhile(lambda e: not isinstance(e, Ended), entries(history))
    return [entry for entry in until_end if isinstance(entry, Settled)]


def same_fleet() -> FleetFile:
    """The devices of `live`, as a fleet file names them."""
    own = [{"name": name, "class": "phone", "shard": at} for at, name in enumerate(NAMES)]
    found: FleetFile = fleet(None, data_shards=SHARDS, device=own)
    return found


def changed(strategy: Any) -> Any:
    """The same rule with another number."""
    if isinstance(strategy, FedBuff):
        return replace(strategy, server_lr=0.5 * strategy.server_lr)
    if isinstance(strategy, FedAvg):
        return replace(strategy, parts=replace(strategy.parts, damped=True))
    return replace(strategy, mu_alpha=2.0 * strategy.mu_alpha)


# --- one device, both ways


def test_a_device_pushes_the_same_bytes_here_and_there(tmp_path: Path) -> None:
    (tmp_path / "task.toml").write_text(TASK + ALONE)
    asyncio.run(live(tmp_path, NAMES[:1]))
    there = history_of(tmp_path, tmp_path)
    of_task = load_task(tmp_path / "task.toml")
    own = [{"name": NAMES[0], "class": "phone", "shard": 0}]
    small = fleet(None, data_shards=SHARDS, device=own, seed=SEED, stop={"versions": 6})
    _, here = recorded(of_task, small, tmp_path / "here")
    assert here.beginning.digest == there.beginning.digest
    pushed = [settled(history)[:5] for history in (here, there)]
    for mine, theirs in zip(*pushed, strict=True):
        assert mine.payload is not None
        assert theirs.payload is not None
        assert mine.payload.header == theirs.payload.header
        assert bytes(mine.payload.body) == bytes(theirs.payload.body)
        assert mine.header.train_loss == theirs.header.train_loss
        assert mine.header.num_steps == theirs.header.num_steps
        assert (mine.outcome, mine.digest) == (theirs.outcome, theirs.digest)
    assert len(pushed[0]) == 5
