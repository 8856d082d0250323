"""Every codec passes this one suite. A new codec joins by a line in `BOUNDS`."""

from __future__ import annotations

import math
import struct
import tracemalloc
from collections.abc import Callable, Mapping
from typing import Annotated, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field, TypeAdapter, ValidationError
from support.codecs import decoded, encoded, header_of, manifest_of, raw_payload, resealed, seeded
from support.fuzzing import records
from torch import Tensor

from hocket.core.payload import CodecId
from hocket.errors import CorruptPayload, HocketError, InvalidUpdate, NotFinite
from hocket.learn.codecs import CODECS, AnyCodec, Codec, Fp16, Int8, Raw, TopK, codec_for
from hocket.learn.codecs.packing import octets
from hocket.learn.codecs.payload import decode_payload, encode_payload

LARGEST_HALF = 65504.0


def exact(values: Tensor) -> Tensor:
    return torch.zeros_like(values)


def half_precision(values: Tensor) -> Tensor:
    """Half a unit in the last of 11 bits or of the smallest subnormal; beyond, what is cut."""
    beyond = (values.abs() - LARGEST_HALF).clamp(min=0)
    return torch.maximum(values.abs() * 2.0**-11, torch.tensor(2.0**-25)) + beyond


def one_level(values: Tensor) -> Tensor:
    """One scale, up to the rounding of the division and of the product to float32."""
    level = values.abs().max().double() / 127
    return (level + values.abs() * 2.0**-22 + 2.0**-126).float()


