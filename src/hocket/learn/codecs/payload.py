"""A model's delta as a payload and back: tensors one by one, then zstd around all of them."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import xxhash
from torch import Tensor
from typing_extensions import Buffer

from hocket.core.manifest import Manifest
from hocket.core.payload import CodecId, Packing, Payload, PayloadHeader, TensorHeader
from hocket.errors import (
    CorruptPayload,
    InvalidUpdate,
    PayloadTooLarge,
    ShapeMismatch,
)
from hocket.learn.codecs import Codec, Raw, TopK, codec_for
from hocket.learn.codecs.codec import require_finite
from hocket.learn.codecs.packing import (
    octets,
    pack_where_it_pays,
    packed_bytes_limit,
    unpack,
)
from hocket.learn.inner import inner
from hocket.learn.pool import POOL
from hocket.learn.sparse import sparse_vector

SMALL_TENSOR = 1024
"""Tensors of fewer values (biases, norms, running statistics) always travel raw: they hold little,
and what they hold is felt by every example."""

SPARSE_BELOW = 4
"""Values for each byte sent, from which on a tensor is better kept sparse: 5 % of its values."""

RAW, TOPK = Raw(), TopK()


def encode_payload(
    delta: Tensor,
    manifest: Manifest,
    codec: Codec,
    generator: torch.Generator,
    *,
    pack: bool = True,
) -> Payload:
    """Encode a vector laid out as `manifest` (n, float32, on the CPU).

    The payload may share the memory of `delta`, which must not change while the payload lives.
    Without `pack`, zstd is not even tried: right where the link is faster than it.

    Raises:
        ShapeMismatch: `delta` is not a float32 vector of the manifest's size.
        NotFinite: it holds NaN or infinite values; the message names the tensor.
    """
    _require_fit(delta, manifest)
    values = delta.detach().contiguous()
    headers, pieces = [], []
    for spec, offset in zip(manifest.tensors, manifest.offsets, strict=True):
        chosen = RAW if spec.size < SMALL_TENSOR else codec
        try:
            piece = chosen.encode(values[offset : offset + spec.size], generator)
        except InvalidUpdate as error:
            raise _named(error, spec.name) from error
        headers.append(TensorHeader(spec.name, spec.shape, chosen.id, octets(piece).nbytes))
        pieces.append(piece)
    all_raw = all(header.codec is CodecId.RAW for header in headers)
    # Raw tensors laid end to end are the vector itself: nothing to join.
    body: Buffer = RAW.encode(values, generator) if all_raw else b"".join(pieces)
    packing, body = pack_where_it_pays(body) if pack else (Packing.NONE, body)
    wire = octets(body)
    header = PayloadHeader(tuple(headers), packing, wire.nbytes, xxhash.xxh3_64_intdigest(wire))
    return Payload(header, body)


def check_header(header: PayloadHeader, manifest: Manifest) -> None:
    """Refuse what cannot be an update of this model, before any memory is taken for its body.

    Raises:
        ShapeMismatch: the tensors are not the manifest's, in its order.
        InvalidUpdate: a codec is not known here.
        PayloadTooLarge: a tensor, or the body, is longer than any encoding of its values.
        CorruptPayload: an unpacked body is shorter than its tensors together.
    """
    if len(header.tensors) != len(manifest.tensors):
        raise ShapeMismatch(
            f"the payload has {len(header.tensors)} tensors, the model {len(manifest.tensors)}; "
            "compare with the manifest of GetTask"
        )
    for sent, spec in zip(header.tensors, manifest.tensors, strict=True):
        if (sent.name, sent.shape) != (spec.name, spec.shape):
            raise ShapeMismatch(
                f"tensor {sent.name} {sent.shape} stands where the model has {spec.name} "
                f"{spec.shape}; compare with the manifest of GetTask",
                tensor=spec.name,
            )
        codec = codec_for(sent.codec)
        limit = codec.encoded_bytes_limit(spec.size)
        if not 0 <= sent.encoded_bytes <= limit:
            raise PayloadTooLarge(
                f"tensor {spec.name} claims {sent.encoded_bytes} bytes; {codec.kind} takes "
                f"{limit} at most",
                tensor=spec.name,
            )
    _check_wire_bytes(header)


@dataclass(frozen=True, slots=True)
class Decoded:
    """A delta, and its square, which costs little while the values are at hand."""

    delta: Tensor  # (n, float32), finite; dense or sparse, see `hocket.learn.sparse`
    square: float  # <delta, delta>; not finite where that overflows float32


def decode_payload(payload: Payload, manifest: Manifest, out: Tensor | None = None) -> Tensor:
    """Decode into one vector laid out as `manifest` (n, float32).

    It is `out` where that is given: a vector to overwrite, which saves the system from finding
    fresh pages (for 44 MB that takes longer than all the rest). After an error its values mean
    nothing. Else a new vector. The body is only read, and nothing returned shares its memory.

    Raises:
        ShapeMismatch, PayloadTooLarge, InvalidUpdate: as `check_header`, which is called first;
            or `out` does not fit; or the body unpacks to more than the header says.
        CorruptPayload: a length, the checksum or an encoding does not add up.
        NotFinite: the payload holds NaN or infinite values; the message names the tensor.
    """
    body = _unpacked(payload, manifest)
    if out is None:
        out = torch.empty(manifest.size)
    _require_fit(out, manifest)
    return _dense(payload.header, body, manifest, out)


def decode_delta(payload: Payload, manifest: Manifest) -> Decoded:
    """As `decode_payload`, in the form that costs least; the body must not change any more.

    A body of plain values becomes the delta itself, and top-k's few values stay few.
    """
    header, body = payload.header, _unpacked(payload, manifest)
    if _is_vector(body, header):
        return _shared(body, manifest)
    if _is_sparse(header):
        return _sparse(header, body, manifest)
    delta = _dense(header, body, manifest, POOL.take(manifest.size))
    return Decoded(delta, inner(delta, delta))


def _dense(header: PayloadHeader, body: memoryview, manifest: Manifest, out: Tensor) -> Tensor:
    for sent, offset, data in _pieces(header, manifest, body):
        with _naming(sent.name):
            codec_for(sent.codec).decode_into(data, out[offset : offset + sent.size])
    return out


def _unpacked(payload: Payload, manifest: Manifest) -> memoryview:
    check_header(payload.header, manifest)
    wire = octets(payload.body)
    _check_body(wire, payload.header)
    packed = payload.header.packing is Packing.ZSTD
    return unpack(wire, payload.header.unpacked_bytes) if packed else wire


def _pieces(
    header: PayloadHeader, manifest: Manifest, body: memoryview
) -> Iterator[tuple[TensorHeader, int, memoryview]]:
    """Each tensor, its offset in the vector, and its bytes."""
    at = 0
    for sent, offset in zip(header.tensors, manifest.offsets, strict=True):
        yield sent, offset, body[at : at + sent.encoded_bytes]
        at += sent.encoded_bytes


def _is_sparse(header: PayloadHeader) -> bool:
    """Whether every tensor of some size leaves most of its values out, as the lengths tell."""
    return len(header.tensors) > 0 and all(
        tensor.size < SMALL_TENSOR
        or (tensor.codec is CodecId.TOPK and tensor.encoded_bytes * SPARSE_BELOW <= tensor.size)
        for tensor in header.tensors
    )


def _sparse(header: PayloadHeader, body: memoryview, manifest: Manifest) -> Decoded:
    places, values = [], []
    for sent, offset, data in _pieces(header, manifest, body):
        with _naming(sent.name):
            if sent.codec is CodecId.TOPK:
                at, some = TOPK.decode(data, sent.size)
            else:
                at, some = torch.arange(sent.size), torch.empty(sent.size)
                codec_for(sent.codec).decode_into(data, some)
        places.append(at + offset)
        values.append(some)
    kept = torch.cat(values)
    return Decoded(sparse_vector(torch.cat(places), kept, manifest.size), inner(kept, kept))


def _is_vector(body: memoryview, header: PayloadHeader) -> bool:
    """Whether a body is the values themselves, in memory that torch can use."""
    plain = all(sent.codec is CodecId.RAW for sent in header.tensors)
    return plain and sys.byteorder == "little" and body.nbytes > 0 and not body.readonly


def _shared(body: memoryview, manifest: Manifest) -> Decoded:
    values = torch.frombuffer(body, dtype=torch.float32)
    square = inner(values, values)
    if not math.isfinite(square):
        for spec, offset in zip(manifest.tensors, manifest.offsets, strict=True):
            with _naming(spec.name):
                require_finite(values[offset : offset + spec.size])
    return Decoded(values, square)


def _check_wire_bytes(header: PayloadHeader) -> None:
    unpacked_bytes = header.unpacked_bytes
    packed = header.packing is Packing.ZSTD
    limit = packed_bytes_limit(unpacked_bytes) if packed else unpacked_bytes
    if header.wire_bytes > limit:
        raise PayloadTooLarge(
            f"the body claims {header.wire_bytes} bytes on the wire; its tensors take {limit} at "
            "most"
        )
    if not packed and header.wire_bytes < limit:
        raise CorruptPayload(f"the body claims {header.wire_bytes} bytes; its tensors need {limit}")


def _check_body(wire: memoryview, header: PayloadHeader) -> None:
    if wire.nbytes != header.wire_bytes:
        raise CorruptPayload(
            f"the body has {wire.nbytes} bytes where its header says {header.wire_bytes}"
        )
    if header.checksum is None:
        return
    checksum = xxhash.xxh3_64_intdigest(wire)
    if checksum != header.checksum:
        raise CorruptPayload(
            f"the body's checksum is {checksum:016x} where its header says "
            f"{header.checksum:016x}; push again"
        )


def _require_fit(vector: Tensor, manifest: Manifest) -> None:
    if vector.dtype != torch.float32 or vector.shape != (manifest.size,):
        raise ShapeMismatch(
            f"a vector of shape {tuple(vector.shape)} and {vector.dtype} does not fit a model of "
            f"{manifest.size} float32 values"
        )


@contextmanager
def _naming(tensor: str) -> Iterator[None]:
    """Errors within say which tensor they are about."""
    try:
        yield
    except InvalidUpdate as error:
        raise _named(error, tensor) from error


def _named(error: InvalidUpdate, tensor: str) -> InvalidUpdate:
    """The same error, saying which tensor it is about."""
    return type(error)(f"tensor {tensor}: {error.message}", tensor=tensor)
