"""Snapshots in memory: what comes back, what a crash leaves, what is let go."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xxhash
from hocket_aggregator.digest import digest_of
from hocket_aggregator.recovery.reader import read_model, snapshot_versions
from hocket_aggregator.snapshots import tensor_blobs
from hocket_aggregator.snapshots.blobs import Blobs, open_blobs
from hocket_aggregator.snapshots.record import SnapshotRecord, decode_record
from hocket_aggregator.snapshots.snapshots import Snapshot, Snapshots, Stored
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file
from structlog.testing import capture_logs
from support.s3 import s3_server
from support.strategies import bits, push, server
from torch import Tensor
from typing_extensions import Buffer

from hocket.core.ids import DeviceId, UpdateId, Version
from hocket.core.manifest import Manifest, TensorSpec
from hocket.core.strategy import Global, Memory
from hocket.errors import CorruptState, NotFound, StartupError
from hocket.hosting import failpoint
from hocket.learn.slot_policy import SlotPolicy
from hocket.learn.strategies import FedASMU, FedAsync, FedAvg, FedBuff

MANIFEST = Manifest((TensorSpec("weight", (2, 3)), TensorSpec("bias", (2,))))
SIZE = 8
RULE = FedASMU()


def model(version: int) -> Tensor:
    return torch.randn(SIZE, generator=torch.Generator().manual_seed(version))


def memory_after(rule: Any, updates: int) -> Memory[Tensor]:
    aggregator = server(rule, *model(1).tolist())
    for number in range(updates):
        device = "abc"[number % 3]
        aggregator.take(push(model(100 + number), base=aggregator.now.version, device=device))
    kept: Memory[Tensor] = rule.keep(aggregator.memory)
    return kept


def snapshot(version: int = 7, segment: int = 3, rule: Any = RULE, **fields: Any) -> Snapshot:
    newest = Global(model(version), Version(version))
    made = Snapshot(
        newest=newest,
        digest=digest_of(newest.model),
        segment=segment,
        pieces_from=segment,
        bases={Version(version - 1): model(version - 1)} if version > 1 else {},
        holds={DeviceId("a"): Version(version)},
        memory=memory_after(rule, version - 1),
        slots=SlotPolicy(5).keep(),
        pending_ids=(UpdateId("a-1"), UpdateId("ü 2")),
        contributors=(DeviceId("a"), DeviceId("b")),
        updates_accepted=version - 1,
        updates_rejected=2,
        triggers_sent=9,
        finished="",
        totals={"bytes_pushed": 12.0, "first_version_s": 0.1},
        created_unix_s=1_700_000_000.123456,
    )
    return replace(made, **fields)


def snapshots(blobs: Blobs, rule: Any = RULE, task: str = "tiny") -> Snapshots:
    return Snapshots(blobs, task, MANIFEST, rule)


def as_bits(tensors: Any) -> dict[Any, tuple[bytes, torch.dtype, torch.Size]]:
    return {name: (bits(t), t.dtype, t.shape) for name, t in tensors.items()}


def assert_same(found: Snapshot | None, saved: Snapshot) -> None:
    assert found is not None
    assert bits(found.newest.model) == bits(saved.newest.model)
    assert found.newest.version == saved.newest.version
    assert as_bits(found.bases) == as_bits(saved.bases)
    for kept, before in ((found.memory, saved.memory), (found.slots, saved.slots)):
        assert kept.facts == before.facts
        assert as_bits(kept.tensors) == as_bits(before.tensors)
    plain = {"newest": found.newest, "bases": {}, "memory": Memory(), "slots": Memory()}
    assert replace(found, **plain) == replace(saved, **plain)  # type: ignore[arg-type]


class Crash(BaseException):
    """The process is gone."""


@dataclass
class Crashing:
    """Blobs that end with the process at the `after`-th change; they count what they do."""

    inner: Blobs
    after: int = 10**9
    puts: list[str] = field(default_factory=list)

    @property
    def where(self) -> str:
        return self.inner.where

    def change(self) -> None:
        self.after -= 1
        if self.after < 0:
            raise Crash

    async def put(self, name: str, *pieces: Buffer) -> None:
        self.change()
        await self.inner.put(name, *pieces)
        self.puts.append(name)

    async def get(self, name: str) -> Buffer:
        return await self.inner.get(name)

    async def names(self, prefix: str = "") -> list[str]:
        return await self.inner.names(prefix)

    async def delete(self, names: Collection[str]) -> None:
        for name in names:
            self.change()
            await self.inner.delete([name])


async def damage(blobs: Blobs, name: str) -> None:
    data = bytearray(memoryview(await blobs.get(name)))
    data[-3] ^= 1
    await blobs.put(name, data)


# --- there and back ---


@pytest.mark.parametrize(
    "rule",
    [
        FedASMU(),
        FedASMU(memory="sketch", sketch_size=3),
        FedBuff(goal=4),
        FedAvg(cohort=4),
        FedAsync(max_tau=3),
    ],
    ids=lambda rule: rule.kind,
)
async def test_what_was_saved_comes_back_bit_for_bit(rule: Any, tmp_path: Path) -> None:
    saved = snapshot(rule=rule)
    await snapshots(open_blobs(tmp_path), rule).save(saved)
    found = await snapshots(open_blobs(tmp_path), rule).newest()
    assert_same(found, saved)
    assert found is not None
    rule.recall(found.memory, found.newest.model)
    SlotPolicy(6).recall(found.slots)


async def test_snapshots_may_lie_in_s3(monkeypatch: pytest.MonkeyPatch) -> None:
    with s3_server() as (bucket, environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        stored = await filled(open_blobs("s3://bucket/tiny"), 2, 3, 4)
        assert await stored.prune(1, None) == 40
        assert_same(await snapshots(open_blobs("s3://bucket/tiny")).newest(), snapshot(4, 40))
        assert [key for key in bucket.blobs if "snapshots" in key] == [
            "tiny/snapshots/0000000004-0000000040.json"
        ]


async def test_nothing_is_there_at_first(tmp_path: Path) -> None:
    stored = snapshots(open_blobs(tmp_path))
    assert await stored.newest() is None
    assert await stored.stored() == []
    assert await stored.prune(3, None) == 0


async def test_models_are_safetensors_that_others_can_read(tmp_path: Path) -> None:
    await snapshots(open_blobs(tmp_path)).save(snapshot(7))
    assert snapshot_versions(tmp_path) == [7, 6]
    tensors = load_file(read_model(tmp_path))
    assert torch.equal(tensors["weight"], model(7)[:6].view(2, 3))
    assert torch.equal(tensors["bias"], model(7)[6:])
    with safe_open(read_model(tmp_path, 6), framework="pt") as file:
        assert file.metadata() == {
            "task": "tiny",
            "version": "6",
            "digest": digest_of(model(6)),
            "manifest": MANIFEST.digest,
        }


async def test_bases_may_be_files_mapped_read_only(tmp_path: Path) -> None:
    model(6).numpy().tofile(tmp_path / "6.f32")
    mapped = torch.from_numpy(np.memmap(tmp_path / "6.f32", np.float32, mode="c"))
    saved = snapshot(7, bases={Version(6): mapped})
    await snapshots(open_blobs(tmp_path)).save(saved)
    assert_same(await snapshots(open_blobs(tmp_path)).newest(), saved)


async def test_large_tensors_have_blobs_of_their_own_and_small_ones_share(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tensor_blobs, "SMALL_BYTES", 24)
    monkeypatch.setattr(tensor_blobs, "PACK_BYTES", 1 << 20)
    blobs = Crashing(open_blobs("memory://"))
    stored = snapshots(blobs)
    contribution = {f"moved/{d}": torch.full((SIZE,), float(n)) for n, d in enumerate("abc")}
    small = {f"n/{d}": torch.ones(2, dtype=torch.float64) for d in "abcd"}
    saved = snapshot(memory=Memory({}, contribution | small), slots=Memory())
    await stored.save(saved)
    assert len([name for name in blobs.puts if name.startswith("tensors/")]) == 3 + 1
    assert_same(await snapshots(blobs).newest(), saved)


async def test_a_tensor_is_written_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensor_blobs, "SMALL_BYTES", 24)
    blobs = Crashing(open_blobs("memory://"))
    stored = snapshots(blobs)
    lasting = {"moved/a": model(1), "moved/b": model(2)}
    await stored.save(snapshot(7, memory=Memory({}, lasting)))
    blobs.puts.clear()
    moved = {**lasting, "moved/b": model(3)}
    after = snapshot(8, 4, bases={Version(7): model(7)}, memory=Memory({}, moved))
    await stored.save(after)
    assert len(blobs.puts) == 3  # version 8, the one that moved, the manifest
    again = snapshots(blobs)
    assert_same(await again.newest(), after)
    blobs.puts.clear()
    await again.save(replace(after, segment=5, pieces_from=5))  # after a restart
    assert blobs.puts == ["snapshots/0000000008-0000000005.json"]


async def test_a_tensor_that_died_lends_its_name_to_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Objects are told apart by where they lie, and a new one may lie where an old one did."""
    monkeypatch.setattr(tensor_blobs, "SMALL_BYTES", 0)
    blobs = open_blobs("memory://")
    stored = snapshots(blobs)
    for number in range(20):
        saved = snapshot(2, number, memory=Memory({}, {"x": torch.full((3,), float(number))}))
        await stored.save(saved)
        assert_same(await snapshots(blobs).newest(), saved)
        del saved