def largest_left_out(values: Tensor) -> Tensor:
    """The magnitude of the first value in descending order that a tenth does not cover."""
    k = max(1, len(values) // 10)
    ranked = values.abs().sort(descending=True).values
    return ranked[k].expand_as(values) if k < len(values) else torch.zeros_like(values)


BOUNDS: Mapping[Codec, Callable[[Tensor], Tensor]] = {
    Raw(): exact,
    Fp16(): half_precision,
    Int8(): one_level,
    TopK(ratio=0.1): largest_left_out,
}

every_codec = pytest.mark.parametrize("codec", BOUNDS, ids=lambda codec: codec.kind)

SPECIAL = (0.0, -0.0, 1.0, -1.0, 127.0, 1 / 3, 65504.0, -65520.0, 2.0**-149, -(2.0**-126), 3.4e38)


def floats_of(scripts: list[bytes]) -> list[float]:
    """For each one of SPECIAL, in a third of cases, or the float32 of its last four bytes."""
    drawn = [(way % 32, value) for way, value in struct.iter_unpack("<Bf", b"".join(scripts))]
    values = [SPECIAL[way] if way < len(SPECIAL) else value for way, value in drawn]
    return [value for value in values if math.isfinite(value)]


finite_values = records(0, 40, 5).map(floats_of)


def examples() -> dict[str, Tensor]:
    normal = torch.randn(3000, generator=seeded(7))
    return {
        "empty": torch.empty(0),
        "one": torch.tensor([-3.25]),
        "zeros": torch.zeros(50),
        "normal": normal,
        "equal": torch.full((100,), 0.125),
        "wide": normal * torch.logspace(-30, 30, 3000),
        "subnormal": normal * 1e-41,
        "largest": torch.tensor([3.4028234e38, -3.4028234e38, 1.0]),
    }


@every_codec
@pytest.mark.parametrize("name", examples())
def test_round_trip_stays_within_the_stated_bound(codec: Codec, name: str) -> None:
    values = examples()[name]

    back = decoded(codec, encoded(codec, values), len(values))

    assert back.dtype == torch.float32
    if len(values):
        assert ((back - values).abs() <= BOUNDS[codec](values)).all()


@every_codec
@given(finite_values.filter(bool))
def test_any_finite_values_come_back_finite_and_within_the_bound(
    codec: Codec, values: list[float]
) -> None:
    vector = torch.tensor(values)

    back = decoded(codec, encoded(codec, vector), len(vector))

    assert torch.isfinite(back).all()
    error = (back.double() - vector.double()).abs()
    assert (error <= BOUNDS[codec](vector).double()).all()


@every_codec
def test_encoding_follows_from_the_values_and_the_seed(codec: Codec) -> None:
    values = torch.randn(5000, generator=seeded(1))
    before = values.clone()

    assert encoded(codec, values, seed=3) == encoded(codec, values, seed=3)
    assert torch.equal(values, before)


@every_codec
@given(finite_values)
def test_no_encoding_exceeds_the_limit(codec: Codec, values: list[float]) -> None:
    assert len(encoded(codec, torch.tensor(values))) <= codec.encoded_bytes_limit(len(values))


@pytest.mark.parametrize("size", [0, 1, 10, 4096])
def test_lengths_are_those_of_the_protocol(size: int) -> None:
    values = torch.randn(size, generator=seeded(2))

    assert len(encoded(Raw(), values)) == 4 * size
    assert len(encoded(Fp16(), values)) == 2 * size
    assert len(encoded(Int8(), values)) == 4 + size
    assert len(encoded(TopK(ratio=1.0), values)) == 4 + 5 * size


@pytest.mark.parametrize("codec", [Raw(), TopK(ratio=1.0)], ids=["raw", "topk of all"])
def test_lossless_settings_give_back_the_very_bits(codec: Codec) -> None:
    values = torch.randn(4000, generator=seeded(4))

    back = decoded(codec, encoded(codec, values), 4000)

    assert torch.equal(back.view(torch.int32), values.view(torch.int32))


def test_numbers_are_little_endian() -> None:
    values = torch.tensor([1.0, -2.0])

    assert encoded(Raw(), values) == bytes.fromhex("0000803f 000000c0")
    assert encoded(Fp16(), values) == bytes.fromhex("003c 00c0")
    assert encoded(Int8(), torch.tensor([254.0, -254.0, 0.0])) == bytes.fromhex("00000040 7f 81 00")
    assert encoded(TopK(ratio=0.5), values) == bytes.fromhex("01000000 01 000000c0")


@every_codec
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("place", [0, 1500, 2999])
def test_values_that_are_not_finite_are_not_encoded(codec: Codec, bad: float, place: int) -> None:
    values = torch.ones(3000)
    values[place] = bad

    with pytest.raises(NotFinite):
        codec.encode(values, seeded())


@pytest.mark.parametrize(
    ("codec", "data"),
    [
        (Raw(), struct.pack("<2f", 1.0, float("nan"))),
        (Raw(), struct.pack("<2f", float("-inf"), 1.0)),
        (Fp16(), struct.pack("<2e", 1.0, float("inf"))),
        (Fp16(), struct.pack("<2e", float("nan"), 1.0)),
        (Int8(), struct.pack("<f2b", float("nan"), 0, 0)),
        (Int8(), struct.pack("<f2b", float("inf"), 0, 0)),
        (Int8(), struct.pack("<f2b", float("-inf"), 0, 0)),
        (Int8(), struct.pack("<f2b", 3e38, 1, 1)),
        (TopK(), struct.pack("<IBf", 1, 0, float("nan"))),
        (TopK(), struct.pack("<IBf", 1, 1, float("inf"))),
    ],
)
def test_values_that_are_not_finite_are_not_decoded(codec: Codec, data: bytes) -> None:
    with pytest.raises(NotFinite):
        decoded(codec, data, 2)


@every_codec
def test_whatever_is_cut_off_or_added_is_noticed(codec: Codec) -> None:
    values = torch.randn(60, generator=seeded(5))
    data = encoded(codec, values)

    for length in range(len(data)):
        with pytest.raises(CorruptPayload):
            decoded(codec, data[:length], 60)
    for extra in (b"\x00", b"\x7f", b"\x80", b"\xff", b"\x00" * 4, b"\xff" * 60):
        with pytest.raises(CorruptPayload):
            decoded(codec, data + extra, 60)


@every_codec
@settings(max_examples=200)
@given(st.binary(max_size=80), st.integers(0, 30))
def test_garbage_is_refused_or_is_a_finite_tensor(codec: Codec, data: bytes, size: int) -> None:
    try:
        back = decoded(codec, data, size)
    except InvalidUpdate:
        return
    assert torch.isfinite(back).all()


@every_codec
@settings(max_examples=200)
@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=6))
def test_flipped_bits_are_refused_or_give_a_finite_tensor(codec: Codec, flips: list[int]) -> None:
    data = bytearray(encoded(codec, torch.linspace(-1, 1, 400)))
    for flip in flips:
        bit = flip % (8 * len(data))
        data[bit // 8] ^= 1 << bit % 8

    try:
        back = decoded(codec, bytes(data), 400)
    except InvalidUpdate:
        return
    assert torch.isfinite(back).all()


@every_codec
def test_no_claim_takes_memory(codec: Codec) -> None:
    out = torch.empty(1000)
    data = memoryview(b"\xff\xff\xff\xff" + bytes(2000))

    tracemalloc.start()
    try:
        with pytest.raises(InvalidUpdate):
            codec.decode_into(data, out)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak_bytes < 100_000


@every_codec
def test_a_payload_carries_every_kind_of_shape(codec: Codec) -> None:
    manifest = manifest_of((64, 32), (), (7,), (1,), (3, 500), (2, 3, 4, 5))
    delta = torch.randn(manifest.size, generator=seeded(6))

    payload = encode_payload(delta, manifest, codec, seeded(8))
    back = decode_payload(payload, manifest)

    for tensor, start in zip(manifest.tensors, manifest.offsets, strict=True):
        part = slice(start, start + tensor.size)
        bound = BOUNDS[codec](delta[part]) if tensor.size >= 1024 else torch.zeros(tensor.size)
        assert ((back[part] - delta[part]).abs() <= bound).all()


@every_codec
@settings(max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 255), st.booleans())
def test_a_damaged_payload_is_refused_or_decodes_to_finite_values(
    codec: Codec, place: int, change: int, pack: bool
) -> None:
    manifest = manifest_of((2000,), (5,))
    payload = encode_payload(torch.linspace(-1, 1, 2005), manifest, codec, seeded(), pack=pack)
    body = bytearray(octets(payload.body))
    body[place % len(body)] ^= change

    with pytest.raises(CorruptPayload, match="checksum"):
        decode_payload(type(payload)(payload.header, bytes(body)), manifest)
    try:
        back = decode_payload(resealed(payload, bytes(body)), manifest)
    except HocketError:
        return
    assert torch.isfinite(back).all()


