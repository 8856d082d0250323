"""Every codec we ship. To add one: a `CodecId` member, its module, and a line in each list here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from hocket.core.payload import CodecId
from hocket.errors import InvalidUpdate
from hocket.learn.codecs.codec import Codec
from hocket.learn.codecs.fp16 import Fp16
from hocket.learn.codecs.int8 import Int8
from hocket.learn.codecs.raw import Raw
from hocket.learn.codecs.topk import TopK

AnyCodec = Raw | Fp16 | Int8 | TopK
"""The codecs as a task file may name them; `kind` tells them apart."""

CODECS: Mapping[CodecId, Codec] = MappingProxyType(
    {codec.id: codec for codec in (Raw(), Fp16(), Int8(), TopK())}
)
"""The codecs as the wire names them, for decoding."""


def codec_for(codec_id: CodecId) -> Codec:
    """The codec that decodes what `codec_id` names.

    Raises:
        InvalidUpdate: this build knows no such codec.
    """
    try:
        return CODECS[codec_id]
    except KeyError:
        known = ", ".join(member.name for member in CODECS)
        raise InvalidUpdate(f"codec {codec_id} is not known here; use one of {known}") from None


__all__ = ["CODECS", "AnyCodec", "Codec", "Fp16", "Int8", "Raw", "TopK", "codec_for"]
