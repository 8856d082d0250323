"""DISTREAL: the whole model travels, and each mini-batch drops the filters it cannot afford.

Rapp, Khalili, Pfeiffer, Henkel. DISTREAL: Distributed Resource-Aware Learning in Heterogeneous
Systems. AAAI 2022. Which row of the table a mini-batch takes is decided where it is trained, by
the resources that are there at that moment: learn.submodels.dropout.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from hocket.core.ranges import one_of, share
from hocket.core.sizing.affordable import OWNER, costs
from hocket.core.sizing.memoryless import Memoryless
from hocket.core.sizing.size import Ability, Facts, Size, part_of
from hocket.errors import TaskError

UNIFORM = (0.0, 0.25, 0.5, 0.75)

Misfit = Literal["smallest", "skip"]
MISFITS: tuple[Misfit, ...] = ("smallest", "skip")
AS_ROWS = {"travels": False}  # devices are sent the table's rows instead


@dataclass(frozen=True, slots=True)
class Distreal(Memoryless):
    """The dropout vectors to choose from: rates of our own making, or a searched table.

    A rate is the share of channels dropped in every layer, a vector has one share per layer.
    """

    rates: tuple[float | tuple[float, ...], ...] = field(default=UNIFORM, metadata=AS_ROWS)
    table: str | None = field(default=None, metadata=AS_ROWS)  # file of `hocket dropout search`
    none_fits: Misfit = "smallest"  # row of a mini-batch that affords none, or "skip" it
    kind: Literal["distreal"] = "distreal"

    def __post_init__(self) -> None:
        one_of(OWNER, "none_fits", self.none_fits, MISFITS)
        if not self.rates:
            raise TaskError(f"{OWNER}.rates is empty; name a rate, or take {OWNER}.kind 'full'")
        if any(rate == () for rate in self.rates):
            raise TaskError(f"{OWNER}.rates holds an empty vector; give one share per layer")
        for row in self.rows:
            for rate in row:
                share(OWNER, "rates", rate)
        if self.table is not None and self.rates != UNIFORM:
            raise TaskError(f"{OWNER}.table and {OWNER}.rates are both given; leave one out")

    @property
    def rows(self) -> tuple[tuple[float, ...], ...]:
        """What `rates` drops: one share (for every layer) or one per layer."""
        return tuple(rate if isinstance(rate, tuple) else (rate,) for rate in self.rates)

    def choose(self, facts: Facts, memory: Mapping[str, Any]) -> Size:  # noqa: ARG002 - no memory
        """The whole model, or the device's `keep`."""
        keep = facts.ability.keep
        why = f"{self._row(facts.ability)}; {costs(facts)}"
        return Size(part_of(keep), why=why if keep >= 1.0 else f"{keep:g} of each layer, {why}")

    def _row(self, ability: Ability) -> str:
        """What a mini-batch would drop now, and what it is that decides."""
        dropping, share = ability.dropping, ability.capability.processor_share
        if dropping.nothing:
            return f"whole model: {dropping.nothing}"
        said, processor = "filters dropped per mini-batch", f"{share:.0%} CPU"
        if dropping.rows is None:
            return f"{said}, {processor}"
        row, room = dropping.rows.choose(share, ability.room), ability.room
        memory = "" if room == math.inf else f"memory for {room:.2g} steps"
        if row.memory > room or row.cost > share:
            short = memory if row.memory > room else processor
            leaves = "all but an epoch's first left out" if self.none_fits == "skip" else "smallest"
            return f"{said}: none fits {short}, {leaves} (cost {row.cost:.2g})"
        within = [processor, memory] if memory else [processor]
        if dropping.rows.choose(share) != row:
            within.reverse()
        return f"{said}: row of cost {row.cost:.2g} by {', '.join(within)}"
