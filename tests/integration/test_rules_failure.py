"""Rules that break in mid-event: the process ends, what is stored is sound, and nothing loops."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hocket_aggregator.aggregator import Surroundings, open_aggregator
from hocket_aggregator.recovery.reader import read_status
from hocket_aggregator.recovery.replay import replay
from structlog.testing import capture_logs
from support.aggregating import LIMITS, TASK, Running, aggregating, fill, header, pulled
from support.clock import ManualClock
from support.fragile import POISON, Fragile
from support.scalar import device

from hocket.core.events import DeviceSeen, Pushed
from hocket.core.update import Applied, Dropped, DropReason, Update
from hocket.errors import RulesFailed, Unavailable
from hocket.rpc.server import aggregator_service, bind, build_server, serve
from hocket.task.setup import set_up

BROKEN = "the rules broke over update 'p' of device 'd'"


async def train_then_poison(where: Path, told: dict[str, Any], **options: Any) -> None:
    """Two updates, then one that the rules break over, through gRPC. Raises what ends it."""
    async with aggregating(where, **options) as running:
        await running.push_from("a", 1)
        await running.push_from("b", 2)
        told["digest"] = await running.digest()
        told["values"] = await pulled(running)
        await poison(running)


async def poison(running: Running) -> Any:
    newest = running.aggregator.core.newest.version
    made = header("d", min(3, newest), update_id="p", num_examples=POISON)
    return await running.push(made, running.payload(fill(running.manifest, 5.0)))


@pytest.mark.parametrize("rule", [Fragile(), Fragile(not_a_number=True)], ids=["raises", "nan"])
async def test_a_broken_step_ends_the_process_and_leaves_no_trace(
    tmp_path: Path, rule: Fragile
) -> None:
    told: dict[str, Any] = {}
    with capture_logs() as logs, pytest.raises(BaseExceptionGroup) as failed:
        await train_then_poison(tmp_path, told, strategy=rule)
    broken = failed.value.subgroup(RulesFailed)
    assert broken is not None
    assert BROKEN in str(broken.exceptions[0])
    assert [line["event"] for line in logs].count("rules_failed") == 1

    async with aggregating(tmp_path, strategy=rule) as again:
        assert await again.digest() == told["digest"]
        assert torch.equal(await pulled(again), told["values"])
        answer = await poison(again)
        assert isinstance(answer, Dropped)
        assert answer.reason is DropReason.RULES_FAILED
        assert answer.tau == 0
        later = await again.push_from("c", 3)
        assert isinstance(later, Applied)
        assert later.version == 4
        end = await pulled(again)

    async with aggregating(tmp_path / "never", strategy=rule) as other:
        for name, base in (("a", 1), ("b", 2), ("c", 3)):
            await other.push_from(name, base)
        assert torch.equal(await pulled(other), end)  # its memory holds nothing of the poison

    async with aggregating(tmp_path, strategy=rule) as once_more:
        assert await poison(once_more) == answer
        status = await once_more.status()
        assert (status.version, status.updates_accepted, status.updates_rejected) == (4, 3, 1)
    assert (await replay(again.setup, tmp_path)).digest == status.digest


async def test_without_a_journal_the_records_remember_what_was_given_up(tmp_path: Path) -> None:
    with pytest.raises(BaseExceptionGroup):
        await train_then_poison(tmp_path, {}, strategy=Fragile(), durable=False)
    async with aggregating(tmp_path, strategy=Fragile(), durable=False) as again:
        assert (await again.status()).version == 1  # back to the snapshot, as after any crash
        answer = await poison(again)
        assert isinstance(answer, Dropped)
        assert answer.reason is DropReason.RULES_FAILED
        assert isinstance(await again.push_from("c", 1), Applied)


async def test_the_process_ends_with_what_broke_and_what_to_do(tmp_path: Path) -> None:
    """Whatever else fails because of it, this is what the operator reads."""
    around = Surroundings(tmp_path, ManualClock(), lambda: 0.5, limits=LIMITS)
    of_its_own: Any = Fragile()  # that no task file can name
    setup = set_up(replace(TASK, strategy=of_its_own))
    async with open_aggregator(setup, around) as aggregator:
        server = build_server(aggregator_service(aggregator.service))
        bind(server, "127.0.0.1:0")
        owner, refused = aggregator.owner, list[Unavailable]()
        delta = fill(setup.terms.manifest, 1.0)

        async def meet_it() -> None:
            await owner.handle(DeviceSeen(device("d")))
            try:
                poisoned = header("d", 1, update_id="p", num_examples=POISON)
                await owner.handle(Pushed(Update(poisoned, delta)))
            except Unavailable as error:
                refused.append(error)
            await asyncio.Event().wait()

        with pytest.raises(RulesFailed) as ended:
            await serve(server, *aggregator.background(), meet_it(), grace_s=0.0)
    assert BROKEN in ended.value.message
    assert "RuntimeError: the buffer is one short" in ended.value.message
    assert "Start the aggregator again" in ended.value.message
    assert len(refused) == 1
    assert read_status(tmp_path).version == 1
