"""Updates made beforehand, so that no encoding is measured. Imports torch: for workers only."""

from __future__ import annotations

import torch

from hocket.cli.bench.cases import Coding
from hocket.core.chance import stream_seed
from hocket.core.manifest import Manifest
from hocket.core.payload import Payload
from hocket.learn.codecs import Codec, Raw, TopK
from hocket.learn.codecs.payload import encode_payload

SCALE = 0.01  # standard deviation of a delta's values, about that of a first update


def make_payloads(manifest: Manifest, coding: Coding, count: int, seed: int) -> list[Payload]:
    """`count` different normal deltas of this model, encoded: raw as they are, top-k at 1 %."""
    codec: Codec = TopK(0.01) if coding is Coding.TOPK else Raw()
    made = []
    for number in range(count):
        generator = torch.Generator().manual_seed(stream_seed(seed, "bench", str(number)))
        delta = torch.randn(manifest.size, generator=generator).mul_(SCALE)
        made.append(
            encode_payload(delta, manifest, codec, generator, pack=coding is not Coding.RAW)
        )
    return made
