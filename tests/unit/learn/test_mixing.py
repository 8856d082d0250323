"""Arithmetic on global vectors."""

from __future__ import annotations

import torch
from support.strategies import push, vector

from hocket.learn.inner import inner
from hocket.learn.strategies.displacement import vector_of
from hocket.learn.strategies.mixing import mix, mix_and_measure


def random(size: int, seed: int) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


def test_mix_is_a_convex_combination() -> None:
    mixed = mix(vector(1, 10), vector(2, 20), push(vector(1, -10)), 0.25)
    assert mixed.tolist() == [0.75 * 1 + 0.25 * 3, 0.75 * 10 + 0.25 * 10]


def test_entries_not_held_are_not_drawn_to_the_base() -> None:
    update = push(vector(1, 0), held=vector(1, 0))
    assert mix(vector(1, 1), vector(5, 5), update, 0.5).tolist() == [3.5, 1.0]


def test_large_vectors_are_mixed_as_small_ones_are() -> None:
    model, base, delta = random(200_001, 1), random(200_001, 2), random(200_001, 3)
    held = (random(200_001, 4) > 0).float()
    mixed = mix_and_measure(model, base, push(delta, held=held), 0.3)
    exact = (base.double() - model.double() + delta.double()) * held
    assert torch.allclose(vector_of(mixed.moved).double(), exact, atol=1e-6)
    assert torch.allclose(mixed.after.double(), model + 0.3 * exact, atol=1e-6)
    assert abs(mixed.moved_square - float(exact.square().sum())) < 1e-6 * mixed.moved_square
    assert torch.equal(mix(model, base, push(delta, held=held), 0.3), mixed.after)


def test_what_is_moved_from_a_fresh_base_is_the_delta_exactly() -> None:
    model, delta = random(1000, 1), random(1000, 2) * 1e-6
    moved = mix_and_measure(model, model.clone(), push(delta), 0.5).moved
    assert torch.equal(vector_of(moved), delta)


def test_no_bit_depends_on_the_number_of_threads() -> None:
    model, base, delta = random(200_001, 1), random(200_001, 2), random(200_001, 3)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append((mix(model, base, push(delta), 0.3), inner(model, base)))
    finally:
        torch.set_num_threads(before)
    for mixed, product in results[1:]:
        assert torch.equal(mixed, results[0][0])
        assert product == results[0][1]