async def test_a_model_changed_in_memory_is_not_stored() -> None:
    blobs = open_blobs("memory://")
    with pytest.raises(CorruptState, match="changed in memory"):
        await snapshots(blobs).save(snapshot(digest="0" * 16))
    assert await snapshots(blobs).newest() is None


async def test_a_save_leaves_the_loop_free() -> None:
    """Other tasks go on between its steps; each step runs in a thread or waits for one."""
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(others())
    await snapshots(open_blobs("memory://")).save(snapshot())
    beside.cancel()
    assert turns > 5


# --- crashes and damage ---


async def test_a_crash_at_any_step_of_a_save_leaves_the_snapshot_before() -> None:
    steps = 0
    while True:
        inner = open_blobs("memory://")
        before, after = snapshot(7), snapshot(9, 4)
        await snapshots(inner).save(before)
        blobs = Crashing(inner, after=steps)
        writer = snapshots(blobs)
        await writer.newest()
        try:
            await writer.save(after)
        except Crash:
            assert_same(await snapshots(inner).newest(), before)
            survivor = snapshots(inner)
            await survivor.newest()
            await survivor.prune(5, None)  # takes away what the crash left
            assert await inner.names("versions") == [
                "versions/6.safetensors",
                "versions/7.safetensors",
            ]
            await survivor.save(after)
            assert_same(await snapshots(inner).newest(), after)
            steps += 1
        else:
            assert_same(await snapshots(inner).newest(), after)
            break
    assert steps >= 4  # two models, a pack of tensors, the manifest


