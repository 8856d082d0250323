"""What must be the same in every process: shards of the data, and the signs that sketches draw."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess

import pytest
import torch
from support.process import python

from hocket.learn.data import Dirichlet
from hocket.learn.strategies.sketch import sketch

CODE = """
import hashlib, json, torch
from hocket.learn.data import Dirichlet
from hocket.learn.strategies.sketch import sketch
torch.set_num_threads(3)
part = Dirichlet(0.5).indices(torch.arange(1437) * 7 % 10, 6, 2, 1)
sums = sketch(torch.arange(5000, dtype=torch.float32), 100)
tensors = {"shard": part, "sketch": sums}
print(json.dumps({name: hashlib.sha256(t.numpy().tobytes()).hexdigest()
                  for name, t in tensors.items()}))
"""


@pytest.fixture(scope="module")
def there() -> dict[str, str]:
    """Digests from a process with other threads, and a hash seed that orders sets anew."""
    done = subprocess.run(
        python("-c", CODE),
        env={**os.environ, "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, str] = json.loads(done.stdout)
    return found


def digest(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor.numpy().tobytes()).hexdigest()


def test_it_gets_the_same_shards(there: dict[str, str]) -> None:
    part = Dirichlet(0.5).indices(torch.arange(1437) * 7 % 10, 6, 2, 1)
    assert there["shard"] == digest(part)


def test_it_makes_the_same_sketch_with_any_number_of_threads(there: dict[str, str]) -> None:
    assert there["sketch"] == digest(sketch(torch.arange(5000, dtype=torch.float32), 100))
