"""One piece of work on the coordinator, what came of it, and who waits for that."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import structlog
from torch import Tensor

from hocket.core.coordinator import Coordinator
from hocket.core.events import Effect, Event
from hocket.errors import HocketError, Unavailable
from hocket_aggregator.rules_failure import RulesFailure
from hocket_aggregator.turn import Turn

log = structlog.get_logger()

Core = Coordinator[Tensor, Any]
Take = Callable[[Event[Tensor]], list[Effect[Tensor]]]
"""Has the coordinator take an event in."""


@dataclass(slots=True, eq=False)
class Job:
    """Work, and once it is done the turns that it took."""

    work: Callable[[Core, Take], Any]
    heavy: bool
    ahead: bool
    """Need not wait until all that was done before has been handed over."""
    answer: asyncio.Future[Any] | None  # None: nobody waits
    before_telling: Callable[[], None] | None = None
    turns: list[Turn] = field(default_factory=list)
    result: Any = None
    error: Exception | None = None
    failure: RulesFailure | None = None

    @property
    def is_named(self) -> bool:
        """Whether each version that came of it has its digest."""
        return all(turn.is_named for turn in self.turns)

    def name(self) -> None:
        """Give them theirs. For a long model that takes a while."""
        self.turns = [turn.named() for turn in self.turns]

    def tell(self) -> None:
        """Have whoever asked hear what came of it."""
        if self.error is not None:
            self._raise(self.error)
        elif self.answer is not None and not self.answer.done():
            self.answer.set_result(self.result)

    def give_up(self) -> None:
        """Have whoever asked hear that nothing comes of it any more."""
        if self.answer is not None:
            self._raise(shutting_down())

    def _raise(self, error: Exception) -> None:
        if self.answer is None:
            if not isinstance(error, HocketError):
                raise error
            log.warning("event_refused", reason=error.reason, message=error.message)
        elif not self.answer.done():  # a caller that gave up has cancelled it
            self.answer.set_exception(error)


def shutting_down() -> Unavailable:
    """What is answered from then on."""
    return Unavailable("the aggregator is shutting down; call again in a moment")
