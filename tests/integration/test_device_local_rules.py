"""Whole devices over real gRPC that do what the aggregator tells them besides gradient descent."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.aggregating import aggregating
from support.clock import ManualClock
from support.fake_aggregator import FakeAggregator
from support.learners import Ledger
from support.limits import LIMIT_S
from support.registry import serving_registry
from support.serving import serving
from support.site import DIGITS, Site, aggregator, kept, site, until
from torch import Tensor

from hocket.core.payload import CodecId
from hocket.core.scheduling import Rounds
from hocket.core.stop import Stop
from hocket.core.terms import EncodingTerms, LocalTerms, RefreshTerms, TrainingTerms
from hocket.core.update import Dropped, DropReason
from hocket.errors import ModelError, TaskError
from hocket.learn.blueprint import Blueprint
from hocket.learn.codecs.payload import decode_payload
from hocket.learn.local_learner import LocalLearner
from hocket.learn.sgd import TrainingRules
from hocket.learn.strategies import AsoFed, FedAvg, FedProx, Moon
from hocket.rpc.channel import open_channel
from hocket.rpc.registry_client import RegistryClient
from hocket.rpc.server import aggregator_service

TASK_FILE = """
name = "tiny"
seed = 3
[model]
function = "hocket.learn.models:mlp"
arguments = { inputs = 64, classes = 10, hidden = [12] }
[data]
kind = "digits"
"""
PLAIN = TrainingTerms(local_epochs=2, batch_size=16, learning_rate=0.05)


def telling(local: LocalTerms) -> FakeAggregator:
    return aggregator(
        training=replace(PLAIN, local=local),
        encoding=EncodingTerms(CodecId.RAW, error_feedback=False),
        refresh=RefreshTerms(enabled=False),
    )


def local_file(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / f"local-{kept(folder)['local']}.safetensors")


def rested(folder: Path, trainings: int) -> bool:
    state = kept(folder)
    return state["outbox"] == 0 and (state["participant"] or {}).get("trainings") == trainings


class Twin:
    """What a device's update should be, worked out here."""

    def __init__(self, fake: FakeAggregator) -> None:
        blueprint = Blueprint.of(DIGITS.build_model(), fake.terms)
        examples = DIGITS.train_examples(0, 20)
        self.learner = LocalLearner(blueprint, examples, Ledger(), name="d1")
        self.base, self.manifest = fake.vector, fake.terms.manifest

    def update(self, training: int) -> Tensor:
        self.learner.start_from(self.base, training)
        for epoch in (1, 2):
            self.learner.train_epoch(epoch)
        return decode_payload(self.learner.encode(), self.manifest)


async def test_a_device_is_held_to_its_base_as_the_aggregator_says(tmp_path: Path) -> None:
    updates = {}
    for mu in (0.0, 0.01, 5.0):
        fake = telling(FedProx(mu=mu).local)
        async with site(tmp_path / str(mu), fake) as s, s.device():
            fake.trigger()
            updates[mu] = (await fake.taken.get()).delta
        assert torch.allclose(updates[mu], Twin(fake).update(1), atol=1e-6)
    assert not torch.equal(updates[0.0], updates[0.01])
    assert 0 < float(updates[5.0].norm()) < 0.8 * float(updates[0.0].norm())


def task_in(folder: Path) -> Path:
    folder.mkdir()
    (folder / "task.toml").write_text(TASK_FILE)
    return folder / "task.toml"


async def trained_by(strategy: FedAvg | FedProx, folder: Path) -> Tensor:
    """The fourth version of a real aggregator whose one device is a real one."""
    task, clock = task_in(folder), ManualClock()
    async with (
        serving_registry(folder / "registry", clock) as registry,
        open_channel(registry) as to_registry,
        aggregating(
            folder / "aggregator",
            clock=clock,
            registry=RegistryClient(to_registry, registry),
            devices="",
            strategy=strategy,
            pace=Rounds(cohort=1),
            training=TrainingRules(local_epochs=2, batch_size=16, learning_rate=0.05),
            stop=Stop(versions=4),
        ) as running,
        serving(aggregator_service(running.aggregator.service)) as aggregator,
    ):
        members = RegistryClient(to_registry, registry)
        here = Site(telling(LocalTerms()), members, registry, aggregator, clock, folder)
        async with here.device(task=task):
            await until(lambda: running.aggregator.core.finished is not None)
        return running.aggregator.core.newest.model.clone()


async def test_mu_changes_the_model_that_a_real_aggregator_and_device_come_to(
    tmp_path: Path,
) -> None:
    plain = await trained_by(FedAvg(cohort=1), tmp_path / "fedavg")
    zero = await trained_by(FedProx(cohort=1, mu=0.0), tmp_path / "zero")
    held = await trained_by(FedProx(cohort=1, mu=2.0), tmp_path / "held")
    assert torch.equal(plain, zero)
    assert not torch.allclose(plain, held, atol=1e-3)


@pytest.mark.parametrize("used", [True, False], ids=["used", "dropped"])
async def test_a_restarted_device_has_its_last_model_if_its_update_was_used(
    tmp_path: Path, *, used: bool
) -> None:
    fake = telling(Moon(mu=5.0).local)
    folder = tmp_path / "d1"
    if not used:
        fake.outcome = Dropped(DropReason.ROUND_OVER, "pull anew", 1)
    twin = Twin(fake)
    async with site(tmp_path, fake) as s:
        async with s.life():
            fake.trigger()
            first = (await fake.taken.get()).delta
            await until(lambda: rested(folder, 1))
        if used:
            assert torch.allclose(local_file(folder)["model"], fake.vector + first, atol=1e-6)
        else:
            assert kept(folder)["local"] == 0
            assert list(folder.glob("local-*")) == []
        async with s.life():
            await until(lambda: len(fake.said_training) > 1)
            fake.trigger()
            second = (await fake.taken.get()).delta
    assert torch.allclose(first, twin.update(1), atol=1e-6)
    if not used:
        twin.learner.put_back()
    assert torch.allclose(second, twin.update(2), atol=1e-6)


async def test_a_device_measures_how_long_its_trainings_take(tmp_path: Path) -> None:
    fake = telling(AsoFed().local)
    folder = tmp_path / "d1"
    async with site(tmp_path, fake) as s, s.device():
        for training in (1, 2):
            fake.trigger()
            await fake.taken.get()
            await until(lambda training=training: rested(folder, training))  # type: ignore[misc]
            delays = local_file(folder)["delays"]
            assert float(delays[1]) == training - 1  # the one in flight is not over yet
    assert 0.0 < float(delays[0]) < LIMIT_S
    assert kept(folder)["local"] == kept(folder)["local_before"]


async def test_a_device_that_does_not_know_the_rule_takes_no_part(tmp_path: Path) -> None:
    fake = telling(LocalTerms("tomorrow", (("mu", 1.0),)))
    async with site(tmp_path, fake) as s, s.agent() as agent:
        with pytest.raises(TaskError, match=r"'tomorrow'.*install the version of Hocket"):
            await agent.run(asyncio.Event())
    assert fake.subscribers.empty()


async def test_a_narrow_device_takes_no_part_where_whole_models_are_wanted(tmp_path: Path) -> None:
    fake = telling(Moon().local)
    async with site(tmp_path, fake) as s, s.agent(keep=0.5) as agent:
        with pytest.raises(ModelError, match="start the device with a share of 1"):
            await agent.run(asyncio.Event())
    assert fake.subscribers.empty()