async def test_a_crash_at_any_step_of_a_prune_leaves_what_is_to_stay() -> None:
    steps = 0
    while True:
        inner = open_blobs("memory://")
        writer = snapshots(inner)
        for version in (3, 5, 7):
            await writer.save(snapshot(version, version))
        blobs = Crashing(inner, after=steps)
        pruner = snapshots(blobs)
        try:
            await pruner.prune(1, None)
        except Crash:
            assert_same(await snapshots(inner).newest(), snapshot(7, 7))
            for each in await snapshots(inner).stored():
                found = await snapshots(inner).at_or_before(each.version)
                assert found.newest.version == each.version
            steps += 1
        else:
            break
    assert steps >= 3


async def test_both_failpoints_lie_between_the_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    blobs = Crashing(open_blobs("memory://"))
    passed: list[tuple[str, int]] = []
    for module in ("snapshots.snapshots", "snapshots.tensor_blobs"):
        monkeypatch.setattr(
            f"hocket_aggregator.{module}.reach",
            lambda place: passed.append((place, len(blobs.puts))),
        )
    await snapshots(blobs).save(snapshot())
    tensors, last = len(blobs.puts) - 1, failpoint.Failpoint.BEFORE_MANIFEST
    assert passed[-1] == (last, tensors)
    assert passed[:-1] == [(failpoint.Failpoint.MID_SNAPSHOT, n + 1) for n in range(tensors)]


