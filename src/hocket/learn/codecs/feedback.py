"""Error feedback: what a lossy codec leaves out of one update is added to the next.

With residual e, delta g and codec C: p = g + e, send c = C(p), e <- p - D(c). So at every moment
the messages decoded, plus e, are the deltas given, up to float32 rounding.

Seide, Fu, Droppo, Li, Yu. 1-Bit Stochastic Gradient Descent. Interspeech 2014; Karimireddy,
Rebjock, Stich, Jaggi. Error Feedback Fixes SignSGD. ICML 2019. arXiv:1901.09847, algorithm 2.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from hocket.core.manifest import Manifest
from hocket.core.payload import CodecId, Payload
from hocket.core.submodel import FULL, SubmodelSpec
from hocket.learn.codecs import Codec
from hocket.learn.codecs.payload import decode_payload, encode_payload


@dataclass(frozen=True, slots=True)
class _Sent:
    """The last message: kept encoded, because that is small."""

    payload: Payload
    manifest: Manifest


@dataclass(slots=True)
class ErrorFeedback:
    """One device's residual. Deltas go in, payloads come out.

    A residual belongs to the part of the model that it was left out of: to one manifest and one
    submodel spec. A delta for any other part drops it and starts from zero, because equal places
    in two parts need not be the same weights. Call `reset` when the base version has jumped so
    far that old deltas mean nothing.
    """

    enabled: bool = True  # false: encode only, and remember nothing
    residual: Tensor | None = None  # e (n, float32); None is zero
    part: tuple[str, SubmodelSpec] | None = None  # manifest digest and spec that e belongs to
    _sent: _Sent | None = field(default=None, repr=False)

    def compress(
        self,
        delta: Tensor,
        manifest: Manifest,
        codec: Codec,
        generator: torch.Generator,
        spec: SubmodelSpec = FULL,
    ) -> Payload:
        """Encode `delta` (n, float32) plus the residual, and keep what that leaves out.

        `manifest` is the one of the submodel that `spec` names. The payload may share the memory
        of `delta`, which must not change while the payload lives.

        Raises:
            ShapeMismatch, NotFinite: as `encode_payload`; the residual is as it was.
        """
        if not self.enabled:
            return encode_payload(delta, manifest, codec, generator)
        part = (manifest.digest, spec)
        residual = self.residual if part == self.part else None
        message = delta if residual is None else delta + residual
        payload = encode_payload(message, manifest, codec, generator)
        lossless = codec.id is CodecId.RAW
        self.residual = None if lossless else message - decode_payload(payload, manifest)
        self.part = part
        self._sent = _Sent(payload, manifest)
        return payload

    def resume(self, payload: Payload, manifest: Manifest, spec: SubmodelSpec = FULL) -> None:
        """Take up a message of an earlier life, so that `put_back` is about that one.

        `residual` must be what that message left out; it belongs to the same part.
        """
        if self.enabled:
            self.part = (manifest.digest, spec)
            self._sent = _Sent(payload, manifest)

    def put_back(self) -> None:
        """Take back the last message, which was refused: the next one carries it. Once only."""
        if self._sent is None:
            return
        decoded = decode_payload(self._sent.payload, self._sent.manifest)
        self.residual = decoded if self.residual is None else decoded.add_(self.residual)
        self._sent = None

    def reset(self) -> None:
        """Forget the residual and the last message."""
        self.residual = self.part = self._sent = None
