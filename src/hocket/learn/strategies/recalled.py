"""What a rule gets back from storage, checked before it is believed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from hocket.core.strategy import Memory
from hocket.errors import CorruptState


def foreign(kind: str, what: str) -> CorruptState:
    """The error for memory that is not of the making of the rule `kind`."""
    return CorruptState(
        f"what is stored as the memory of {kind} is not of its making: {what}; "
        "go on with the task file that it was stored under, or begin anew in another folder"
    )


def check_names(kind: str, kept: Memory[Tensor], facts: Iterable[str], tensors: set[str]) -> None:
    """Raise CorruptState unless `kept` is of this kind and holds just these."""
    if kept.facts.get("kind") != kind:
        raise foreign(kind, f"it is of kind {kept.facts.get('kind')!r}")
    if kept.facts.keys() != {"kind", *facts}:
        raise foreign(kind, f"its facts are {sorted(map(str, kept.facts))}")
    if kept.tensors.keys() != tensors:
        odd = sorted(kept.tensors.keys() ^ tensors)[:3]
        raise foreign(kind, f"tensors are missing or too many, among them {odd}")


def whole_number(kind: str, kept: Memory[Tensor], name: str, least: int, most: int) -> int:
    """A fact that must be an integer in `least`..`most`. Raises CorruptState."""
    value = kept.facts.get(name)
    if type(value) is not int or not least <= value <= most:
        raise foreign(kind, f"{name} is {value!r}, not a whole number in {least} to {most}")
    return value


def number(kind: str, kept: Memory[Tensor], name: str) -> float:
    """A fact that must be a finite float of at least 0. Raises CorruptState."""
    value = kept.facts.get(name)
    if type(value) is not float or not math.isfinite(value) or value < 0:
        raise foreign(kind, f"{name} is {value!r}, not a finite number >= 0")
    return value


def truth(kind: str, kept: Memory[Tensor], name: str) -> bool:
    """A fact that must be true or false. Raises CorruptState."""
    value = kept.facts.get(name)
    if type(value) is not bool:
        raise foreign(kind, f"{name} is {value!r}, neither true nor false")
    return value


def names(kind: str, kept: Memory[Tensor], name: str) -> list[str]:
    """A fact that must be a list of distinct strings. Raises CorruptState."""
    value: Any = kept.facts.get(name)
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise foreign(kind, f"{name} is not a list of names")
    if len(set(value)) != len(value):
        raise foreign(kind, f"{name} names something twice")
    return value


def tensor(
    kind: str, kept: Memory[Tensor], name: str, shape: tuple[int, ...], dtype: torch.dtype
) -> Tensor:
    """A tensor that must have this shape and dtype. Raises CorruptState."""
    value = kept.tensors[name]
    if tuple(value.shape) != shape or value.dtype != dtype:
        raise foreign(
            kind, f"{name} is {value.dtype} of shape {tuple(value.shape)}, not {dtype} of {shape}"
        )
    return value
