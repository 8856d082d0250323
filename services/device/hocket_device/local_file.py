"""What the task's local rule keeps between trainings, on disk: one safetensors file."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from hocket.errors import DataError
from hocket.hosting.files import replace_file
from hocket.learn.local_memory import NOTHING, Kept


def save_local(kept: Kept, kind: str, manifest: str, file: Path) -> None:
    """Keep it, with the rule's kind and the digest of the model's manifest. Raises OSError."""
    tensors = {name: tensor.contiguous() for name, tensor in kept.items()}
    replace_file(file, save(tensors, {"kind": kind, "manifest": manifest}))


def load_local(file: Path, kind: str, manifest: str) -> Kept:
    """Take it back; nothing if it is of another rule or another part of the model.

    Raises DataError for a damaged file.
    """
    try:
        with safe_open(file, "pt") as kept:
            if kept.metadata() != {"kind": kind, "manifest": manifest}:
                return NOTHING
            return {name: kept.get_tensor(name) for name in kept.keys()}  # noqa: SIM118 - no dict
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{file} is damaged ({error}); delete it") from error
