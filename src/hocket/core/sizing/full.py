"""Everybody trains the whole model, or as much of it as its owner lets it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from hocket.core.sizing.affordable import costs
from hocket.core.sizing.memoryless import Memoryless
from hocket.core.sizing.size import Facts, Size, part_of


@dataclass(frozen=True, slots=True)
class Full(Memoryless):
    """No rule at all."""

    kind: Literal["full"] = "full"

    def choose(self, facts: Facts, memory: Mapping[str, Any]) -> Size:  # noqa: ARG002 - no memory
        """The device's `keep`."""
        keep = facts.ability.keep
        said = "full, as the task says"
        if keep < 1.0:
            said = f"{keep:g} of each layer, as the device is set"
        return Size(part_of(keep), why=f"{said}: {costs(facts)}")
