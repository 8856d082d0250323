"""Pushes that end with an error which says nothing about the update: it counts once at most."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
import torch
from hocket_device.courier import UNCLEAR_TRIES
from safetensors.torch import load_file
from structlog.testing import capture_logs
from support.clock import Sleepless
from support.fake_aggregator import FakeAggregator
from support.site import aggregator, kept, site, until

from hocket.core.ids import Version
from hocket.core.payload import CodecId
from hocket.core.terms import EncodingTerms
from hocket.core.update import Applied
from hocket.learn.codecs.payload import SMALL_TENSOR

TOPK = EncodingTerms(CodecId.TOPK, topk_ratio=0.01)


def put_back(fake: FakeAggregator, folder: Path) -> torch.Tensor:
    """Of the last tensor: small ones are sent whole, so only what was put back is left of them."""
    manifest = fake.terms.manifest
    assert manifest.tensors[-1].size < SMALL_TENSOR
    residual = load_file(folder / f"residual-{kept(folder)['residual']}.safetensors")["residual"]
    assert residual.any()
    return residual[manifest.offsets[-1] :]


@pytest.mark.parametrize(
    "code",
    [grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.PERMISSION_DENIED],
    ids=lambda code: code.name,
)
async def test_an_update_is_offered_until_its_first_answer_is_heard(
    tmp_path: Path, code: grpc.StatusCode
) -> None:
    fake, folder = aggregator(encoding=TOPK), tmp_path / "d1"
    fake.lost_answers = [code] * 3
    slept: list[float] = []
    async with site(tmp_path, fake) as s, s.device() as agent:
        await fake.subscribers.get()
        agent.courier.clock = Sleepless(slept)
        fake.trigger()
        update = await fake.taken.get()
        await until(lambda: kept(folder)["outbox"] == 0)
    assert fake.push_ids == [update.header.update_id] * 4
    assert fake.resumed_at == [0]  # its body has come once
    assert len(slept) == 3
    assert all(wait_s > 0.0 for wait_s in slept)
    tally = kept(folder)["tally"]
    assert (tally["updates_accepted"], tally["updates_refused"]) == (1, 0)
    assert not put_back(fake, folder).any()


async def test_an_update_whose_end_stays_unclear_is_given_up_and_not_carried_by_the_next(
    tmp_path: Path,
) -> None:
    fake, folder = aggregator(encoding=TOPK), tmp_path / "d1"
    fake.lost_answers = [grpc.StatusCode.INTERNAL] * UNCLEAR_TRIES
    slept: list[float] = []
    async with site(tmp_path, fake) as s, s.device() as agent:
        await fake.subscribers.get()
        agent.courier.clock = Sleepless(slept)
        with capture_logs() as logs:
            fake.trigger()
            update = await fake.taken.get()
            await until(lambda: kept(folder)["outbox"] == 0)
        assert not put_back(fake, folder).any()
        await fake.subscribers.get()  # so the aggregator knows that nothing more will come
        fake.trigger()
        following = await fake.taken.get()
        await until(lambda: kept(folder)["tally"]["updates_accepted"] == 1)
    tries = [update.header.update_id] * UNCLEAR_TRIES
    assert fake.push_ids == [*tries, following.header.update_id]
    assert len(slept) == UNCLEAR_TRIES - 1
    (line,) = [line for line in logs if line["event"] == "update_given_up"]
    assert line["update"] == update.header.update_id
    assert "its log says why" in line["problem"]
    assert fake.said_training == [False, False]
    assert kept(folder)["tally"]["updates_refused"] == 0


async def test_an_answer_that_cannot_be_read_is_no_refusal(tmp_path: Path) -> None:
    fake, folder = aggregator(encoding=TOPK), tmp_path / "d1"
    fake.outcome = Applied(Version(0), 0.5, 0)  # no version of this Hocket's
    async with site(tmp_path, fake) as s, s.device() as agent:
        await fake.subscribers.get()
        agent.courier.clock = Sleepless([])
        with capture_logs() as logs:
            fake.trigger()
            await fake.taken.get()
            await until(lambda: kept(folder)["outbox"] == 0)
    assert len(fake.push_ids) == UNCLEAR_TRIES
    assert not put_back(fake, folder).any()
    (line,) = [line for line in logs if line["event"] == "update_given_up"]
    assert "cannot be read here (outcome.version" in line["problem"]
