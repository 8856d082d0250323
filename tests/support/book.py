"""What was promised to the witnesses, written down by themselves."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from hocket.core.ids import UpdateId
from hocket.core.update import Dropped, Outcome, UpdateHeader


@dataclass(frozen=True, slots=True)
class Parcel:
    """An update that can be made again, byte for byte."""

    header: UpdateHeader
    seed: int
    large: bool


@dataclass(frozen=True, slots=True)
class Promise:
    """An update and what its acknowledgement said."""

    parcel: Parcel
    outcome: Outcome


@dataclass(slots=True)
class Book:
    """All promises, and counts of what happened on the way."""

    promises: dict[UpdateId, Promise] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    def note(self, parcel: Parcel, outcome: Outcome) -> None:
        """An update was acknowledged. AssertionError when it was before, with another outcome."""
        update_id = parcel.header.update_id
        before = self.promises.setdefault(update_id, Promise(parcel, outcome))
        assert before.outcome == outcome, (
            f"{update_id} was acknowledged with {before.outcome}, and then with {outcome}"
        )
        self.counts["acknowledged"] = len(self.promises)

    @property
    def newest(self) -> int:
        """The newest version that an update was promised to be part of."""
        outcomes = [promise.outcome for promise in self.promises.values()]
        return max((o.version for o in outcomes if not isinstance(o, Dropped)), default=1)
