"""docs/protocol.md is a contract too: its tables and worked examples are held against the code."""

from __future__ import annotations

import re
import struct
from hashlib import blake2b
from pathlib import Path

import pytest
import torch
import xxhash
from hocket_device.lease import LONGEST_WAIT_S, retry_s
from support.scalar import caller, coordinator, device, update

from hocket import errors
from hocket.core.device import DeviceState
from hocket.core.events import BaseTaken, DeviceSeen, Pushed, Subscribed, Tick
from hocket.core.ids import Version
from hocket.core.manifest import Manifest, TensorSpec
from hocket.core.submodel import ChannelRule, SubmodelSpec
from hocket.learn.codecs import Codec, Fp16, Int8, Raw, TopK
from hocket.learn.models import digits_cnn
from hocket.learn.submodels.graph import channel_graph
from hocket.learn.submodels.layout import ChannelGraph, Group, Segment
from hocket.learn.submodels.plan import plan_of
from hocket.rpc.errors import STATUS
from hocket.sim import courier as simulated
from hocket.v1 import types_pb2

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")

# Raised in services and commands before anything is served, or only as the root of others.
NEVER_SENT = {
    *(errors.HocketError, errors.TaskError, errors.ModelError, errors.DataError),
    *(errors.StartupError, errors.CorruptState, errors.UpdateDropped, errors.TooStale),
    errors.RulesFailed,
}


def section(title: str) -> str:
    """From this heading to the next of any level."""
    return re.split(r"\n#{2,3} ", PAGE.partition(f"# {title}\n")[2])[0]


def octets(line: str) -> bytes:
    """The bytes at the head of a line of hex, bars left out."""
    found = re.match(r"(?:[0-9a-f]{2}[ |]+)*[0-9a-f]{2}\b", line)
    assert found, line
    return bytes.fromhex(found[0].replace("|", " "))


def test_the_table_of_errors_names_each_that_is_sent_with_its_code() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \| `([A-Z_]+)` \|", section("Errors"), re.MULTILINE)
    sent = {kind.reason: code.name for kind, code in STATUS.items() if kind not in NEVER_SENT}
    assert dict(rows) == sent


@pytest.mark.parametrize(
    ("title", "codec", "values"),
    [
        ("`CODEC_RAW`: n float32 values, 4n bytes", Raw(), [0.0, 1.0, -0.5, 0.25]),
        ("`CODEC_FP16`: n IEEE binary16 values, 2n bytes", Fp16(), [0.0, 1.0, -0.5, 0.25]),
    ],
    ids=["raw", "fp16"],
)
def test_dense_examples_are_what_is_written_and_read(
    title: str, codec: Codec, values: list[float]
) -> None:
    example = octets(section(title).split("```\n")[1])
    assert bytes(codec.encode(torch.tensor(values), torch.Generator())) == example
    assert decoded(codec, example, 4) == values


def test_the_int8_example_is_read_as_the_page_says() -> None:
    title = "`CODEC_INT8`: one float32 scale, then n signed bytes, 4 + n bytes"
    example = octets(section(title).split("```\n")[1])
    (scale,) = struct.unpack_from("<f", example)
    assert scale == pytest.approx(0.007874016, abs=1e-9)
    expected = [q * scale for q in (0, 127, -63, 32)]
    assert decoded(Int8(), example, 4) == pytest.approx(expected, rel=1e-6)


def test_the_topk_examples_are_what_is_written_and_read() -> None:
    gaps, large, small = (octets(block) for block in section(TOPK_TITLE).split("```\n")[3::2])
    sparse = torch.zeros(20001)
    sparse[[3, 7, 135, 136, 20000]] = torch.tensor([1.0, -2.0, 0.5, 0.25, 4.0])
    assert large == struct.pack("<I", 5) + gaps + struct.pack("<5f", 1, -2, 0.5, 0.25, 4)
    assert bytes(TopK(5 / 20001).encode(sparse, torch.Generator())) == large
    assert decoded(TopK(), large, 20001) == sparse.tolist()
    assert decoded(TopK(), small, 4) == [0.0, 1.0, -0.5, 0.0]


TOPK_TITLE = "`CODEC_TOPK`: the largest k values and their indices"


def decoded(codec: Codec, data: bytes, size: int) -> list[float]:
    out = torch.empty(size)
    codec.decode_into(memoryview(data), out)
    values: list[float] = out.tolist()
    return values


def test_the_manifest_digests_are_those_of_the_code() -> None:
    first = Manifest((TensorSpec("0.weight", (10, 64)), TensorSpec("0.bias", (10,))))
    second = Manifest(
        (TensorSpec("w", (2, 3)), TensorSpec("s", ()), TensorSpec("mean", (3,), trainable=False))
    )
    for manifest, lines in ((first, 2), (second, 3)):
        block = re.search(
            rf"((?:.*\n){{{lines - 1}}}.*) +-> {manifest.digest}", section("The task")
        )
        assert block, manifest.digest
        written = "\n".join(line.strip() for line in block[1].splitlines())
        assert blake2b(written.encode(), digest_size=8).hexdigest() == manifest.digest
    assert second.offsets == (0, 6, 7)


