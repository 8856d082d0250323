"""SCAFFOLD over real gRPC: its second vector on the wire, over a restart, and on real devices."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest
import support.aggregating
import torch
from hocket_aggregator.recovery.replay import replay
from hocket_device.__main__ import compose
from hocket_device.settings import Settings
from safetensors.torch import load_file
from support.aggregating import CNN, TASK, Running, caller, header, until
from support.clock import ManualClock
from support.learners import Ledger
from support.limits import LIMIT_S
from support.lives import digests, killed
from support.registry import serving_registry
from support.serving import serving
from support.site import kept
from torch import Tensor

from hocket.core.scheduling import Rounds
from hocket.core.stop import Stop
from hocket.core.submodel import SubmodelSpec
from hocket.core.update import Applied, Buffered, Dropped, Outcome
from hocket.errors import InvalidRequest, NotFinite, PayloadTooLarge, ShapeMismatch, UnknownVersion
from hocket.learn.blueprint import Blueprint
from hocket.learn.local_learner import LocalLearner
from hocket.learn.strategies import Scaffold
from hocket.learn.strategies.scaffold import VARIATE
from hocket.rpc.aggregator_client import AggregatorClient
from hocket.rpc.channel import open_channel
from hocket.rpc.registry_client import RegistryClient
from hocket.rpc.server import aggregator_service
from hocket.task.setup import Setup, set_up

aggregating = partial(
    support.aggregating.aggregating,
    strategy=Scaffold(cohort=2, devices=3),
    pace=Rounds(cohort=2),
)


@dataclass
class Fleet:
    """Three devices' learning: what a device does, but for its process."""

    learners: dict[str, LocalLearner]
    trainings: int = 0

    @classmethod
    def of(cls, setup: Setup) -> Fleet:
        task = setup.task
        shards = {name: task.train_examples(shard, 60) for shard, name in enumerate("abc")}
        return cls(
            {
                name: LocalLearner(
                    Blueprint.of(task.build_model(), setup.terms), shard, Ledger(), name=name
                )
                for name, shard in shards.items()
            }
        )

    async def begin(self, running: Running, name: str) -> int:
        """Pull, train; the version it was from."""
        limit = running.setup.terms.down_bytes
        pulled = await running.client.pull(caller(name), limit_bytes=limit, for_training=True)
        assert pulled is not None
        self.trainings += 1
        self.learners[name].start(pulled.payload, self.trainings)
        self.learners[name].train_epoch(1)
        return pulled.version

    async def end(self, running: Running, name: str, base: int) -> Outcome:
        learner = self.learners[name]
        outcome = await running.push(header(name, base), learner.encode())
        if isinstance(outcome, Dropped):
            learner.put_back()
        return outcome

    async def train(self, running: Running, names: str) -> list[Outcome]:
        return [await self.end(running, n, await self.begin(running, n)) for n in names]

    @property
    def mean_variate(self) -> Tensor:
        """Of those that never took part it is 0."""
        held = [learner.kept.get(VARIATE) for learner in self.learners.values()]
        assert any(one is not None for one in held)
        return torch.stack([one for one in held if one is not None]).sum(0) / len(held)


def server_variate(running: Running) -> Tensor:
    c = running.aggregator.core.exchanged(running.aggregator.core.newest.version)
    assert c is not None
    return c


async def test_a_restart_in_mid_round_and_a_replay_give_the_same_bits(tmp_path: Path) -> None:
    """One life, and two of which the first is killed with half a round in and a base held."""
    async with aggregating(tmp_path / "whole") as running:
        fleet = Fleet.of(running.setup)
        await fleet.train(running, "abb")
        late = await fleet.begin(running, "c")
        await fleet.end(running, "c", late)
        await fleet.train(running, "caab")
        known, variate = await digests(running), server_variate(running)
        assert len(known) == 5  # versions 1 to 5, of two updates each
        assert torch.allclose(fleet.mean_variate, variate, atol=1e-6)
        assert variate.any()

    halves = tmp_path / "halves"
    async with aggregating(tmp_path / "first") as running:
        fleet = Fleet.of(running.setup)
        assert [type(o) for o in await fleet.train(running, "abb")] == [Buffered, Applied, Buffered]
        held = await fleet.begin(running, "c")
        killed(tmp_path / "first", halves)
    async with aggregating(halves) as running:
        await fleet.end(running, "c", held)
        await fleet.train(running, "caab")
        assert await digests(running) == known
        assert torch.equal(server_variate(running), variate)
        for version, digest in known.items():
            assert (await replay(running.setup, halves, version)).digest == digest
    async with aggregating(halves) as running:  # from a snapshot that was taken at the end
        assert torch.equal(server_variate(running), variate)


async def test_a_dropped_update_leaves_both_sides_as_they_were(tmp_path: Path) -> None:
    async with aggregating(tmp_path) as running:
        fleet = Fleet.of(running.setup)
        late = await fleet.begin(running, "c")
        await fleet.train(running, "ab")
        before = server_variate(running)
        assert isinstance(await fleet.end(running, "c", late), Dropped)
        assert VARIATE not in fleet.learners["c"].kept
        assert torch.equal(server_variate(running), before)
        assert torch.allclose(fleet.mean_variate, before, atol=1e-6)


