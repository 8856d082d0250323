"""Steps over long models: compiled, by two hands, and with the same bits as numpy's."""

from __future__ import annotations

import threading
from typing import Literal

import numpy as np
import pytest
import torch
from support.strategies import Server, push
from torch import Tensor

from hocket.core.strategy import Global
from hocket.core.update import Applied, Outcome
from hocket.learn import kernels
from hocket.learn.hands import LONG
from hocket.learn.inner import inner
from hocket.learn.sparse import sparse_vector
from hocket.learn.strategies import FedASMU
from hocket.learn.strategies.displacement import Displacement, vector_of
from hocket.learn.strategies.mixing import Mixed, mix, mix_and_measure

SIZE = LONG + 777  # ends within a row


def random(size: int, seed: int) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


MODEL, BASE, DELTA = (random(SIZE, seed) for seed in (1, 2, 3))
PLACES = torch.unique(torch.cat([torch.arange(0, SIZE, 97), torch.tensor([1, SIZE - 1])]))
FEW = sparse_vector(PLACES, random(len(PLACES), 4), SIZE)


def mixed(delta: Tensor, *, in_parts: bool = True) -> Mixed:
    return mix_and_measure(MODEL, BASE, push(delta), 0.3, in_parts=in_parts)


def expected(delta: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """By numpy, which rounds after each operation."""
    model, base, step = (v.numpy() for v in (MODEL, BASE, delta))
    moved = (base - model) + step
    return model + np.float32(0.3) * moved, moved


@pytest.mark.parametrize("delta", [DELTA, FEW], ids=["dense", "sparse"])
def test_a_long_step_has_numpy_s_bits(delta: Tensor) -> None:
    found = mixed(delta)
    after, moved = expected(delta.to_dense())
    assert np.array_equal(found.after.numpy(), after)
    assert np.array_equal(vector_of(found.moved).numpy(), moved)
    square = float(np.square(moved.astype(np.float64)).sum())
    assert found.moved_square == pytest.approx(square, rel=1e-6)


def test_a_long_step_is_what_a_short_one_is() -> None:
    assert torch.allclose(mixed(DELTA).after, mix(MODEL, BASE, push(DELTA), 0.3), atol=1e-6)


@pytest.mark.parametrize("delta", [DELTA, FEW], ids=["dense", "sparse"])
def test_no_bit_depends_on_who_does_which_half(delta: Tensor) -> None:
    """A helper cannot wait for itself, so it does both."""
    found: list[Mixed] = []
    alone = threading.Thread(target=lambda: found.append(mixed(delta)), name="helper_0")
    alone.start()
    alone.join()
    both = mixed(delta)
    assert torch.equal(found[0].after, both.after)
    assert found[0].moved_square == both.moved_square


def test_written_down_at_once_it_has_the_same_bits() -> None:
    waits, at_once = mixed(FEW), mixed(FEW, in_parts=False)
    assert isinstance(at_once.moved, Tensor)
    assert torch.equal(at_once.moved, vector_of(waits.moved))
    assert torch.equal(at_once.after, waits.after)
    assert at_once.moved_square == waits.moved_square


def test_a_zero_keeps_its_sign_where_nothing_is_added() -> None:
    below = torch.full((SIZE,), -0.0)
    for in_parts in (False, True):
        found = mix_and_measure(torch.zeros(SIZE), below, push(FEW), 0.3, in_parts=in_parts)
        moved = vector_of(found.moved)
        assert moved[PLACES].ne(0).all()
        moved[PLACES] = -0.0
        assert np.signbit(moved.numpy()).all()


@pytest.mark.parametrize("skipped", [0, 1, 15, 16], ids=str)
def test_vectors_may_begin_anywhere_in_memory(skipped: int) -> None:
    """Torch and the pool begin with a line of the cache; a file that is mapped need not."""
    model, base, delta = (v.numpy()[skipped:] for v in (MODEL, BASE, DELTA))
    after, moved = (np.empty(SIZE, np.float32)[skipped:] for _ in range(2))
    squares = np.zeros(kernels.LANES, np.float32)
    kernels.mix_dense(model, base, delta, np.float32(0.3), after, moved, squares)
    expected_after, expected_moved = expected(DELTA)
    assert np.array_equal(after, expected_after[skipped:])
    assert np.array_equal(moved, expected_moved[skipped:])


@pytest.mark.parametrize("alpha", [0.3, torch.full((SIZE,), 0.3)], ids=["one", "of entries"])
def test_what_is_not_held_stays_in_a_long_model_too(alpha: float | Tensor) -> None:
    held = (random(SIZE, 6) > 0).float()
    found = mix_and_measure(MODEL, BASE, push(DELTA, held=held), alpha)
    moved = (BASE.double() - MODEL.double() + DELTA.double()) * held
    assert torch.allclose(vector_of(found.moved).double(), moved, atol=1e-6)
    assert torch.equal(found.after[held == 0], MODEL[held == 0])
    assert found.moved_square == pytest.approx(float(moved.square().sum()), rel=1e-6)


def test_few_values_do_not_write_down_what_they_move() -> None:
    known = mixed(FEW).moved
    assert isinstance(known, Displacement)
    assert known.model is MODEL
    assert known.base is BASE
    assert known.delta is FEW


def wanted(*places: int) -> Tensor:
    return sparse_vector(torch.tensor(places), random(len(places), 5), SIZE)


@pytest.mark.parametrize(
    "progress",
    [
        DELTA,
        FEW,
        wanted(0, 1, 2, 97, 98, SIZE - 2, SIZE - 1),
        wanted(5),
        wanted(SIZE - 1),
        sparse_vector(torch.empty(0, dtype=torch.int64), torch.empty(0), SIZE),
    ],
    ids=["dense", "its own", "some", "one", "the last", "none"],
)
def test_an_inner_product_is_that_with_the_vector(progress: Tensor) -> None:
    known = mixed(FEW).moved
    assert isinstance(known, Displacement)
    vector = torch.from_numpy(expected(FEW.to_dense())[1])
    if progress.is_sparse:
        there = vector[progress.indices()[0]]
        assert known.inner(progress) == inner(progress.values(), there)
    else:
        assert known.inner(progress) == inner(progress, vector)


@pytest.mark.parametrize("delta", [DELTA, FEW], ids=["dense", "sparse"])
def test_what_overflows_shows(delta: Tensor) -> None:
    huge = mix_and_measure(MODEL, torch.full((SIZE,), 3e38), push(delta), 0.3)
    assert not np.isfinite(huge.moved_square)


def few(seed: int) -> Tensor:
    places = torch.arange(seed, SIZE, 50 + seed)
    return sparse_vector(places, random(len(places), seed), SIZE)


def told(rule: FedASMU, *, saved_after: int | None) -> tuple[list[Outcome], Tensor]:
    """Five sparse updates of one device; what the rule remembers is kept and recalled at one."""
    aggregator = Server(rule, Global(MODEL))
    outcomes = []
    for number in range(5):
        base = max(1, aggregator.now.version - 1)
        outcomes.append(aggregator.take(push(few(number + 1), base=base)))
        if number == saved_after:
            kept = rule.keep(aggregator.memory)
            aggregator.memory = rule.recall(kept, aggregator.now.model)
    return outcomes, aggregator.now.model


@pytest.mark.parametrize("memory", ["exact", "sketch"])
def test_fedasmu_learns_the_same_after_a_snapshot(memory: Literal["exact", "sketch"]) -> None:
    rule = FedASMU(memory=memory)
    straight, model = told(rule, saved_after=None)
    assert len({outcome.weight for outcome in straight if isinstance(outcome, Applied)}) == 5
    for saved_after in (0, 2):
        outcomes, resumed = told(rule, saved_after=saved_after)
        assert outcomes == straight
        assert torch.equal(resumed, model)


def test_a_live_run_learns_the_same_over_a_snapshot() -> None:
    rule = FedASMU()
    watched, other = Server(rule, Global(MODEL)), Server(rule, Global(MODEL))
    for number, delta in enumerate((few(1), few(2), DELTA, few(3))):
        base = max(1, watched.now.version - 1)
        assert watched.take(push(delta, base=base)) == other.take(push(delta, base=base))
        if number == 1:
            rule.keep(watched.memory)
    assert torch.equal(watched.now.model, other.now.model)


def test_only_so_many_contributions_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hocket.learn.strategies.fedasmu.IN_PARTS", 2)
    aggregator = Server(FedASMU(), Global(MODEL))

    def waiting() -> set[str]:
        known = aggregator.memory.devices.items()
        return {name for name, its in known if isinstance(its.last.moved, Displacement)}

    for device in "abc":
        aggregator.take(push(FEW, device=device))
    assert waiting() == {"a", "b"}
    aggregator.take(push(FEW, device="a"))  # in its own place
    assert waiting() == {"a", "b"}
    aggregator.take(push(DELTA, device="a"))
    aggregator.take(push(FEW, device="c"))
    assert waiting() == {"b", "c"}
    aggregator.rule.keep(aggregator.memory)
    assert waiting() == set()
    aggregator.take(push(FEW, device="d"))
    assert waiting() == {"d"}


def test_a_contribution_is_written_down_once() -> None:
    """A snapshot stores what is the same tensor as before only once."""
    rule = FedASMU()
    aggregator = Server(rule, Global(MODEL))
    aggregator.take(push(FEW))
    assert isinstance(aggregator.memory.devices["a"].last.moved, Displacement)
    kept = rule.keep(aggregator.memory).tensors["moved/a"]
    assert rule.keep(aggregator.memory).tensors["moved/a"] is kept
    assert torch.equal(kept, FEW.to_dense())  # the base was the model
