"""A version's values as they travel: raw float32, the whole model's without a copy.

Where a rule exchanges one more vector with its devices, that travels behind the values.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass

import torch
import xxhash
from torch import Tensor
from typing_extensions import Buffer

from hocket.core.manifest import BYTES_PER_VALUE, Manifest
from hocket.core.payload import CodecId, Packing, Payload, PayloadHeader, TensorHeader
from hocket.core.submodel import SubmodelSpec
from hocket.core.update import Update, UpdateHeader
from hocket.errors import InvalidRequest, InvalidUpdate, NotFinite
from hocket.learn.codecs.payload import decode_delta
from hocket.learn.digest import octets_of
from hocket.learn.flat import views
from hocket.learn.inner import inner
from hocket.learn.sparse import dense
from hocket.learn.submodels.head import Head
from hocket.learn.submodels.layout import ChannelGraph
from hocket.learn.submodels.plan import IndexPlan, plan_of

MAX_PLANS = 64


@dataclass(frozen=True, slots=True)
class Sliceable:
    """One model's layout, and the index plans that were asked for lately."""

    graph: ChannelGraph
    _plans: OrderedDict[SubmodelSpec, IndexPlan]
    exchanges: bool = False  # updates hold the exchanged vector behind the delta
    head: Head | None = None  # updates move the rows of their own classes only; None: of all
    fixed: frozenset[str] = frozenset()  # tensors that no update moves, by name

    @classmethod
    def of(
        cls,
        graph: ChannelGraph,
        *,
        exchanges: bool = False,
        head: Head | None = None,
        fixed: frozenset[str] = frozenset(),
    ) -> Sliceable:
        """No plan is known yet."""
        return cls(graph, OrderedDict(), exchanges, head, fixed)

    @property
    def manifest(self) -> Manifest:
        """Of the whole model."""
        return self.graph.manifest

    def plan(self, spec: SubmodelSpec) -> IndexPlan:
        """Which entries `spec` keeps. Raises InvalidRequest for a spec that does not fit."""
        known = self._plans.pop(spec, None)
        plan = plan_of(self.graph, spec) if known is None else known
        if self.exchanges and not plan.is_full:
            raise InvalidRequest(
                "the devices of this task exchange one more vector with it, and train the whole "
                "model; leave `spec` out",
                field="spec",
            )
        self._plans[spec] = plan
        while len(self._plans) > MAX_PLANS:
            self._plans.popitem(last=False)
        return plan

    def check_labels(self, header: UpdateHeader) -> None:
        """Raise InvalidUpdate for labels that the model does not have, or the task has no use of.

        They must ascend, and be there where updates move the rows of their own classes only.
        """
        if self.head is not None:
            self.head.check(header.labels)
        elif header.labels:
            raise InvalidUpdate(
                "labels are given, but this task's loss is not masked: every class counts; leave "
                "them out"
            )

    def update_manifest(self, plan: IndexPlan) -> Manifest:
        """Names and shapes of the tensors of an update of this part."""
        return plan.sliced_manifest.doubled if self.exchanges else plan.sliced_manifest

    def encode(self, vector: Tensor, plan: IndexPlan, exchanged: Tensor | None = None) -> Payload:
        """The entries that the plan keeps; a view of `vector` when it keeps them all.

        `exchanged` (n, float32), where it is given, comes behind them.
        """
        values, manifest = plan.extract(vector), plan.sliced_manifest
        if exchanged is not None:
            values, manifest = torch.cat((values, plan.extract(exchanged))), manifest.doubled
        body: Buffer = octets_of(values)
        tensors = tuple(
            TensorHeader(t.name, t.shape, CodecId.RAW, t.size * BYTES_PER_VALUE)
            for t in manifest.tensors
        )
        digest = xxhash.xxh3_64_intdigest(body)
        header = PayloadHeader(tensors, Packing.NONE, manifest.dense_bytes, digest)
        return Payload(header, body)

    def decode(self, header: UpdateHeader, payload: Payload, plan: IndexPlan) -> Update[Tensor]:
        """The update that a payload holds, laid out as the whole model; the body must not change.

        Raises NotFinite, CorruptPayload, PayloadTooLarge, ShapeMismatch or InvalidUpdate.
        """
        self.check_labels(header)
        decoded = decode_delta(payload, self.update_manifest(plan))
        if not math.isfinite(decoded.square):
            # Finite, yet so large that the model would overflow before long.
            raise NotFinite(
                "the update's squared norm overflows float32; lower the learning rate or clip, "
                "and train again"
            )
        if self.exchanges:
            return self._exchanged(header, payload, dense(decoded.delta))
        if plan.is_full:
            delta, held = decoded.delta, None
        else:
            delta, held = plan.scatter(dense(decoded.delta))
        square: float | None = decoded.square
        if self.head is not None or self.fixed:
            delta, held, square = self._limited(header, delta, held)
        wire_bytes = payload.header.wire_bytes
        codec = main_codec(payload.header)
        return Update(header, delta, held, wire_bytes, codec, square)

    def _limited(
        self, header: UpdateHeader, whole: Tensor, held: Tensor | None
    ) -> tuple[Tensor, Tensor | None, float]:
        """Without what it may not move: rows of other classes, and what is fixed.

        Nobody moves that, so of what is fixed a zero is enough, and the mask stays as it is.
        """
        delta = dense(whole).clone()
        tensors = views(delta, self.manifest)
        for name in self.fixed:
            tensors[name].zero_()
        if self.head is not None:
            held = torch.ones_like(delta) if held is None else held
            for vector in (delta, held):
                self.head.clear_others(vector, header.labels, self.manifest)
        return delta, held, inner(delta, delta)

    def _exchanged(self, header: UpdateHeader, payload: Payload, both: Tensor) -> Update[Tensor]:
        """The update of a rule that exchanges: of the whole model, its vector behind the delta."""
        size = self.manifest.size
        delta = both[:size]
        held = None
        if self.head is not None or self.fixed:
            delta, held, _ = self._limited(header, delta, None)
        return Update(
            header,
            delta,
            held,
            wire_bytes=payload.header.wire_bytes,
            codec=main_codec(payload.header),
            square=inner(delta, delta),
            extra=both[size:],
        )


def main_codec(header: PayloadHeader) -> str:
    """Name of the codec of the largest tensor."""
    largest = max(header.tensors, key=lambda tensor: tensor.size, default=None)
    return "" if largest is None else largest.codec.name.lower()
