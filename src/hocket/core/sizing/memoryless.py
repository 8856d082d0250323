"""What the rules have in common that remember nothing of a training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hocket.core.sizing.size import Facts, Lesson


class Memoryless:
    """Half of a sizing rule: it measures nothing, and learns nothing."""

    __slots__ = ()

    @property
    def watches_fisher(self) -> None:
        """None."""
        return

    def learn(
        self,
        lesson: Lesson,  # noqa: ARG002 - the protocol's
        facts: Facts,  # noqa: ARG002 - the protocol's
        memory: Mapping[str, Any],
    ) -> Mapping[str, Any]:
        """The memory as it is."""
        return memory
