"""Lives of an aggregator on one folder: training in them, and what a kill would leave."""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import support.aggregating
import torch
from hocket_aggregator.snapshots.snapshots import Stored
from support.aggregating import TASK, Running, header

from hocket.core.update import Outcome, RefreshReport

Digests = dict[int, str]
FIVE_EPOCHS = replace(TASK.training, local_epochs=5)  # so that there is a slot to learn
aggregating = partial(support.aggregating.aggregating, training=FIVE_EPOCHS)


async def digests(running: Running) -> Digests:
    return {v.version: v.digest async for v in running.client.list_versions()}


def killed(live: Path, where: Path) -> Path:
    """The folder as a kill at this moment would leave it.

    Threads of the aggregator go on meanwhile: what they rename or delete is copied anew.
    """
    while True:
        before = sorted(live.rglob("*"))
        with suppress(shutil.Error):
            shutil.copytree(live, where)
            if sorted(live.rglob("*")) == before:
                return where
        shutil.rmtree(where)


async def train(running: Running, count: int, first: int = 0) -> list[Outcome]:
    """Pushes of different values from several devices, each from the newest version."""
    outcomes = []
    for n in range(first, first + count):
        name = "abcd"[n % 4]
        base = (await running.status()).version
        delta = torch.randn(running.manifest.size, generator=torch.Generator().manual_seed(n))
        made = header(
            name, base, update_id=f"u{n}", refresh=RefreshReport(1 + n % 4, base, 0.1 * n)
        )
        outcomes.append(await running.push(made, running.payload(delta * 0.01)))
    return outcomes


async def recorded(running: Running) -> None:
    """Return once every answer is in the database."""
    async for _ in running.client.get_lineage():
        pass


async def snapshots_of(running: Running) -> list[Stored]:
    return await running.aggregator.keeper._snapshots.stored()
