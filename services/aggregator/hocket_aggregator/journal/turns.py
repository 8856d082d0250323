"""What the journal keeps of a turn."""

from __future__ import annotations

from hocket.core.past import Answered, BaseHeld, Ended, RoundClosed, past_of
from hocket.core.update import Dropped
from hocket_aggregator.journal.entries import Closed, Concluded, Entry, Held, Settled
from hocket_aggregator.turn import Turn


def entries_of(turn: Turn) -> list[Entry]:
    """The entries from which the turn can be lived through again."""
    entries: list[Entry] = []
    for past in past_of(turn.event, turn.effects):
        match past:
            case BaseHeld(device_id, version):
                entries.append(Held(device_id, version))
            case Ended(finished):
                entries.append(Concluded(finished.reason))
            case RoundClosed(version):
                entries.append(Closed(version, turn.digests[version], turn.unix_s))
            case Answered(update, outcome):
                made = "" if isinstance(outcome, Dropped) else turn.digests.get(outcome.version, "")
                entries.append(
                    Settled(
                        update.header, outcome, update.codec, update.wire_bytes, turn.unix_s, made
                    )
                )
    return entries
