"""Updates of some classes over real gRPC: what a device tells, what is taken, what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hocket_aggregator.recovery.replay import replay
from support.aggregating import CNN, TASK, Running, aggregating, caller, fill, header, pulled
from support.fake_aggregator import TakenUpdate
from support.site import DIGITS, aggregator, site

from hocket.core.payload import CodecId
from hocket.core.submodel import SubmodelSpec
from hocket.core.terms import EncodingTerms, TrainingTerms
from hocket.core.update import Applied, Buffered
from hocket.errors import InvalidUpdate
from hocket.learn.codecs import Raw
from hocket.learn.codecs.payload import encode_payload
from hocket.learn.flat import manifest_of, views
from hocket.learn.strategies import FedASMU, FedAsync, FedBuff

MASKED: dict[str, Any] = {
    "model": CNN,
    "training": replace(TASK.training, masked_loss="zero"),
}


async def test_a_device_tells_the_classes_that_counted(tmp_path: Path) -> None:
    training = TrainingTerms(2, 16, 0.05, weight_decay=0.01, masked_loss="minus_infinity")
    fake = aggregator(training=training, encoding=EncodingTerms(CodecId.RAW))
    async with site(tmp_path, fake) as s, s.device():
        s.fake.trigger()
        update: TakenUpdate = await s.fake.taken.get()
    labels = update.header.labels
    assert labels == tuple(sorted(set(DIGITS.train_examples(0, 20).labels.tolist())))
    sent = views(update.delta, manifest_of(DIGITS.build_model()))
    bias = sent[list(sent)[-1]]
    assert bias.shape == (10,)
    assert tuple(bias.nonzero()[:, 0].tolist()) == labels


def rows(running: Running, vector: torch.Tensor) -> torch.Tensor:
    return views(vector, running.manifest)["8.bias"]


async def test_rows_of_other_classes_stay_and_refused_labels_leave_no_trace(
    tmp_path: Path,
) -> None:
    async with aggregating(tmp_path, strategy=FedAsync(), **MASKED) as running:
        before, digest = await pulled(running), await running.digest()
        for labels in ((), (7, 2), (2, 2), (2, 10)):
            with pytest.raises(InvalidUpdate, match="labels"):
                await running.push_from("b", labels=labels)
        assert await running.digest() == digest
        assert isinstance(await running.push_from("a", labels=(2, 7)), Applied)
        moved = rows(running, await pulled(running) != before)
        assert moved.nonzero()[:, 0].tolist() == [2, 7]
        (record,) = [update async for update in running.client.get_lineage()]
        assert record.header.labels == (2, 7)


async def test_labels_that_the_task_did_not_ask_for_are_refused(tmp_path: Path) -> None:
    async with aggregating(tmp_path, model=CNN) as running:
        digest = await running.digest()
        with pytest.raises(InvalidUpdate, match="not masked"):
            await running.push_from("a", labels=(2, 7))
        assert await running.digest() == digest


@pytest.mark.parametrize(
    "rule",
    [
        FedAsync(staleness_of="entry"),
        FedASMU(staleness_of="entry"),
        FedBuff(goal=2, denominator="received"),
    ],
    ids=lambda rule: rule.kind,
)
async def test_parts_of_every_kind_survive_a_restart_and_a_replay(
    rule: Any, tmp_path: Path
) -> None:
    """Widths and classes that differ, stale ones among them, with a life's end between them."""
    half, whole = SubmodelSpec((0.5,)), SubmodelSpec()
    of = {"a": ((0, 1), half), "b": ((2, 7), whole), "c": ((7,), half), "d": ((1, 2), whole)}

    async def push(running: Running, name: str) -> None:
        labels, spec = of[name]
        model = running.setup.sliceable()
        manifest = model.plan(spec).sliced_manifest
        delta = fill(manifest, 0.01 * len(labels))
        payload = encode_payload(delta, manifest, Raw(), torch.Generator(), pack=False)
        told = header(name, labels=labels, spec=spec)
        assert isinstance(await running.push(told, payload), Applied | Buffered)

    digests = []
    for folder, lives in (("one", ["abcd"]), ("two", ["abc", "d"])):
        for life in lives:
            async with aggregating(tmp_path / folder, strategy=rule, **MASKED) as running:
                for name in "abcd" if "a" in life else "":  # who pulls version 1 may push for it
                    limit_bytes = running.manifest.dense_bytes
                    await running.client.pull(
                        caller(name), limit_bytes=limit_bytes, for_training=True
                    )
                for name in life:
                    await push(running, name)
                digests.append(await running.digest())
                assert (await replay(running.setup, tmp_path / folder)).digest == digests[-1]
    assert digests[0] == digests[-1]
