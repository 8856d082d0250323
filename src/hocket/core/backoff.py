"""How long to wait before trying again, so that a fleet does not come back all at once."""

from __future__ import annotations

from collections.abc import Callable

FIRST_S = 0.5
LONGEST_S = 15.0


def backoff(
    attempt: int,
    chance: Callable[[], float],
    *,
    first_s: float = FIRST_S,
    longest_s: float = LONGEST_S,
) -> float:
    """Seconds before retry number `attempt` (from 0): full jitter.

    Uniform in [0, min(longest_s, first_s * 2**attempt)); `chance` is uniform in [0, 1).
    Brooker. Exponential Backoff And Jitter. AWS Architecture Blog, 2015.
    """
    doublings = min(attempt, 62)  # beyond any cap, and still a float
    return chance() * min(longest_s, first_s * 2.0**doublings)
