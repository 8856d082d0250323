"""Few values stay few, and mean the same."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.strategies import every_strategy, name_of, push
from torch import Tensor

from hocket.core.ids import Version
from hocket.core.strategy import Global, Strategy
from hocket.learn.codecs import Raw, TopK
from hocket.learn.codecs.payload import decode_delta, decode_payload, encode_payload
from hocket.learn.flat import manifest_of
from hocket.learn.models import mlp
from hocket.learn.sparse import accumulate, inner_of, sparse_vector
from hocket.learn.strategies import AnyStrategy

SYNCHRONOUS = ("fedavg", "fednova", "fedprox", "moon", "scaffold")  # they drop what is stale
SIZE = 600_001  # some blocks, and a rest


def random(seed: int) -> Tensor:
    return torch.randn(SIZE, generator=torch.Generator().manual_seed(seed))


def few() -> tuple[Tensor, Tensor]:
    """A sparse vector, and the same one dense."""
    places = torch.cat([torch.arange(0, SIZE, 97), torch.tensor([SIZE - 1])])
    values = random(5)[: len(places)]
    dense = torch.zeros(SIZE)
    dense[places] = values
    return sparse_vector(places, values, SIZE), dense


def test_an_inner_product_looks_at_the_few_values_only() -> None:
    sparse, dense = few()
    vector = random(1)
    exact = float((dense.double() * vector.double()).sum())
    assert abs(inner_of(sparse, vector) - exact) < 1e-3
    vector[1] = torch.inf  # where the sparse one holds nothing
    assert abs(inner_of(sparse, vector) - exact) < 1e-3


def test_sums_in_double_precision_take_it_in() -> None:
    sparse, dense = few()
    left, right = (torch.zeros(SIZE, dtype=torch.float64) for _ in range(2))
    accumulate(left, sparse, 3.0)
    accumulate(right, dense, 3.0)
    assert torch.equal(left, right)


@pytest.mark.parametrize("strategy", every_strategy(2), ids=name_of)
def test_every_rule_makes_the_same_of_it(strategy: AnyStrategy) -> None:
    models = []
    rule: Strategy[Tensor, Any] = strategy
    for delta in few():
        now: Global[Tensor] = Global(random(1))
        memory = rule.init(now.model)
        for n in range(4):
            name = "ab"[n % 2]
            fresh = strategy.kind in SYNCHRONOUS
            base = now.model if fresh else random(1)
            version = now.version if fresh else Version(1)
            step = rule.step(now, memory, push(delta, device=name, base=version), base)
            now, memory = step.after, step.memory
        models.append(now.model)
    assert torch.allclose(models[0], models[1], atol=1e-6)
    assert not torch.equal(models[0], random(1))


def test_top_k_stays_sparse_on_its_way_in_and_plain_values_share_the_body() -> None:
    manifest = manifest_of(mlp(64, 10, hidden=[500]))
    delta = torch.randn(manifest.size, generator=torch.Generator().manual_seed(2))
    generator = torch.Generator().manual_seed(1)
    payload = encode_payload(delta, manifest, TopK(0.01), generator)
    decoded = decode_delta(payload, manifest)
    assert decoded.delta.is_sparse
    dense = decode_payload(payload, manifest)
    assert torch.equal(decoded.delta.to_dense(), dense)
    assert decoded.square == pytest.approx(float(dense.double().square().sum()))
    assert not decode_delta(
        encode_payload(delta, manifest, TopK(0.5), generator), manifest
    ).delta.is_sparse
    raw = encode_payload(delta.clone(), manifest, Raw(), generator, pack=False)
    shared = decode_delta(raw, manifest).delta
    assert torch.equal(shared, delta)
    assert shared.data_ptr() == torch.frombuffer(raw.body, dtype=torch.float32).data_ptr()