async def test_a_pull_for_training_brings_both_and_a_reader_gets_the_model(tmp_path: Path) -> None:
    async with aggregating(tmp_path, model=CNN) as running:
        fleet = Fleet.of(running.setup)
        await fleet.train(running, "ab")
        dense, both = running.manifest.dense_bytes, running.setup.terms.down_bytes
        base = await running.client.pull(caller("a"), limit_bytes=both, for_training=True)
        assert base is not None
        assert base.num_bytes == both == 2 * dense
        values = torch.frombuffer(bytearray(base.payload.body), dtype=torch.float32)
        model, c = values.chunk(2)
        assert torch.equal(model, await support.aggregating.pulled(running))
        assert torch.equal(c, server_variate(running))
        told = await running.client.get_task()
        assert told == running.setup.terms
        with pytest.raises(PayloadTooLarge):
            await running.client.pull(caller("a"), limit_bytes=dense, for_training=True)
        with pytest.raises(InvalidRequest, match="the whole model"):
            await running.client.pull(
                caller("a"), limit_bytes=both, spec=SubmodelSpec((0.5,)), for_training=True
            )


async def test_an_older_base_has_no_vector_any_more(tmp_path: Path) -> None:
    async with aggregating(tmp_path) as running:
        fleet, limit = Fleet.of(running.setup), running.setup.terms.down_bytes
        await fleet.begin(running, "c")  # holds version 1
        await fleet.train(running, "ab")
        assert await running.client.pull(None, limit_bytes=limit, version=1) is not None
        with pytest.raises(UnknownVersion, match="version 1 is over"):
            await running.client.pull(caller("d"), limit_bytes=limit, version=1, for_training=True)


async def test_an_unsound_second_half_is_refused_and_leaves_no_trace(tmp_path: Path) -> None:
    async with aggregating(tmp_path) as running:
        fleet = Fleet.of(running.setup)
        sliceable = running.setup.sliceable()
        plan = sliceable.plan(SubmodelSpec())
        size = running.manifest.size
        bad = torch.zeros(size)
        bad[-1] = float("nan")
        with pytest.raises(NotFinite, match="tensor c/"):
            await running.push(header("d"), sliceable.encode(torch.zeros(size), plan, bad))
        with pytest.raises(ShapeMismatch):
            await running.push(header("d"), sliceable.encode(torch.zeros(size), plan))
        assert not server_variate(running).any()
        await fleet.train(running, "ab")
        assert torch.allclose(fleet.mean_variate, server_variate(running), atol=1e-6)
        assert server_variate(running).isfinite().all()


DEVICE_TASK = """
name = "tiny"
seed = 3
[model]
function = "hocket.learn.models:mlp"
arguments = { inputs = 64, classes = 10, hidden = [12] }
[data]
kind = "digits"
"""


@asynccontextmanager
async def devices(
    names: Sequence[str], folder: Path, registry: str, aggregator: str
) -> AsyncIterator[None]:
    """Whole devices at work for the length of the block."""
    (folder / "task.toml").write_text(DEVICE_TASK)
    stop = asyncio.Event()

    async def one(shard: int, name: str) -> None:
        settings = Settings(
            registry=registry,
            aggregator=aggregator,
            device_id=name,
            shard=shard,
            shards=30,
            state_dir=folder / name,
            task=folder / "task.toml",
        )
        async with open_channel(registry) as to_registry, open_channel(aggregator) as to_aggregator:
            with ThreadPoolExecutor(1) as thread:
                agent = compose(
                    settings,
                    RegistryClient(to_registry),
                    AggregatorClient(to_aggregator),
                    thread,
                    chance=lambda: 0.02,
                )
                await agent.run(stop)

    async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as group:
        for shard, name in enumerate(names):
            group.create_task(one(shard, name))
        yield
        stop.set()


def kept_by(folder: Path) -> Tensor | None:
    """A device's c_i on disk; None where it never took part."""
    number = kept(folder)["local"]
    return load_file(folder / f"local-{number}.safetensors")[VARIATE] if number else None


async def test_real_devices_train_and_keep_what_adds_up_to_the_servers(tmp_path: Path) -> None:
    clock, names = ManualClock(), ["pi", "phone", "laptop"]
    async with (
        serving_registry(tmp_path / "registry", clock) as registry,
        open_channel(registry) as channel,
        aggregating(
            tmp_path / "aggregator",
            clock=clock,
            registry=RegistryClient(channel, registry),
            devices="",
            stop=Stop(versions=12),
            training=replace(TASK.training, learning_rate=0.1),
        ) as running,
        serving(aggregator_service(running.aggregator.service)) as aggregator,
    ):
        async with devices(names, tmp_path, registry, aggregator):
            await until(lambda: running.aggregator.core.finished is not None)
        examine = set_up(running.setup.task).load_examine()
        first, last = (
            examine(m) for m in (running.setup.first, running.aggregator.core.newest.model)
        )
        assert last.test_loss < first.test_loss - 0.05
        held = [kept_by(tmp_path / name) for name in names]
        assert sum(one is not None for one in held) >= 2
        summed = torch.stack([one for one in held if one is not None]).sum(0)
        assert torch.allclose(summed / 3, server_variate(running), atol=1e-5)