@pytest.mark.parametrize("part", ["manifest", "model", "base", "tensors", "missing"])
async def test_a_damaged_snapshot_is_set_aside_and_the_one_before_taken(part: str) -> None:
    blobs = open_blobs("memory://")
    writer = snapshots(blobs)
    await writer.save(snapshot(5, 2))
    shared = set(await blobs.names())
    await writer.save(snapshot(9, 4))
    own = [name for name in await blobs.names() if name not in shared]
    name = {
        "manifest": "snapshots/0000000009-0000000004.json",
        "model": "versions/9.safetensors",
        "base": "versions/8.safetensors",
        "missing": "versions/8.safetensors",
        "tensors": next(name for name in own if name.startswith("tensors/")),
    }[part]
    if part == "missing":
        await blobs.delete([name])
    else:
        await damage(blobs, name)
    reader = snapshots(blobs)
    with capture_logs() as logs:
        assert_same(await reader.newest(), snapshot(5, 2))
    (entry,) = [entry for entry in logs if entry["event"] == "snapshot_damaged"]
    assert name in entry["cause"] or part == "missing"
    assert "snapshots/0000000009-0000000004.damaged" in await blobs.names()
    assert [each.version for each in await reader.stored()] == [5]
    await reader.save(snapshot(9, 4))  # what is made again is written again
    assert_same(await snapshots(blobs).newest(), snapshot(9, 4))


async def test_when_none_is_sound_nothing_begins_anew() -> None:
    blobs = open_blobs("memory://")
    writer = snapshots(blobs)
    for version in (5, 6):
        await writer.save(snapshot(version, version))
        await damage(blobs, f"snapshots/{version:010}-{version:010}.json")
    for _ in range(2):  # and looking changes nothing
        with pytest.raises(CorruptState, match=r"no snapshot in memory:// is sound.*Restore"):
            await snapshots(blobs).newest()


async def test_a_manifest_under_another_name_is_damaged() -> None:
    blobs = open_blobs("memory://")
    await snapshots(blobs).save(snapshot(5, 2))
    data = await blobs.get("snapshots/0000000005-0000000002.json")
    await blobs.put("snapshots/0000000009-0000000002.json", data)
    assert_same(await snapshots(blobs).newest(), snapshot(5, 2))


# --- whose they are ---


@pytest.mark.parametrize(
    ("other", "differs"),
    [
        (lambda blobs: snapshots(blobs, task="other"), "task: 'tiny' then, 'other' now"),
        (lambda blobs: snapshots(blobs, FedAsync()), "strategy: 'fedasmu' then, 'fedasync' now"),
        (lambda blobs: snapshots(blobs, FedASMU(sigma0=0.5)), "strategy.sigma0: 1.0 then, 0.5 now"),
        (
            lambda blobs: Snapshots(blobs, "tiny", Manifest((TensorSpec("w", (8,)),)), RULE),
            f"model: {MANIFEST.digest} then",
        ),
    ],
)
async def test_snapshots_of_another_task_are_refused(other: Any, differs: str) -> None:
    blobs = open_blobs("memory://")
    await snapshots(blobs).save(snapshot())
    for work in ("newest", "stored"):
        with pytest.raises(StartupError, match=re.escape(differs)) as caught:
            await getattr(other(blobs), work)()
        assert "AGGREGATOR_DATA_DIR" in caught.value.message
    with pytest.raises(StartupError, match=re.escape(differs)):
        await other(blobs).at_or_before(Version(9))
    assert len(await blobs.names("snapshots")) == 1  # nothing was set aside


async def test_a_setting_that_did_not_exist_then_had_its_default() -> None:
    blobs = open_blobs("memory://")
    name = "snapshots/0000000007-0000000003.json"
    await snapshots(blobs).save(snapshot())
    record = decode_record(await blobs.get(name), name)
    del record.origin.strategy["sketch_size"]
    await blobs.put(name, record.encode())
    assert await snapshots(blobs).newest() is not None
    with pytest.raises(StartupError, match=r"strategy\.sketch_size: 16384 then, 5 now"):
        await snapshots(blobs, FedASMU(sketch_size=5)).newest()


# --- which stay ---