@settings(max_examples=200)
@given(
    st.sampled_from(CodecId),
    st.binary(max_size=60),
    st.integers(-(2**63), 2**64),
    st.integers(0, 9),
)
def test_no_header_makes_the_receiver_stumble(
    codec: CodecId, body: bytes, claim: int, size: int
) -> None:
    payload = raw_payload(body, header_of(codec, (size,), claim))

    try:
        back = decode_payload(payload, manifest_of((size,)))
    except HocketError:
        return
    assert torch.isfinite(back).all()


def test_the_table_the_wire_and_the_task_file_name_the_same_codecs() -> None:
    assert set(CODECS) == set(CodecId)
    assert {type(codec) for codec in CODECS.values()} == set(get_args(AnyCodec))
    assert {type(codec) for codec in BOUNDS} == set(get_args(AnyCodec))
    assert {codec_id.name.lower(): codec.kind for codec_id, codec in CODECS.items()} == {
        "raw": "raw",
        "fp16": "fp16",
        "int8": "int8",
        "topk": "topk",
    }
    assert all(codec_for(codec_id).id == codec_id for codec_id in CodecId)


def test_an_unknown_codec_is_refused_with_the_list_of_known_ones() -> None:
    with pytest.raises(InvalidUpdate, match=r"99.*RAW, FP16, INT8, TOPK"):
        codec_for(99)  # type: ignore[arg-type]  # what a newer sender might name


def test_a_task_file_parses_into_the_codec_itself() -> None:
    parse = TypeAdapter[AnyCodec](Annotated[AnyCodec, Field(discriminator="kind")]).validate_python

    assert parse({"kind": "topk", "ratio": 0.05}) == TopK(ratio=0.05)
    assert [parse({"kind": kind}).kind for kind in ("raw", "fp16", "int8")] == [
        "raw",
        "fp16",
        "int8",
    ]
    with pytest.raises(ValidationError, match=r"ratio must lie in \(0, 1\]"):
        parse({"kind": "topk", "ratio": 1.5})
    with pytest.raises(ValidationError, match="'raw', 'fp16', 'int8', 'topk'"):
        parse({"kind": "zip"})
