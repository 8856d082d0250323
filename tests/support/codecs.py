"""What the tests of codecs and payloads share."""

from __future__ import annotations

from dataclasses import replace

import torch
import xxhash
from torch import Tensor

from hocket.core.manifest import Manifest, TensorSpec
from hocket.core.payload import CodecId, Packing, Payload, PayloadHeader, TensorHeader
from hocket.learn.codecs import Codec
from hocket.learn.codecs.packing import octets


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def encoded(codec: Codec, values: Tensor, seed: int = 0) -> bytes:
    return bytes(octets(codec.encode(values, seeded(seed))))


def decoded(codec: Codec, data: bytes, size: int) -> Tensor:
    """Decode from an odd address into a vector of NaN, so that nothing rests on luck."""
    out = torch.full((size,), torch.nan)
    codec.decode_into(memoryview(b"?" + data)[1:], out)
    return out


def manifest_of(*shapes: tuple[int, ...]) -> Manifest:
    return Manifest(tuple(TensorSpec(f"layer{i}", shape) for i, shape in enumerate(shapes)))


def raw_payload(body: bytes, *tensors: TensorHeader, packing: Packing = Packing.NONE) -> Payload:
    """A payload with a right length and a right checksum, whatever is in it."""
    checksum = xxhash.xxh3_64_intdigest(body)
    return Payload(PayloadHeader(tensors, packing, len(body), checksum), body)


def resealed(payload: Payload, body: bytes) -> Payload:
    """The same header around another body, its length and checksum set right."""
    checksum = xxhash.xxh3_64_intdigest(body)
    header = replace(payload.header, wire_bytes=len(body), checksum=checksum)
    return Payload(header, body)


def header_of(codec: CodecId, shape: tuple[int, ...], encoded_bytes: int) -> TensorHeader:
    return TensorHeader("layer0", shape, codec, encoded_bytes)
