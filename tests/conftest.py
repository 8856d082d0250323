"""What makes every test the same on every machine and every run."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import hypothesis
import pytest
import torch

gc.disable()  # until all is imported, which stays
# One thread, so that sums add up in one order and tests leave the other cores alone.
torch.set_num_threads(1)

# The same examples each run, and no verdict that depends on how busy the machine is.
hypothesis.settings.register_profile("hocket", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("hocket")


def pytest_collection_finish() -> None:
    """What is there before the first test stays: nobody looks for garbage in a million objects.

    Nor often in what tests make, of which most goes by itself.
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def _all_garbage_is_seen() -> Iterator[None]:
    """What the last tests left open fails the last one: of a worker's end nobody would hear."""
    yield
    gc.collect()
