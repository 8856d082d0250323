"""Pulls over real gRPC: what is sent, which bases are held for it, and how much a part costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from support.aggregating import CNN, Running, aggregating, caller, pulled

from hocket.core.submodel import ChannelRule, SubmodelSpec
from hocket.errors import Overloaded
from hocket.learn.submodels.plan import plan_of
from hocket.v1 import aggregator_pb2 as pb


async def test_only_what_is_newer_is_sent(running: Running) -> None:
    limit = running.manifest.dense_bytes
    assert await running.client.pull(caller("a"), limit_bytes=limit, only_if_newer_than=1) is None
    await running.push_from("a", 1)
    newer = await running.client.pull(caller("a"), limit_bytes=limit, only_if_newer_than=1)
    assert newer is not None
    assert newer.version == 2


async def test_a_version_that_was_lost_is_replaced(running: Running) -> None:
    """A device may know a version from before a crash that this aggregator never made."""
    limit = running.manifest.dense_bytes
    model = await running.client.pull(caller("a"), limit_bytes=limit, only_if_newer_than=7)
    assert model is not None
    assert model.version == 1


async def test_a_base_is_held_until_its_update_comes(running: Running) -> None:
    limit = running.manifest.dense_bytes
    await running.client.pull(caller("d"), limit_bytes=limit, for_training=True)
    await running.push_from("a", 1)
    await running.push_from("b", 2)
    versions = {v.version: v.retained async for v in running.client.list_versions()}
    assert versions == {1: True, 2: False, 3: True}
    await running.push_from("d", 1)
    versions = {v.version: v.retained async for v in running.client.list_versions()}
    assert versions == {1: False, 2: False, 3: False, 4: True}


async def test_pulls_that_nobody_reads_are_bounded_and_make_room_when_they_go(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hocket_aggregator.service.MAX_PULLS", 2)
    request, service = pb.PullModelRequest(), running.aggregator.service
    unread: list[Any] = [service.PullModel(request, cast("Any", None)) for _ in range(2)]
    for parts in unread:
        await anext(parts)
    with pytest.raises(Overloaded) as refused:
        await pulled(running)
    assert refused.value.retry_after_s > 0
    await unread[0].aclose()
    assert len(await pulled(running)) == running.manifest.size


async def test_a_submodel_costs_about_its_size(tmp_path: Path) -> None:
    async with aggregating(tmp_path, model=CNN) as running:
        spec = SubmodelSpec((0.5,), ChannelRule.LEADING)
        plan = plan_of(running.setup.graph, spec)
        part = await pulled(running, spec)
        assert torch.equal(part, plan.extract(running.setup.first))
        status = await running.status()
        whole = running.manifest.dense_bytes
        assert status.bytes_pulled == plan.sliced_manifest.dense_bytes < 0.55 * whole