def test_the_hashes_and_the_channels_that_follow_are_those_of_the_code() -> None:
    rows = re.findall(r"^\| \d \| `([0-9a-f ]+)` \| `([0-9a-f]{16})` \|", PAGE, re.MULTILINE)
    assert len(rows) == 8
    for hashed, digest in rows:
        assert xxhash.xxh3_64_hexdigest(bytes.fromhex(hashed)) == digest
    digests = [digest for _, digest in rows]
    smallest = sorted(digests.index(digest) for digest in sorted(digests)[:4])
    assert f"channels {', '.join(map(str, smallest))}." in PAGE
    axes = {"w": ((Segment(8, 0),), (Segment(8, 1),))}
    groups = (Group("a", 8, ("w",)), Group("b", 8, ("w",)))
    graph = ChannelGraph(Manifest((TensorSpec("w", (8, 8)),)), groups, axes)
    first, second = plan_of(graph, SubmodelSpec((0.5,), ChannelRule.RANDOM, 7)).kept
    assert first is not None
    assert second is not None
    assert first.tolist() == smallest
    assert f"in group 1 it would be {', '.join(map(str, second.tolist()))}." in PAGE
    for rolling in plan_of(graph, SubmodelSpec((0.5,), ChannelRule.ROLLING, 7)).kept:
        assert rolling is not None
        channels = ", ".join(map(str, rolling.tolist()))
        assert f"`CHANNEL_RULE_ROLLING` keeps channels {channels} in both." in PAGE
    assert f"no bytes is\n`{xxhash.xxh3_64_hexdigest(b'')}`" in PAGE
    assert f"`{xxhash.xxh3_64_hexdigest(b'hocket')}`" in PAGE


def test_the_table_of_channel_rules_names_each_of_the_wire_and_of_the_code() -> None:
    rows = re.findall(r"^\| `(CHANNEL_RULE_[A-Z]+)` \|", PAGE, re.MULTILINE)
    assert rows == [f"CHANNEL_RULE_{rule.name}" for rule in ChannelRule]
    numbers = {name: value for name, value in types_pb2.ChannelRule.items() if value}
    assert numbers == {f"CHANNEL_RULE_{rule.name}": rule.value for rule in ChannelRule}


def test_half_of_the_demo_s_model_is_as_the_page_says() -> None:
    plan = plan_of(channel_graph(digits_cnn(10)), SubmodelSpec((0.5,)))
    halves = {tensor.name: tensor.shape for tensor in plan.sliced_manifest.tensors}
    for whole in plan.graph.manifest.tensors:
        shapes = ", ".join(map(str, whole.shape)), ", ".join(map(str, halves[whole.name]))
        if shapes[0] != shapes[1]:
            assert f"| `{whole.name}` | {shapes[0]} | {shapes[1]} " in PAGE
        else:
            assert f"`{whole.name}`" in section("Submodels")


def test_devices_wait_as_long_between_two_tries_as_the_pages_say() -> None:
    told = re.search(r"from 0 to min\((\d+) s, ([\d.]+) s \S\n2\^attempt\)", section("Connections"))
    assert told
    longest_s, first_s = map(float, told.groups())
    waits = [retry_s(errors.Unavailable("down"), attempt, lambda: 1.0) for attempt in range(20)]
    assert waits == [min(longest_s, first_s * 2**attempt) for attempt in range(20)]
    assert longest_s == LONGEST_WAIT_S == simulated.LONGEST_WAIT_S
    for page in ("services/device/README.md", "docs/simulator.md"):
        assert f"at most {longest_s:g} s" in (ROOT / page).read_text(encoding="utf-8"), page


def test_a_base_outlasts_silence_and_its_lease_but_not_a_subscription_without_training() -> None:
    assert len(re.findall(r"\[kept\]\(#pulling-a-model\) until it is\s+too stale", PAGE)) == 2
    base = Version(1)
    c = coordinator(train_timeout_s=60.0, staleness_limit=50)
    for name in ("silent", "expired", "left", "idle", "quick"):
        c.handle(DeviceSeen(device(name)), 0.0)
        c.handle(Subscribed(caller(name)), 0.0)
        c.handle(BaseTaken(caller(name), base), 0.0)
    c.handle(Pushed(update("quick", base)), 1.0)
    c.handle(DeviceSeen(device("expired", state=DeviceState.EXPIRED)), 2.0)
    c.handle(DeviceSeen(device("left", state=DeviceState.LEFT)), 2.0)
    c.handle(Tick(), 100.0)
    held = {name: c.versions.held_by(caller(name).device_id) for name in ("silent", "idle")}
    assert held == {"silent": base, "idle": base}
    c.handle(Subscribed(caller("idle")), 101.0)
    assert dict(c.versions.holds) == {
        caller(name).device_id: base for name in ("silent", "expired", "left")
    }
