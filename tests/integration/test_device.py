"""A whole device against a real registry and an aggregator whose answers are chosen."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest
import torch
from hocket_device import __main__ as composition
from hocket_device import trainer
from hocket_device.pace import Pace
from hocket_device.probe import Probe
from hocket_device.throttle import DutyCycle
from safetensors.torch import load_file
from structlog.testing import capture_logs
from support.fake_aggregator import TakenUpdate
from support.gate import Gate
from support.limits import LIMIT_S
from support.site import DIGITS, LEASE_S, WIDE, aggregator, kept, site, until

from hocket.core.device import Caller, DeviceState
from hocket.core.ids import DeviceId, Incarnation, Version
from hocket.core.payload import CodecId
from hocket.core.sizing import Distreal, HeteroFL, Whale, terms_of
from hocket.core.terms import EncodingTerms, TrainingTerms
from hocket.core.update import Dropped, DropReason
from hocket.errors import ModelError, StaleIncarnation, TaskError, UnknownVersion
from hocket.learn.codecs.payload import SMALL_TENSOR
from hocket.learn.flat import manifest_of
from hocket.learn.training import evaluate
from hocket.rpc.server import aggregator_service, bind, build_server
from hocket.task import load_task


async def test_a_device_joins_trains_and_pushes_a_sound_update(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "Probe", partial(Probe, budget_s=LIMIT_S))  # time for each width
    async with site(tmp_path) as s, s.device(labels={"room": "attic"}):
        me = await s.fake.subscribers.get()
        s.fake.trigger()
        update = await s.fake.taken.get()
        device = await s.once(lambda d: d.link_to().up_bytes_per_s > 0.0)
    assert me == Caller(DeviceId("d1"), Incarnation(1))
    assert update.header.base_version == 1
    assert update.header.learning_rate == 0.01
    assert update.header.num_examples == device.capability.num_examples > 0
    batches = -(-update.header.num_examples // 16)
    assert update.header.num_steps in {2 * batches, 2 * (batches - 1)}
    assert update.header.train_s > 0.0
    assert 0.0 < update.header.train_loss < 2.5  # ln 10 = 2.3 is what knowing nothing costs
    assert update.header.train_loss < update.header.train_loss_rms < 5.0
    assert update.delta.isfinite().all()
    assert 0.0 < float(update.delta.norm()) < float(s.fake.vector.norm())
    assert [line.keep for line in device.capability.costs] == [1.0, 0.5, 0.25]
    assert device.capability.cost_at(1.0).step_s(16) > 0.0  # type: ignore[union-attr] # measured
    assert device.capability.memory_bytes > 0
    assert device.labels == {"room": "attic"}
    assert device.link_to().rtt_s > 0.0


async def test_the_update_points_downhill(tmp_path: Path) -> None:
    fake = aggregator(encoding=EncodingTerms(CodecId.RAW))
    async with site(tmp_path, fake) as s, s.device(shards=1):
        s.fake.trigger()
        update = await s.fake.taken.get()
    model, test = DIGITS.build_model(), DIGITS.test_examples()
    before, _ = evaluate(model, fake.vector, test.inputs, test.labels)
    after, _ = evaluate(model, fake.vector + update.delta, test.inputs, test.labels)
    assert after < before - 0.1


async def test_a_trigger_that_comes_while_busy_is_carried_out_afterwards(tmp_path: Path) -> None:
    async with site(tmp_path) as s, s.device():
        s.fake.trigger()
        s.fake.trigger()
        first, second = await s.fake.taken.get(), await s.fake.taken.get()
    assert first.header.update_id != second.header.update_id


async def test_a_training_given_up_is_made_known_by_subscribing_anew(tmp_path: Path) -> None:
    fake = aggregator(training=TrainingTerms(2, 16, learning_rate=1e30))  # it diverges
    async with site(tmp_path, fake) as s, s.device():
        await s.fake.subscribers.get()
        s.fake.trigger()
        await s.fake.subscribers.get()
    assert s.fake.said_training == [False, False]
    assert s.fake.taken.empty()


async def test_a_fresh_model_is_merged_in_mid_training_and_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, fake = Gate(closed_before=2), aggregator()
    gate.put(monkeypatch)
    fake.newer_after_pull = True
    async with site(tmp_path, fake) as s, s.device() as agent:
        s.fake.trigger(slot=1)
        both = 2 * fake.terms.manifest.dense_bytes
        await until(lambda: agent.courier.tally.bytes_down == both)
        gate.open.set()
        update = await s.fake.taken.get()
    base, fresh = fake.pulls
    assert base.for_training
    assert fresh.only_if_newer_than == update.header.base_version == 1
    assert update.header.refresh is not None
    assert (update.header.refresh.slot, update.header.refresh.version) == (1, Version(2))


async def test_an_unchanged_model_is_not_merged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(closed_before=2)
    gate.put(monkeypatch)
    async with site(tmp_path) as s, s.device():
        s.fake.trigger(slot=1)
        await until(lambda: len(s.fake.pulls) == 2)
        gate.open.set()
        update = await s.fake.taken.get()
    assert len(s.fake.pulls) == 2
    assert update.header.refresh is None


async def test_a_narrow_device_pulls_and_pushes_a_submodel(tmp_path: Path) -> None:
    async with site(tmp_path) as s, s.device(keep=0.5):
        s.fake.trigger()
        update = await s.fake.taken.get()
    assert update.header.spec.keep == (0.5,)
    # 8 and 16 of the digits network's 16 and 32 filters; the linear layers stay whole
    assert len(update.delta) == 80 + 1168 + (256 * 64 + 64) + 650


async def test_a_device_trains_at_the_size_of_its_rule_and_says_why(tmp_path: Path) -> None:
    """No real device trains on these data within a microsecond: the smallest level is left."""
    rule = terms_of(HeteroFL(levels=(1.0, 0.25), deadline_s=1e-6))
    async with site(tmp_path, aggregator(sizing=rule)) as s, s.device():
        for _ in range(2):
            s.fake.trigger()
            update = await s.fake.taken.get()
            assert update.header.spec.keep == (0.25,)
            # 4 and 8 of the 16 and 32 filters
            assert len(update.delta) == (36 + 4) + (288 + 8) + (128 * 64 + 64) + 650
    for pull in s.fake.pulls:
        assert list(pull.spec.keep) == [0.25]
        if pull.for_training:
            assert pull.why.startswith("1/4: ")
            assert "1e-06 s allowed" in pull.why


async def test_a_device_says_which_row_of_the_table_it_affords(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quarter of the filters: 2304 + 18432 + 8192 + 640 of 9216 + 294912 + 32768 + 640 MACs."""
    monkeypatch.setattr(trainer, "peak_bytes_of", lambda _: 1000)
    fake = aggregator(sizing=terms_of(Distreal()), dropout_rows=((0.0,), (0.5,), (0.75,)))
    async with site(tmp_path, fake) as s, s.device(memory_bytes=10):
        s.fake.trigger()
        await s.fake.taken.get()
    (why,) = {pull.why for pull in s.fake.pulls if pull.for_training}
    assert why.startswith(
        "filters dropped per mini-batch: none fits memory for 0.01 steps, smallest (cost 0.088); "
    )
    assert why.endswith("s at full width, link not measured")


