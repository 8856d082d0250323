"""Chance factors above 0, by which devices of one class differ, and epochs of one device."""

from __future__ import annotations

import math

from hocket.core.chance import Stream


def lognormal(chance: Stream, sigma: float) -> float:
    """exp(sigma * N) with N standard normal: median 1; always two draws, even for sigma 0.

    N by Box, Muller. A Note on the Generation of Random Normal Deviates. 1958.
    """
    radius = math.sqrt(-2.0 * math.log(1.0 - chance.random()))
    return math.exp(sigma * radius * math.cos(2.0 * math.pi * chance.random()))