async def filled(blobs: Blobs, *versions: int, pieces_before: int = 0) -> Snapshots:
    """One snapshot for each version; its segment is ten times that."""
    writer = snapshots(blobs)
    for version in versions:
        segment = 10 * version
        pieces_from = segment - pieces_before
        await writer.save(snapshot(version, segment, pieces_from=pieces_from))
    return writer


async def left(blobs: Blobs) -> list[int]:
    return [each.version for each in await snapshots(blobs).stored()]


async def test_they_are_listed_oldest_first() -> None:
    blobs = open_blobs("memory://")
    await filled(blobs, 9, 2, 10)
    await snapshots(blobs).save(snapshot(9, 95))
    expected = [(2, 20), (9, 90), (9, 95), (10, 100)]
    assert await snapshots(blobs).stored() == [Stored(Version(v), s, s) for v, s in expected]


async def test_the_newest_stay_with_the_journal_that_two_of_them_need() -> None:
    blobs = open_blobs("memory://")
    stored = await filled(blobs, 2, 3, 4, 5, 6)
    assert await stored.prune(3, None) == 50
    assert await left(blobs) == [4, 5, 6]
    assert await blobs.names("versions") == [f"versions/{v}.safetensors" for v in (3, 4, 5, 6)]
    assert await stored.prune(1, None) == 60
    assert await left(blobs) == [6]


async def test_pieces_of_open_bodies_count_as_needed() -> None:
    blobs = open_blobs("memory://")
    stored = await filled(blobs, 2, 3, 4, pieces_before=7)
    assert await stored.prune(2, None) == 23
    assert await stored.prune(2, 24) == 23  # what recovery needs stays, whatever the rule says


async def test_the_oldest_from_which_the_journal_is_complete_stays() -> None:
    blobs = open_blobs("memory://")
    stored = await filled(blobs, 2, 3, 4, 5, 6, 7)
    assert await stored.prune(2, 30) == 30
    assert await left(blobs) == [3, 6, 7]
    assert await stored.prune(2, 31) == 60  # it is no longer: the next one is among the newest
    assert await left(blobs) == [6, 7]
    assert await stored.prune(2, 1000) == 60


async def test_what_no_snapshot_names_goes(tmp_path: Path) -> None:
    stored = await filled(open_blobs(tmp_path), 2)
    rubbish = [
        "versions/99.safetensors",
        "versions/3.safetensors.partial",
        "tensors/abc.safetensors",
        "tensors/abc.safetensors.partial",
        "snapshots/0000000003-0000000001.json.partial",
    ]
    for name in rubbish:
        (tmp_path / name).write_bytes(b"x")
    aside = tmp_path / "snapshots" / "0000000001-0000000001.damaged"
    aside.write_bytes(b"for a person to look at")
    await stored.prune(1, None)
    assert not [name for name in rubbish if (tmp_path / name).exists()]
    assert aside.exists()
    assert_same(await snapshots(open_blobs(tmp_path)).newest(), snapshot(2, 20))


# --- where replay begins ---


async def test_replay_begins_at_or_before_a_version() -> None:
    blobs = open_blobs("memory://")
    stored = await filled(blobs, 2, 5, 9)
    for version, expected in ((2, 2), (4, 2), (5, 5), (8, 5), (9, 9), (70, 9)):
        assert (await stored.at_or_before(Version(version))).newest.version == expected
    with pytest.raises(NotFound, match=r"version 1 or before.*versions: 2, 5, 9"):
        await stored.at_or_before(Version(1))


async def test_replay_begins_earlier_if_need_be_and_changes_nothing() -> None:
    blobs = open_blobs("memory://")
    await filled(blobs, 2, 5)
    await damage(blobs, "versions/5.safetensors")
    names = await blobs.names()
    assert (await snapshots(blobs).at_or_before(Version(6))).newest.version == 2
    assert await blobs.names() == names
    await damage(blobs, "versions/2.safetensors")
    with pytest.raises(CorruptState, match=r"versions/2\.safetensors"):
        await snapshots(blobs).at_or_before(Version(6))


# --- the manifest's bytes ---


def record() -> SnapshotRecord:
    blobs = open_blobs("memory://")

    async def made() -> SnapshotRecord:
        await snapshots(blobs).save(snapshot())
        (name,) = await blobs.names("snapshots")
        return decode_record(await blobs.get(name), name)

    return asyncio.run(made())