async def test_a_device_whose_model_has_nothing_to_drop_says_so(tmp_path: Path) -> None:
    (tmp_path / "task.toml").write_text(WIDE)
    fake = aggregator(load_task(tmp_path / "task.toml"), sizing=terms_of(Distreal()))
    with capture_logs() as logs:
        async with site(tmp_path, fake) as s, s.device(task=tmp_path / "task.toml"):
            s.fake.trigger()
            update = await s.fake.taken.get()
    assert update.header.spec.keep == ()
    (why,) = {pull.why for pull in s.fake.pulls if pull.for_training}
    assert why.startswith("whole model: it has no layer whose channels could be")
    assert why.endswith("s at full width, link not measured")
    (reason,) = [line["reason"] for line in logs if line["event"] == "whole_model"]
    assert why.startswith(f"whole model: {reason}; ")


async def test_a_narrow_device_takes_no_part_where_there_are_no_parts(tmp_path: Path) -> None:
    (tmp_path / "task.toml").write_text(WIDE)
    fake = aggregator(load_task(tmp_path / "task.toml"))
    settings = {"task": tmp_path / "task.toml", "keep": 0.25}
    async with site(tmp_path, fake) as s, s.agent(**settings) as agent:
        with pytest.raises(ModelError, match=r"share of 0\.25 .*no part of this model can be left"):
            await agent.run(asyncio.Event())
    assert fake.subscribers.empty()


async def test_a_restarted_device_remembers_what_its_rule_has_learned(tmp_path: Path) -> None:
    rule = terms_of(Whale(delay=1, half_window=0, beta=0.0, scale=0.1))  # all, once it is warm
    fake = aggregator(sizing=rule)
    widths = []
    for _ in range(3):
        async with site(tmp_path, fake) as s, s.device():
            s.fake.trigger()
            widths.append((await s.fake.taken.get()).header.spec.keep)
            await s.once(lambda d: bool(d.links))  # it rests
    assert widths == [(0.0625,), (0.0625,), ()]


async def test_a_device_whose_lease_has_ended_joins_again_and_works_on(tmp_path: Path) -> None:
    async with site(tmp_path) as s, s.device():
        await s.fake.subscribers.get()
        await s.clock.advance(LEASE_S + 1.0)
        again = await s.fake.subscribers.get()
        s.fake.known = {again}
        s.fake.trigger()
        update = await s.fake.taken.get()
    assert (again.incarnation, update.header.incarnation) == (2, 2)


