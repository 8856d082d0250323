"""A small task's model, examples and terms, and a ledger of the work that a learner does."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from hocket.core.manifest import Manifest
from hocket.core.payload import CodecId, Payload
from hocket.core.refresh import RefreshRules
from hocket.core.terms import EncodingTerms, RefreshTerms, TaskTerms, TrainingTerms
from hocket.learn.codecs import Raw
from hocket.learn.codecs.payload import decode_payload, encode_payload
from hocket.learn.data import Examples
from hocket.learn.flat import flatten, manifest_of
from hocket.learn.models import digits_cnn

EXAMPLES = 40
TOP_K = EncodingTerms(CodecId.TOPK, topk_ratio=0.05)


def model(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return digits_cnn()


def examples() -> Examples:
    chance = torch.Generator().manual_seed(5)
    labels = torch.randint(10, (EXAMPLES,), generator=chance)
    inputs = torch.rand(EXAMPLES, 1, 8, 8, generator=chance)
    return Examples(inputs, labels)


def terms(net: nn.Module | None = None) -> TaskTerms:
    return TaskTerms(
        name="test",
        manifest=manifest_of(net or model()),
        training=TrainingTerms(local_epochs=2, batch_size=16, learning_rate=0.1),
        encoding=EncodingTerms(CodecId.RAW),
        refresh=RefreshTerms(enabled=True, rules=RefreshRules()),
        dropout_rows=((0.0,), (0.25,), (0.5,), (0.75, 0.5)),
        seed=1,
        max_update_bytes=1 << 20,
        chunk_bytes=1 << 19,
        staleness_limit=99,
    )


def raw(vector: Tensor, manifest: Manifest) -> Payload:
    return encode_payload(vector, manifest, Raw(), torch.Generator(), pack=False)


def base() -> Payload:
    net = model()
    return raw(flatten(net), manifest_of(net))


def delta(payload: Payload) -> Tensor:
    return decode_payload(payload, manifest_of(model()))


class Folded(nn.Module):
    """A forward pass that asks a value of its data cannot be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.head(x.flatten(1))
        return scores * 2 if float(scores.detach().sum()) > 0 else scores


@dataclass
class Ledger:
    """Satisfies `Effort`: an example costs a second, times its row's share of the work."""

    granted: float = 1.0
    now_s: float = 0.0
    charges: list[tuple[int, float]] = field(default_factory=list)  # (examples, cost)
    others: int = 0

    def memory(self) -> float:
        return math.inf

    def share(self) -> float:
        return self.granted

    @contextmanager
    def mini_batch(self, examples: int, cost: float, /) -> Iterator[None]:
        self.charges.append((examples, cost))
        yield
        self.now_s += examples * cost

    @contextmanager
    def other(self) -> Iterator[None]:
        self.others += 1
        yield

    def now(self) -> float:
        return self.now_s
