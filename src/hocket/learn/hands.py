"""Two hands for long vectors: half of the work is done by a helper thread.

Whoever waits for a server step waits half as long, and no result depends on who did which half.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

LONG = 1 << 21  # values: handing over half of fewer takes longer than doing it

T = TypeVar("T")
R = TypeVar("R")

_NAME = "helper"
_HELPER = ThreadPoolExecutor(1, thread_name_prefix=_NAME)


def by_two(work: Callable[[Sequence[T]], list[R]], parts: Sequence[T]) -> list[R]:
    """`work` on the first half of the parts and, by the helper, on the rest; results in order."""
    if threading.current_thread().name.startswith(_NAME):  # it cannot wait for itself
        return work(parts)
    half = len(parts) // 2
    rest = _HELPER.submit(work, parts[half:])
    return work(parts[:half]) + rest.result()
