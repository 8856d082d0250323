"""Chance by name: a draw depends on (seed, names, counter), never on the order of arrival."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import TypeVar

T = TypeVar("T")
_MASK = (1 << 64) - 1


def stream_seed(seed: int, *names: str | int) -> int:
    """A 63-bit seed for the generator named by `seed` and `names`, the same on every machine."""
    text = "\x1f".join([str(seed), *map(str, names)])
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def beyond(taken: Sequence[int], rank: int) -> int:
    """How many of `taken`, ascending, are smaller than the `rank`-th whole number not in it."""
    low, high = 0, len(taken)
    while low < high:  # bisect_right over taken[i] - i; its `key` would cost twice as much
        middle = (low + high) // 2
        if taken[middle] - middle <= rank:
            low = middle + 1
        else:
            high = middle
    return low


class Stream:
    """A small counter-based generator (splitmix64), so that the core needs no other."""

    def __init__(self, seed: int, *names: str | int) -> None:
        self._state = stream_seed(seed, *names)

    def random(self) -> float:
        """Uniform in [0, 1), 53 bits."""
        return (self._next() >> 11) * 2.0**-53

    def below(self, n: int) -> int:
        """Uniform in 0..n-1; raises ValueError for n < 1."""
        if n < 1:
            raise ValueError(f"no number is below {n}")
        return int(self.random() * n)

    def sample(self, n: int, count: int) -> list[int]:
        """Up to `count` distinct numbers in 0..n-1: draw j takes the `below(n - j)`-th one left.

        The draws of `weighted` with equal weights, without going through all n.
        """
        chosen: list[int] = []
        taken: list[int] = []  # the same, ascending
        for drawn in range(min(n, count)):
            left = self.below(n - drawn)
            smaller = beyond(taken, left)
            chosen.append(left + smaller)
            taken.insert(smaller, left + smaller)
        return chosen

    def weighted(self, items: Sequence[T], weights: Sequence[float], count: int) -> list[T]:
        """Up to `count` distinct items, each next one drawn in proportion to its weight."""
        left = list(zip(items, weights, strict=True))
        chosen: list[T] = []
        while left and len(chosen) < count:
            mark = self.random() * sum(weight for _, weight in left)
            at = 0
            while at < len(left) - 1 and mark >= left[at][1]:
                mark -= left[at][1]
                at += 1
            chosen.append(left.pop(at)[0])
        return chosen

    def _next(self) -> int:
        self._state = (self._state + 0x9E3779B97F4A7C15) & _MASK
        z = self._state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
        return z ^ (z >> 31)
