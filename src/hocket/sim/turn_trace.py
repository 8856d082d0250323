"""What the server's turns are in a trace: triggers sent, updates settled, versions made."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hocket.core import events as ev
from hocket.core.update import Applied, Buffered, Dropped, Outcome
from hocket.sim.server import Turn
from hocket.sim.tracer import Row, Tracer


@dataclass(frozen=True, slots=True)
class TurnTrace:
    """Makes the rows of every turn (a Sink)."""

    tracer: Tracer

    def __call__(self, turn: Turn, /) -> None:
        """Trace one turn."""
        for effect in turn.effects:
            match effect:
                case ev.SendTrigger(caller, trigger) if self.tracer.wants("trigger"):
                    name, version, slot = caller.device_id, trigger.version, trigger.slot
                    row = Row("trigger", turn.at_s, name, version=version, slot=slot)
                    self.tracer.row(row)
                case ev.Settled(first_time=True) if self.tracer.wants("settle"):
                    self.tracer.row(_settled(effect, turn))
                case ev.VersionMade(made) if self.tracer.wants("version"):
                    self.tracer.row(Row("version", turn.at_s, version=made.version))


def _settled(effect: ev.Settled, turn: Turn) -> Row:
    header, outcome, refresh = effect.header, effect.outcome, effect.header.refresh
    return Row(
        "settle",
        turn.at_s,
        header.device_id,
        version=header.base_version,
        bytes=0 if turn.payload is None else turn.payload.header.wire_bytes,
        seconds=header.train_s,
        slot=-1 if refresh is None else refresh.slot,
        tau=outcome.tau,
        weight=math.nan if isinstance(outcome, Dropped) else outcome.weight,
        loss=header.train_loss,
        reward=math.nan if refresh is None else refresh.reward,
        outcome=outcome_word(outcome),
        update_id=header.update_id,
    )


def outcome_word(outcome: Outcome) -> str:
    """An outcome in one word; of a dropped update why."""
    match outcome:
        case Applied():
            return "applied"
        case Buffered():
            return "buffered"
        case Dropped(reason):
            return reason.name.lower()
