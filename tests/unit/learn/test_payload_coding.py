from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import xxhash
import zstandard
from support.codecs import header_of, manifest_of, raw_payload, resealed, seeded
from torch import Tensor

from hocket.core.payload import CodecId, Packing, Payload, PayloadHeader
from hocket.errors import CorruptPayload, HocketError, NotFinite, PayloadTooLarge, ShapeMismatch
from hocket.learn.codecs import Fp16, Int8, Raw, TopK
from hocket.learn.codecs.packing import octets
from hocket.learn.codecs.payload import check_header, decode_payload, encode_payload

MANIFEST = manifest_of((32, 64), (64,), (1023,), (1024,))
SIZE = 2048 + 64 + 1023 + 1024


def delta(seed: int = 1) -> Tensor:
    return torch.randn(SIZE, generator=seeded(seed))


def sent(pack: bool = False) -> Payload:
    return encode_payload(delta(), MANIFEST, Raw(), seeded(), pack=pack)


def with_tensor(header: PayloadHeader, index: int, **changes: object) -> PayloadHeader:
    tensors = list(header.tensors)
    tensors[index] = replace(tensors[index], **changes)  # type: ignore[arg-type]  # by design
    return replace(header, tensors=tuple(tensors))


def test_the_header_says_what_the_body_holds() -> None:
    payload = encode_payload(delta(), MANIFEST, Int8(), seeded())

    header = payload.header
    assert [tensor.name for tensor in header.tensors] == ["layer0", "layer1", "layer2", "layer3"]
    assert [tensor.shape for tensor in header.tensors] == [(32, 64), (64,), (1023,), (1024,)]
    # Fewer than 1024 values travel raw, whatever the codec.
    assert [tensor.codec for tensor in header.tensors] == [
        CodecId.INT8,
        CodecId.RAW,
        CodecId.RAW,
        CodecId.INT8,
    ]
    assert [tensor.encoded_bytes for tensor in header.tensors] == [2052, 256, 4092, 1028]
    assert header.wire_bytes == len(bytes(payload.body))
    assert header.checksum == xxhash.xxh3_64_intdigest(bytes(payload.body))
    check_header(header, MANIFEST)


def test_an_unpacked_raw_payload_is_the_vector_itself() -> None:
    vector = delta()

    payload = encode_payload(vector, MANIFEST, Raw(), seeded(), pack=False)

    assert payload.header.packing is Packing.NONE
    assert np.shares_memory(np.frombuffer(octets(payload.body), np.uint8), vector.numpy())
    assert bytes(payload.body) == vector.numpy().tobytes()
    assert torch.equal(decode_payload(payload, MANIFEST), vector)


def test_decoding_copies_and_can_reuse_a_vector() -> None:
    body = bytearray(delta().numpy().tobytes())
    payload = Payload(sent().header, body)
    out = torch.full((SIZE,), torch.nan)

    fresh = decode_payload(payload, MANIFEST)
    reused = decode_payload(payload, MANIFEST, out)
    body[:] = bytes(len(body))

    assert reused is out
    assert torch.equal(fresh, delta())
    assert torch.equal(reused, delta())


def test_zstd_is_used_where_it_pays_and_only_if_asked() -> None:
    sparse = torch.zeros(SIZE)
    sparse[5] = 1.0

    packed = encode_payload(sparse, MANIFEST, Raw(), seeded())
    plain = encode_payload(sparse, MANIFEST, Raw(), seeded(), pack=False)

    assert packed.header.packing is Packing.ZSTD
    assert packed.header.wire_bytes < 200
    assert packed.header.unpacked_bytes == 4 * SIZE
    assert plain.header.packing is Packing.NONE
    assert torch.equal(decode_payload(packed, MANIFEST), sparse)
    assert torch.equal(decode_payload(plain, MANIFEST), sparse)


@pytest.mark.parametrize("codec", [Int8(), TopK(ratio=0.1), Fp16()], ids=lambda codec: codec.kind)
def test_equal_seeds_give_equal_payloads(codec: Int8 | TopK | Fp16) -> None:
    first = encode_payload(delta(), MANIFEST, codec, seeded(4))
    second = encode_payload(delta(), MANIFEST, codec, seeded(4))

    assert first.header == second.header
    assert bytes(first.body) == bytes(second.body)


@pytest.mark.parametrize(
    "vector",
    [torch.zeros(SIZE - 1), torch.zeros(SIZE, dtype=torch.float64), torch.zeros(1, SIZE)],
    ids=["short", "float64", "matrix"],
)
def test_a_vector_that_does_not_fit_is_neither_sent_nor_filled(vector: Tensor) -> None:
    with pytest.raises(ShapeMismatch, match=f"{SIZE} float32 values"):
        encode_payload(vector, MANIFEST, Raw(), seeded())
    with pytest.raises(ShapeMismatch, match=f"{SIZE} float32 values"):
        decode_payload(sent(), MANIFEST, vector)


def test_values_that_are_not_finite_are_refused_by_the_tensor_s_name() -> None:
    vector = delta()
    vector[2048 + 64 + 500] = torch.inf

    with pytest.raises(NotFinite, match="layer2"):
        encode_payload(vector, MANIFEST, Raw(), seeded())
    with pytest.raises(NotFinite, match="layer2") as caught:
        decode_payload(resealed(sent(), vector.numpy().tobytes()), MANIFEST)
    assert caught.value.details == {"tensor": "layer2"}


