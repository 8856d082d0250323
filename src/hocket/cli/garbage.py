"""The garbage collector while a simulation runs: a fleet's objects are many, and stay."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

YOUNG_OBJECTS = 50_000  # between two looks at them


@contextmanager
def few_collections() -> Iterator[None]:
    """Let the garbage collector leave what there is alone, and look at the rest seldom."""
    usual, was_frozen = gc.get_threshold(), gc.get_freeze_count() > 0
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 20, 100)
    try:
        yield
    finally:
        gc.set_threshold(*usual)
        if not was_frozen:  # by whoever has us called
            gc.unfreeze()
