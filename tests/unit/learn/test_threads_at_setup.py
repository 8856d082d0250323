"""Devices of one process set up in threads of their own, and must not meet in sys.path."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path

import torch

from hocket.errors import HocketError
from hocket.learn.data.digits import read_digits
from hocket.learn.flat import flatten
from hocket.learn.reference import build_model

MODEL = "hocket.learn.models:mlp"
SIZES = {"inputs": 8, "classes": 2}


def test_models_and_data_are_found_while_others_look_elsewhere(tmp_path: Path) -> None:
    expected = {seed: flatten(build_model(MODEL, SIZES, seed=seed)) for seed in (1, 2)}
    found: list[object] = []

    def build(seed: int) -> Callable[[], None]:
        def work() -> None:
            for _ in range(60):
                model = build_model(MODEL, SIZES, seed=seed, search_path=(tmp_path,))
                found.append(torch.equal(flatten(model), expected[seed]))

        return work

    def read() -> None:
        found.extend(len(read_digits()[0]) == 1797 for _ in range(3))

    def telling(work: Callable[[], None]) -> None:
        try:
            work()
        except HocketError as error:
            found.append(error)

    works = [build(1), build(2), read, build(1), read]
    threads = [threading.Thread(target=telling, args=(work,)) for work in works]
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval_s)
    assert found == [True] * 186