RECORD = record()
ENCODED = RECORD.encode()
BODY = json.loads(ENCODED)["snapshot"]


def sealed(body: bytes) -> bytes:
    """With the right checksum, so that the rest is looked at."""
    digest = xxhash.xxh3_128_hexdigest(body)
    return b'{"xxh3_128":"' + digest.encode() + b'","snapshot":' + body + b"}\n"


def decoded(data: bytes) -> SnapshotRecord | None:
    """None for CorruptState; any other exception fails the test."""
    try:
        return decode_record(data, "a file")
    except CorruptState:
        return None


def test_a_manifest_is_json_and_round_trips() -> None:
    assert decoded(ENCODED) == RECORD
    assert json.loads(ENCODED)["xxh3_128"] == xxhash.xxh3_128_hexdigest(ENCODED[58:-2])


@given(st.integers(0, len(ENCODED) - 1), st.integers(1, 255))
@settings(max_examples=800)
def test_a_changed_byte_is_found(at: int, change: int) -> None:
    data = bytearray(ENCODED)
    data[at] ^= change
    assert decoded(bytes(data)) is None


@given(st.integers(0, len(ENCODED) - 1), st.binary(max_size=4))
@settings(max_examples=300)
def test_a_cut_manifest_is_found(end: int, more: bytes) -> None:
    assert decoded(ENCODED[:end] + more) in (None, RECORD)


@given(st.binary(max_size=200))
@settings(max_examples=300)
def test_any_bytes_give_corrupt_state(data: bytes) -> None:
    assert decoded(data) is None
    assert decoded(sealed(data)) is None


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**30), 10**30)
    | st.floats()
    | st.text(max_size=10)
    | st.sampled_from(["0" * 16, "tensors/../../x", f"tensors/{'0' * 32}.safetensors"])
)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=3,
)


@given(st.sampled_from(sorted(BODY)), anything)
@settings(max_examples=700)
def test_any_field_may_be_anything(name: str, value: Any) -> None:
    found = decoded(sealed(json.dumps({**BODY, name: value}).encode()))
    if found is not None:
        again = decoded(found.encode()) if _finite(found) else found
        assert again == found


def _finite(found: SnapshotRecord) -> bool:
    try:
        found.encode()
    except ValueError:  # NaN among the facts, which nobody writes
        return False
    return True


@given(st.dictionaries(st.sampled_from(sorted(BODY)), scalars, max_size=5))
@settings(max_examples=100)
def test_any_object_may_come(body: dict[str, Any]) -> None:
    found = decoded(sealed(json.dumps(body).encode()))
    assert found is None


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"version": True}, "version"),
        ({"version": 7.0}, "version"),
        ({"version": 0}, "version"),
        ({"format": 2}, "format"),
        ({"digest": "xyz"}, "digest"),
        ({"segment": 1}, "pieces_from is 3, after segment 1"),
        ({"bases": {"7": "0" * 16}}, "a base is not older"),
        ({"holds": {"a": 2}}, "holds version 2"),
        ({"tensors": {"other/x": f"tensors/{'0' * 32}.safetensors"}}, "belongs to nothing"),
        ({"tensors": {"memory/x": "tensors/../etc.safetensors"}}, "tensors.memory/x"),
        ({"updates_accepted": -1}, "updates_accepted"),
        ({"more": 1}, "more"),
        ({"origin": {**BODY["origin"], "more": 1}}, "origin.more"),
    ],
)
def test_what_contradicts_itself_is_named(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(CorruptState, match=re.escape(complaint)):
        decode_record(sealed(json.dumps({**BODY, **change}).encode()), "a file")


def test_a_missing_field_is_named() -> None:
    for name in BODY:
        body = {key: value for key, value in BODY.items() if key != name}
        with pytest.raises(CorruptState, match=name):
            decode_record(sealed(json.dumps(body).encode()), "a file")


def test_depth_is_no_danger() -> None:
    deep = b"[" * 100_000 + b"]" * 100_000
    assert decoded(sealed(b'{"memory_facts":{"x":' + deep + b"}}")) is None