def test_huge_values_are_finite_although_their_squares_are_not() -> None:
    vector = torch.full((SIZE,), 3e38)

    payload = encode_payload(vector, MANIFEST, Raw(), seeded())

    assert torch.equal(decode_payload(payload, MANIFEST), vector)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "other"}, "tensor other .* model has layer1"),
        ({"shape": (8, 8)}, r"layer1 \(8, 8\) stands where .* layer1 \(64,\)"),
        ({"shape": (65,)}, "layer1"),
    ],
)
def test_tensors_must_be_the_manifest_s(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ShapeMismatch, match=message):
        check_header(with_tensor(sent().header, 1, **changes), MANIFEST)


def test_tensors_must_come_whole_and_in_order() -> None:
    header = sent().header

    with pytest.raises(ShapeMismatch, match="3 tensors, the model 4"):
        check_header(replace(header, tensors=header.tensors[:3]), MANIFEST)
    with pytest.raises(ShapeMismatch, match="5 tensors, the model 4"):
        check_header(replace(header, tensors=(*header.tensors, header.tensors[0])), MANIFEST)
    with pytest.raises(ShapeMismatch, match=r"layer1.* stands where the model has layer0"):
        check_header(replace(header, tensors=header.tensors[1::-1] + header.tensors[2:]), MANIFEST)


@pytest.mark.parametrize(
    ("codec", "limit"),
    [(CodecId.RAW, 256), (CodecId.FP16, 128), (CodecId.INT8, 68), (CodecId.TOPK, 324)],
)
def test_a_tensor_longer_than_any_encoding_is_refused(codec: CodecId, limit: int) -> None:
    header = sent().header
    within = with_tensor(header, 1, codec=codec, encoded_bytes=limit)
    check_header(replace(within, wire_bytes=within.unpacked_bytes), MANIFEST)

    for claim in (limit + 1, 2**63, -1):
        with pytest.raises(PayloadTooLarge, match=f"layer1 claims {claim} bytes.* {limit} at most"):
            check_header(with_tensor(header, 1, codec=codec, encoded_bytes=claim), MANIFEST)


def test_a_body_longer_than_its_tensors_is_refused() -> None:
    header = sent().header
    plain = header.unpacked_bytes

    with pytest.raises(PayloadTooLarge, match=f"claims {plain + 1} bytes"):
        check_header(replace(header, wire_bytes=plain + 1), MANIFEST)
    with pytest.raises(CorruptPayload, match=f"claims {plain - 1} bytes"):
        check_header(replace(header, wire_bytes=plain - 1), MANIFEST)
    packed = replace(header, packing=Packing.ZSTD)
    check_header(packed, MANIFEST)
    with pytest.raises(PayloadTooLarge, match="bytes on the wire"):
        check_header(replace(packed, wire_bytes=plain + plain // 200 + 100), MANIFEST)


def test_a_body_that_is_not_the_header_s_is_refused() -> None:
    payload = sent()
    body = bytes(payload.body)

    with pytest.raises(CorruptPayload, match=f"has {len(body) - 1} bytes"):
        decode_payload(Payload(payload.header, body[:-1]), MANIFEST)
    with pytest.raises(CorruptPayload, match="checksum"):
        decode_payload(Payload(payload.header, body[:-1] + b"!"), MANIFEST)


def test_an_absent_checksum_is_not_checked() -> None:
    payload = sent()
    unsummed = Payload(replace(payload.header, checksum=None), payload.body)

    assert torch.equal(decode_payload(unsummed, MANIFEST), decode_payload(payload, MANIFEST))
    with pytest.raises(CorruptPayload, match="bytes where its header says"):
        decode_payload(Payload(unsummed.header, bytes(payload.body)[:-1]), MANIFEST)


def test_decoding_checks_the_header_first() -> None:
    payload = sent()
    stranger = with_tensor(payload.header, 1, name="other")

    with pytest.raises(ShapeMismatch, match="tensor other"):
        decode_payload(Payload(stranger, payload.body), MANIFEST)


def test_a_bomb_is_refused() -> None:
    manifest = manifest_of((1000,))
    bomb = zstandard.ZstdCompressor().compress(bytes(50_000_000))
    payload = raw_payload(bomb, header_of(CodecId.RAW, (1000,), 4000), packing=Packing.ZSTD)

    with pytest.raises(PayloadTooLarge, match=r"unpacks to 50000000 bytes .* says 4000"):
        decode_payload(payload, manifest)


def test_a_packed_body_with_bytes_after_it_is_refused() -> None:
    payload = encode_payload(torch.zeros(SIZE), MANIFEST, Raw(), seeded())
    assert payload.header.packing is Packing.ZSTD

    for body in (bytes(payload.body) + b"\x00", bytes(payload.body)[:-1]):
        with pytest.raises(CorruptPayload, match="zstd"):
            decode_payload(resealed(payload, body), MANIFEST)


def test_a_corrupt_tensor_is_refused_by_its_name() -> None:
    payload = encode_payload(delta(), MANIFEST, Int8(), seeded(), pack=False)
    body = bytearray(octets(payload.body))
    scale_at = 2052 + 256 + 4092  # after the tensors before
    body[scale_at + 3] |= 0x80  # the sign bit

    with pytest.raises(HocketError, match=r"tensor layer3: scale .* is not positive"):
        decode_payload(resealed(payload, bytes(body)), MANIFEST)
