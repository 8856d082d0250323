"""A model's delta as a payload and back: tensors one by one, then zstd around all of them."""

from __future__ import annotations

import math
import sys
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
    NotFinite,
    PayloadTooLarge,
    ShapeMismatch,
)
from hocket.learn.codecs import Codec, Raw, codec_for
from hocket.learn.codecs.codec import require_finite
from hocket.learn.codecs.packing import (
    octets,
    pack_where_it_pays,
    packed_bytes_limit,
    unpack,
)
from hocket.learn.inner import inner

SMALL_TENSOR = 1024
"""Tensors of fewer values (biases, norms, running statistics) always travel raw: they hold little,
and what they hold is felt by every example."""

RAW = Raw()


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

    values: Tensor  # (n, float32), finite
    square: float  # <values, values>; not finite where that overflows float32


def decode_payload(payload: Payload, manifest: Manifest, out: Tensor | None = None) -> Tensor:
    """The values of `decode`, which share no memory with the body."""
    return decode(payload, manifest, out).values


def decode(
    payload: Payload, manifest: Manifest, out: Tensor | None = None, *, share: bool = False
) -> Decoded:
    """Decode into one vector laid out as `manifest` (n, float32).

    It is `out` where that is given: a vector to overwrite, which saves the system from finding
    fresh pages (for 44 MB that takes longer than all the rest). After an error its values mean
    nothing. Else a new vector. The body is only read, and nothing returned shares its memory,
    unless `share` allows it: then a body of plain values becomes the vector, and must not change.

    Raises:
        ShapeMismatch, PayloadTooLarge, InvalidUpdate: as `check_header`, which is called first;
            or `out` does not fit; or the body unpacks to more than the header says.
        CorruptPayload: a length, the checksum or an encoding does not add up.
        NotFinite: the payload holds NaN or infinite values; the message names the tensor.
    """
    check_header(payload.header, manifest)
    wire = octets(payload.body)
    _check_body(wire, payload.header)
    packed = payload.header.packing is Packing.ZSTD
    body = unpack(wire, payload.header.unpacked_bytes) if packed else wire
    if share and _is_vector(body, payload.header):
        return _shared(body, manifest)
    if out is None:
        out = torch.empty(manifest.size)
    _require_fit(out, manifest)
    at, sparse = 0, _is_sparse(payload.header)
    places: list[Tensor] = []
    for sent, offset in zip(payload.header.tensors, manifest.offsets, strict=True):
        data = body[at : at + sent.encoded_bytes]
        at += sent.encoded_bytes
        try:
            found = codec_for(sent.codec).decode_into(data, out[offset : offset + sent.size])
        except InvalidUpdate as error:
            raise _named(error, sent.name) from error
        if sparse:
            places.append((torch.arange(sent.size) if found is None else found) + offset)
    kept = out[torch.cat(places)] if sparse else out  # what a sparse codec left out is 0
    return Decoded(out, inner(kept, kept))


def _is_sparse(header: PayloadHeader) -> bool:
    """Whether every tensor of some size leaves most of its values out."""
    return all(
        tensor.codec is CodecId.TOPK or tensor.size < SMALL_TENSOR for tensor in header.tensors
    )


def _is_vector(body: memoryview, header: PayloadHeader) -> bool:
    """Whether a body is the values themselves, in memory that torch can use."""
    plain = all(sent.codec is CodecId.RAW for sent in header.tensors)
    return plain and sys.byteorder == "little" and body.nbytes > 0 and not body.readonly


def _shared(body: memoryview, manifest: Manifest) -> Decoded:
    values = torch.frombuffer(body, dtype=torch.float32)
    square = inner(values, values)
    if not math.isfinite(square):
        for spec, offset in zip(manifest.tensors, manifest.offsets, strict=True):
            try:
                require_finite(values[offset : offset + spec.size])
            except NotFinite as error:
                raise _named(error, spec.name) from error
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


def _named(error: InvalidUpdate, tensor: str) -> InvalidUpdate:
    """The same error, saying which tensor it is about."""
    return type(error)(f"tensor {tensor}: {error.message}", tensor=tensor)
