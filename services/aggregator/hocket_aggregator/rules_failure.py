"""The rules broke while they took an event in: what is told of it before the process ends.

Whatever they had changed by then is in no journal, so this life must not go on from it. The next
one has the state before the event. If that was an update, its device pushes it again: so that it
does not end every life, it is given up for good.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from hocket.core.coordinator import Coordinator
from hocket.core.events import Event, Pushed, Settled
from hocket.core.update import Dropped, DropReason
from hocket.errors import RulesFailed
from hocket_aggregator.turn import Turn

MESSAGE = (
    "the aggregation rules broke over this update, which is a bug of theirs; pull the newest model "
    "and train anew"
)


@dataclass(frozen=True, slots=True)
class RulesFailure:
    """A bug in the rules, met by one event."""

    event: Event[Tensor]
    cause: Exception
    given_up: Settled | None  # the answer to an update that has none so far

    @classmethod
    def over(cls, event: Event[Tensor], cause: Exception, before: Dropped | None) -> RulesFailure:
        """`before` is what `doom` said before the rules took the event in."""
        if before is None or not isinstance(event, Pushed):
            return cls(event, cause, None)
        return cls(event, cause, Settled(event.update.header, before, first_time=True))

    @property
    def error(self) -> RulesFailed:
        """With which the process ends."""
        what = type(self.event).__name__
        if isinstance(self.event, Pushed):
            header = self.event.update.header
            what = f"update {header.update_id!r} of device {header.device_id!r}"
        then = " (that update is given up)" if self.given_up is not None else ""
        failed = RulesFailed(
            f"the rules broke over {what}: {type(self.cause).__name__}: {self.cause}. Start the "
            f"aggregator again: it goes on from what is stored{then}; the log has the traceback, "
            "by which to mend the strategy"
        )
        failed.__cause__ = self.cause
        return failed

    def turn(self, now: float, unix_s: float) -> Turn:
        """The event, with the one effect that it is to have."""
        effects = () if self.given_up is None else (self.given_up,)
        return Turn(self.event, effects, now, unix_s)


def doom(core: Coordinator[Tensor, object], event: Event[Tensor]) -> Dropped | None:
    """What becomes of an update if the rules break over it; None for one that has its answer.

    Raises InvalidUpdate as the ledger does.
    """
    if not isinstance(event, Pushed):
        return None
    header = event.update.header
    if core.settled(header) is not None:
        return None
    tau = core.newest.version - header.base_version
    return Dropped(DropReason.RULES_FAILED, MESSAGE, max(0, tau))
