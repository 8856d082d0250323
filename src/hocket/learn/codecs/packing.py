"""Lossless zstd around a payload's body, where it pays.

A packed body is one zstd frame (RFC 8878) that states its content size, which is what the header
says, and nothing after it. So the receiver knows what it will unpack before it takes any memory.
"""

from __future__ import annotations

import zstandard
from typing_extensions import Buffer

from hocket.core.payload import Packing
from hocket.errors import CorruptPayload, PayloadTooLarge

LEVEL = 1  # on float32 and int8 deltas smaller than level 3, and 3 to 4 times as fast
PAYS_BELOW = 0.98  # packed to unpacked bytes
SAMPLES = 8
SAMPLE_BYTES = 16 * 1024


def pack_where_it_pays(body: Buffer) -> tuple[Packing, Buffer]:
    """Pack a contiguous body, or hand it back as it is where that would save less than 2 %."""
    view = octets(body)
    if view.nbytes > 4 * SAMPLES * SAMPLE_BYTES and not _pays(_sample(view)):
        return Packing.NONE, body
    packed = zstandard.ZstdCompressor(level=LEVEL).compress(view)
    if len(packed) > PAYS_BELOW * view.nbytes:
        return Packing.NONE, body
    return Packing.ZSTD, packed


def unpack(packed: memoryview, unpacked_bytes: int) -> memoryview:
    """Undo `pack_where_it_pays`, taking memory for `unpacked_bytes` at most.

    Raises:
        PayloadTooLarge: the frame says that it holds more.
        CorruptPayload: it holds less, does not say, is damaged, or has bytes after it.
    """
    try:
        content_bytes = zstandard.get_frame_parameters(packed).content_size
        if content_bytes == zstandard.CONTENTSIZE_UNKNOWN:
            raise CorruptPayload("the zstd frame does not state its content size; make it do so")
        if content_bytes > unpacked_bytes:
            raise PayloadTooLarge(
                f"the body unpacks to {content_bytes} bytes where its header says {unpacked_bytes}"
            )
        body = zstandard.ZstdDecompressor().decompress(packed, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise CorruptPayload(f"the body is no whole zstd frame ({error}); push again") from error
    if len(body) != unpacked_bytes:
        raise CorruptPayload(
            f"the body unpacks to {len(body)} bytes where its header says {unpacked_bytes}"
        )
    return memoryview(body)


def packed_bytes_limit(unpacked_bytes: int) -> int:
    """Most bytes that zstd makes of so many: ZSTD_COMPRESSBOUND of zstd.h, rounded up."""
    return unpacked_bytes + unpacked_bytes // 256 + 64


def octets(body: Buffer) -> memoryview:
    """The bytes of a contiguous buffer."""
    view = memoryview(body)
    return view.cast("B") if view.nbytes else memoryview(b"")


def _pays(body: bytes) -> bool:
    packed = zstandard.ZstdCompressor(level=LEVEL).compress(body)
    return len(packed) <= PAYS_BELOW * len(body)


def _sample(view: memoryview) -> bytes:
    """Pieces spread evenly, so that each kind of content weighs as it does in the whole."""
    stride = view.nbytes // SAMPLES
    starts = range(0, SAMPLES * stride, stride)
    return b"".join(view[start : start + SAMPLE_BYTES] for start in starts)