async def test_an_aggregator_that_does_not_know_the_device_yet_costs_no_lease(
    tmp_path: Path,
) -> None:
    fake = aggregator()
    fake.known = {Caller(DeviceId("someone"), Incarnation(1))}
    async with site(tmp_path, fake) as s, s.device():
        await s.once(lambda d: bool(d.capability.costs))
        fake.known = {Caller(DeviceId("d1"), Incarnation(1))}
        me = await s.fake.subscribers.get()
    assert me.incarnation == 1


async def test_a_restarted_aggregator_finds_its_devices_again(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        s = await stack.enter_async_context(site(tmp_path))
        first = build_server(aggregator_service(s.fake))
        port = bind(first, "127.0.0.1:0")
        s.aggregator_address = f"127.0.0.1:{port}"
        await first.start()
        await stack.enter_async_context(s.device())
        await s.fake.subscribers.get()
        await first.stop(grace_s=0)
        s.fake = aggregator()
        second = build_server(aggregator_service(s.fake))
        bind(second, s.aggregator_address)
        await second.start()
        stack.push_async_callback(second.stop, 0)
        await s.fake.subscribers.get()
        s.fake.trigger()
        assert (await s.fake.taken.get()).header.device_id == "d1"


async def test_a_push_cut_in_the_middle_goes_on_under_the_same_name(tmp_path: Path) -> None:
    file = tmp_path / "wide.toml"
    file.write_text(WIDE)
    fake = aggregator(load_task(file), encoding=EncodingTerms(CodecId.RAW))
    fake.cut_push_at = 512 * 1024
    async with site(tmp_path, fake) as s, s.device(task=file):
        s.fake.trigger()
        update = await s.fake.taken.get()
        device = await s.once(lambda d: d.link_to().loss > 0.0)
    assert update.wire_bytes > 512 * 1024
    assert fake.push_ids == [update.header.update_id] * 2
    assert fake.resumed_at == [0, 512 * 1024]
    assert fake.taken.empty()
    assert device.link_to().transfers >= 2


async def test_the_registry_learns_what_the_link_really_carries(tmp_path: Path) -> None:
    fake = aggregator(encoding=EncodingTerms(CodecId.RAW))
    async with site(tmp_path, fake) as s, s.device(up_bytes_per_s=2e5, down_bytes_per_s=3e5):
        s.fake.trigger()
        device = await s.once(lambda d: d.link_to().up_bytes_per_s > 0.0)
    # over 120,000 bytes each way, 0.6 and 0.5 seconds; a busy machine only ever adds to them
    link = device.link_to()
    assert 0.05 * 2e5 < link.up_bytes_per_s <= 2e5
    assert 0.05 * 3e5 < link.down_bytes_per_s <= 3e5
    assert (link.transfers, link.loss) == (2, 0.0)


class Alone:
    """A training thread's time as it is on a machine of its own: what it works and rests."""

    def __init__(self) -> None:
        self._rested_s = 0.0

    def put(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """In the place of the time that a busy machine takes."""
        monkeypatch.setattr(trainer, "Probe", partial(Probe, budget_s=LIMIT_S))
        monkeypatch.setattr(composition, "Pace", partial(Pace, now=self._now))
        monkeypatch.setattr(
            composition, "DutyCycle", lambda share, _sleep: DutyCycle(share, self._rest)
        )

    def _now(self) -> float:
        return time.thread_time() + self._rested_s

    def _rest(self, seconds: float) -> None:
        self._rested_s += seconds


async def test_the_registry_learns_how_slow_a_device_really_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Alone().put(monkeypatch)
    step_s = {}
    async with site(tmp_path) as s:
        for share in (1.0, 0.1):
            name = f"share-{share}"
            async with s.device(device_id=name, state_dir=tmp_path / name, processor_share=share):
                device = await s.once(lambda d: bool(d.capability.costs), name)
            line = device.capability.cost_at(1.0)
            assert line is not None
            step_s[share] = line.step_s(16)
            assert device.capability.processor_share <= share
    assert step_s[0.1] > 2.0 * step_s[1.0]  # 10 times, but for caches that others use, too


async def test_an_older_process_of_the_same_device_stops(tmp_path: Path) -> None:
    async with site(tmp_path) as s, asyncio.timeout(LIMIT_S), s.agent() as agent:
        running = asyncio.create_task(agent.run(asyncio.Event()))
        await s.fake.subscribers.get()
        await s.registry.join((await s.record()).capability, "d1")
        with pytest.raises(StaleIncarnation):
            await running
        assert (await s.record()).state is DeviceState.ALIVE  # the newer one is left alone


@pytest.mark.parametrize("how", ["dropped", "refused"])
async def test_what_an_unused_update_carried_is_kept_for_the_next_one(
    tmp_path: Path, how: str
) -> None:
    topk = EncodingTerms(CodecId.TOPK, topk_ratio=0.01)
    fake = aggregator(encoding=topk)
    if how == "dropped":
        fake.outcome = Dropped(DropReason.TOO_STALE, "pull anew", 100)
    else:
        fake.refuse_push = UnknownVersion("version 1 is not retained; pull anew")
    async with site(tmp_path, fake) as s, s.device():
        s.fake.trigger()
        folder = tmp_path / "d1"
        await until((folder / "device.json").exists)
        await until(lambda: bool(kept(folder)["tally"][f"updates_{how}"]))
    assert kept(folder)["tally"][f"updates_{how}"] == 1
    assert kept(folder)["tally"]["updates_accepted"] == 0
    # Small tensors are always sent whole, so only what was put back can be left of them.
    [file] = (tmp_path / "d1").glob("residual-*.safetensors")
    residual = load_file(file)["residual"]
    manifest = fake.terms.manifest
    assert manifest.tensors[-1].size < SMALL_TENSOR
    assert residual[manifest.offsets[-1] :].any()


async def test_the_end_of_the_task_is_the_end_of_the_device(tmp_path: Path) -> None:
    async with site(tmp_path) as s:
        async with asyncio.timeout(LIMIT_S), s.agent(ready_file=tmp_path / "ready") as agent:
            s.fake.trigger()
            s.fake.finish()
            await agent.run(asyncio.Event())
        assert (await s.record()).state is DeviceState.LEFT
        assert json.loads((tmp_path / "ready").read_text())["device_id"] == "d1"


async def test_a_device_that_still_pushes_when_the_task_ends_does_not_ask_again(
    tmp_path: Path,
) -> None:
    fake = aggregator()
    fake.hold_push = asyncio.Event()
    async with site(tmp_path, fake) as s, s.agent() as agent:
        working = asyncio.create_task(agent.run(asyncio.Event()))
        s.fake.trigger()
        await s.fake.arrived.get()
        s.fake.finish()
        for _ in range(20):  # time to hear of the end, and to do something foolish
            await s.record()
        fake.hold_push.set()
        await asyncio.wait_for(working, LIMIT_S)
    assert s.fake.said_training == [False]
    assert s.fake.taken.qsize() == 1


async def test_a_device_without_a_name_keeps_the_one_that_it_was_given(tmp_path: Path) -> None:
    names = []
    async with site(tmp_path) as s:
        for _ in range(2):
            async with s.device(device_id=""):
                names.append((await s.fake.subscribers.get()).device_id)
    assert names[0] == names[1] != ""


async def test_a_device_with_another_model_says_what_differs(tmp_path: Path) -> None:
    file = tmp_path / "wide.toml"
    file.write_text(WIDE)
    async with site(tmp_path) as s, asyncio.timeout(LIMIT_S), s.agent(task=file) as agent:
        with pytest.raises(ModelError, match="same task file") as caught:
            await agent.run(asyncio.Event())
    mine = manifest_of(load_task(file).build_model()).digest
    assert mine in caught.value.message
    assert s.fake.terms.manifest.digest in caught.value.message


async def test_a_task_file_that_is_not_there_is_a_typed_error(tmp_path: Path) -> None:
    missing = tmp_path / "none.toml"
    async with site(tmp_path) as s, asyncio.timeout(LIMIT_S), s.agent(task=missing) as agent:
        with pytest.raises(TaskError, match=r"none\.toml"):
            await agent.run(asyncio.Event())


async def test_every_draw_is_named_so_two_lives_push_the_same_bits(tmp_path: Path) -> None:
    updates: list[TakenUpdate] = []
    async with site(tmp_path, aggregator()) as s:
        for life in ("one", "two"):
            async with s.device(state_dir=tmp_path / life):
                s.fake.trigger()
                updates.append(await s.fake.taken.get())
    assert torch.equal(updates[0].delta, updates[1].delta)


async def test_a_restarted_device_goes_on_where_it_was(tmp_path: Path) -> None:
    updates: list[TakenUpdate] = []
    async with site(tmp_path) as s, asyncio.timeout(LIMIT_S):
        for _ in range(2):
            async with s.agent() as agent:
                running = asyncio.create_task(agent.run(asyncio.Event()))
                s.fake.trigger()
                updates.append(await s.fake.taken.get())
                s.fake.finish()
                await running
    state = kept(tmp_path / "d1")
    assert state["participant"]["trainings"] == 2
    assert state["tally"]["updates_accepted"] == 2
    assert state["tally"]["bytes_up"] == sum(update.wire_bytes for update in updates)
    assert not torch.equal(updates[0].delta, updates[1].delta)  # the second training, not the first
