"""A part of a model costs its own size on the wire, and naming it costs a few bytes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.aggregating import aggregating, caller, header
from support.learners import Ledger, terms
from support.relay import relaying
from support.small_nets import heterofl_cnn, shake

from hocket.core.capability import Capability
from hocket.core.ids import DeviceId, Version
from hocket.core.sizing import KINDS
from hocket.core.sizing.size import Ability, Facts, Size, part_of
from hocket.core.submodel import ChannelRule
from hocket.core.update import Applied
from hocket.learn.blueprint import Blueprint
from hocket.learn.data import Examples
from hocket.learn.flat import flatten
from hocket.learn.local_learner import LocalLearner
from hocket.learn.submodels.sliceable import Sliceable
from hocket.rpc.aggregator_client import AggregatorClient
from hocket.rpc.channel import open_channel
from hocket.rpc.convert.types import spec_from_pb, spec_to_pb
from hocket.task import ModelRef

# HeteroFL's CNN (submodels.md 4.1), and the running statistics of its four batch norms.
PARAMETERS = {1.0: 1_556_874, 0.25: 98_922}
STATISTICS = {1.0: 2 * (64 + 128 + 256 + 512), 0.25: 2 * (16 + 32 + 64 + 128)}


@pytest.mark.parametrize("kind", KINDS)
def test_naming_a_part_costs_bytes(kind: str) -> None:
    """At most 10 of the share, 2 of the rule, 10 of the seed."""
    ability = Ability(Capability(num_examples=100), keep=0.3)
    latest = Version(2**62)
    facts = Facts(DeviceId("a"), 10**9, latest, ability, 10, 32, 10**9, seed=2**62)
    spec = KINDS[kind]().choose(facts, {}).spec
    message = spec_to_pb(spec)
    assert not spec.is_full
    assert len(message.SerializeToString()) <= 22
    assert spec_from_pb(message) == spec


def test_a_quarter_of_the_width_costs_about_a_sixteenth_both_ways() -> None:
    """Pulled and pushed.

    All but the ends of the net shrink on both axes. The first convolution (576 values), the
    vectors (4800 with the statistics) and the classifier (5120) shrink on one: 6.8e-3 of all, so
    that the ratio is 1/16 + 6.8e-3 * (1/4 - 1/16) = 1/16 + 1.27e-3; the classifier's 10 biases,
    which stay, add 6e-6. Headers are not counted.
    """
    net = heterofl_cnn()
    shake(net)
    told = replace(terms(net), dropout_rows=())
    blueprint = Blueprint.of(net, told)
    server, vector = Sliceable.of(blueprint.graph), flatten(net)
    data = Examples(torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 2, 3]))
    pulled: dict[float, int] = {}
    pushed: dict[float, int] = {}
    for keep in (1.0, 0.25):
        part = server.encode(vector, server.plan(part_of(keep)))
        pulled[keep] = len(memoryview(part.body).cast("B"))
        device = LocalLearner(blueprint, data, Ledger(), name="d")
        device.start(part, 1, Size(part_of(keep)))
        device.train_epoch(1)
        update = device.encode()
        pushed[keep] = sum(tensor.encoded_bytes for tensor in update.header.tensors)
        assert pulled[keep] == 4 * (PARAMETERS[keep] + STATISTICS[keep])
    for moved in (pulled, pushed):
        assert 1 / 16 < moved[0.25] / moved[1.0] < 1 / 16 + 1.28e-3


async def test_all_that_travels_for_a_quarter_of_the_width_is_about_a_sixteenth(
    tmp_path: Path,
) -> None:
    """Every byte between a device and an aggregator: headers, frames, the first handshake, answers.

    Beside a body they come to 1 or 2 kB, well under a hundredth of a quarter's 398 kB. What is
    pushed is packed, by nearly as much at each width.
    """
    chance = torch.Generator().manual_seed(8)
    data = Examples(torch.rand(4, 1, 8, 8, generator=chance), torch.arange(4))
    task_model = ModelRef("hocket.learn.models:heterofl_cnn", {})
    pulled: dict[float, int] = {}
    pushed: dict[float, int] = {}
    async with aggregating(tmp_path, model=task_model) as running:
        blueprint = Blueprint.of(running.setup.task.build_model(), running.setup.terms)
        for name, keep in (("a", 1.0), ("b", 0.25)):
            async with relaying(running.address) as relay, open_channel(relay.address) as channel:
                client, part = AggregatorClient(channel), part_of(keep)
                model = await client.pull(
                    caller(name),
                    limit_bytes=running.manifest.dense_bytes,
                    spec=part,
                    why="so much ends in time",
                    for_training=True,
                )
                assert model is not None
                pulled[keep] = relay.num_bytes
                device = LocalLearner(blueprint, data, Ledger(), name=name)
                device.start(model.payload, 1, Size(part))
                device.train_epoch(1)
                update = device.encode()
                answer = await client.push(header(name, model.version, spec=part), update)
                assert isinstance(answer.outcome, Applied)
                pushed[keep] = relay.num_bytes - pulled[keep]
            beside = pulled[keep] - 4 * (PARAMETERS[keep] + STATISTICS[keep])
            assert 0 < beside < 5000
            assert 0 < pushed[keep] - update.header.wire_bytes < 5000
    assert 1 / 16 < pulled[0.25] / pulled[1.0] < 1 / 15
    assert 1 / 17 < pushed[0.25] / pushed[1.0] < 1 / 14


def test_every_rule_of_channels_costs_as_much() -> None:
    net = heterofl_cnn()
    server = Sliceable.of(Blueprint.of(net, terms(net)).graph)
    vector = torch.zeros(server.manifest.size)
    sizes = {
        len(memoryview(server.encode(vector, server.plan(part_of(0.25, rule, 77))).body).cast("B"))
        for rule in ChannelRule
    }
    assert sizes == {4 * (PARAMETERS[0.25] + STATISTICS[0.25])}
