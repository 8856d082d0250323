"""Partitions: disjoint, complete, never empty, and the same whoever asks."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from hocket.errors import DataError
from hocket.learn.data import AnyPartition, Dirichlet, Iid, Whole
from hocket.learn.data.partition import MIN_EXAMPLES

SHARING = [Dirichlet(0.05), Dirichlet(0.5), Dirichlet(100.0), Iid()]


def ten_classes(count: int) -> Tensor:
    return torch.arange(count) * 7 % 10


def shards_of(rule: AnyPartition, labels: Tensor, shards: int, seed: int) -> list[Tensor]:
    return [rule.indices(labels, shards, shard, seed) for shard in range(shards)]


@settings(deadline=None, max_examples=40)
@given(
    rule=st.sampled_from(SHARING),
    labels=st.lists(st.integers(0, 5), min_size=20, max_size=300),
    shards=st.integers(1, 20),
    seed=st.integers(0, 2**63 - 1),
)
def test_shards_are_disjoint_and_cover_everything(
    rule: AnyPartition, labels: list[int], shards: int, seed: int
) -> None:
    parts = shards_of(rule, torch.tensor(labels), shards, seed)
    assert torch.cat(parts).sort().values.tolist() == list(range(len(labels)))
    assert min(len(part) for part in parts) >= min(MIN_EXAMPLES, len(labels) // shards)
    assert all(part.dtype == torch.int64 and part.tolist() == sorted(part) for part in parts)


def test_extreme_skew_still_leaves_every_device_a_batch() -> None:
    sizes = [len(p) for p in shards_of(Dirichlet(0.001), ten_classes(1000), 50, seed=3)]
    assert min(sizes) == MIN_EXAMPLES
    assert sum(sizes) == 1000


@pytest.mark.parametrize("rule", SHARING, ids=repr)
def test_asking_twice_gives_the_same_and_another_seed_another(rule: AnyPartition) -> None:
    labels = ten_classes(600)
    assert torch.equal(rule.indices(labels, 6, 4, 11), rule.indices(labels, 6, 4, 11))
    assert not torch.equal(rule.indices(labels, 6, 4, 11), rule.indices(labels, 6, 4, 12))


def skew(rule: AnyPartition) -> float:
    """Mean over shards of the share that its commonest class has."""
    labels = ten_classes(5000)
    parts = shards_of(rule, labels, 10, seed=2)
    return float(np.mean([labels[p].bincount(minlength=10).max().item() / len(p) for p in parts]))


def test_a_smaller_alpha_skews_more() -> None:
    assert skew(Dirichlet(0.1)) > skew(Dirichlet(0.5)) > skew(Dirichlet(1000.0))
    assert skew(Dirichlet(1000.0)) < 0.15  # nearly the tenth that equal shares have
    assert skew(Dirichlet(0.1)) > 0.4


def test_dirichlet_shares_have_the_variance_of_the_distribution() -> None:
    """The share of class c in shard k is Beta(alpha, (K-1) alpha): for alpha 1 and K 5 its mean
    is 1/5 and its variance (K-1) / (K^2 (K alpha + 1)) = 4 / 150."""
    labels = torch.arange(100_000) % 100
    parts = shards_of(Dirichlet(1.0), labels, 5, seed=9)
    shares = torch.stack([labels[part].bincount(minlength=100) for part in parts]) / 1000
    assert shares.var(unbiased=False).item() == pytest.approx(4 / 150, rel=0.2)


def test_iid_shares_are_equal() -> None:
    assert [len(p) for p in shards_of(Iid(), ten_classes(103), 10, seed=0)] == [11] * 3 + [10] * 7


def test_whole_gives_every_device_all_of_its_own_data() -> None:
    for part in shards_of(Whole(), ten_classes(12), 3, seed=0):
        assert part.tolist() == list(range(12))


@pytest.mark.parametrize("rule", [Dirichlet(), Iid(), Whole()], ids=repr)
def test_a_shard_that_does_not_exist_is_refused(rule: AnyPartition) -> None:
    with pytest.raises(DataError, match="no shard 3 of 3"):
        rule.indices(ten_classes(30), 3, 3, 0)


@pytest.mark.parametrize("rule", [Dirichlet(), Iid()], ids=repr)
def test_more_devices_than_examples_are_refused(rule: AnyPartition) -> None:
    with pytest.raises(DataError, match="5 training examples cannot be shared among 6 devices"):
        rule.indices(ten_classes(5), 6, 0, 0)


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("inf"), float("nan")])
def test_an_alpha_without_meaning_is_refused(alpha: float) -> None:
    with pytest.raises(DataError, match="alpha"):
        Dirichlet(alpha)
