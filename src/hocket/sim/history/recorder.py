"""A simulation's history, written as it happens."""

from __future__ import annotations

from torch import Tensor

from hocket.core import events as ev
from hocket.core.device import DeviceState
from hocket.core.ids import DeviceId, Version
from hocket.core.past import Answered, BaseHeld, Past, RoundClosed, past_of
from hocket.core.past import Ended as PastEnded
from hocket.core.update import Dropped
from hocket.learn.digest import digest_of
from hocket.sim.history.entries import Beginning, Closed, Ended, Entry, Held, Joined, Settled
from hocket.sim.history.writer import HistoryWriter
from hocket.sim.server import Turn
from hocket.task.setup import Setup


def beginning_of(setup: Setup) -> Beginning:
    """Whose history it is."""
    terms = setup.terms
    return Beginning(terms.name, terms.manifest.digest, digest_of(setup.first))


class Recorder:
    """Writes what the server's turns leave to be kept (a Sink). Raises OSError."""

    def __init__(self, writer: HistoryWriter) -> None:
        self._writer = writer
        self._known: dict[DeviceId, tuple[int, int]] = {}  # incarnation and number of examples

    def __call__(self, turn: Turn, /) -> None:
        """Take down one turn."""
        if isinstance(turn.event, ev.DeviceSeen):
            self._seen(turn.at_s, turn.event)
        digests = {
            effect.made.version: digest_of(effect.made.model)
            for effect in turn.effects
            if isinstance(effect, ev.VersionMade)
        }
        for past in past_of(turn.event, turn.effects):
            self._writer.add(_entry(past, turn, digests))

    def _seen(self, at_s: float, event: ev.DeviceSeen) -> None:
        device = event.device
        now = (device.incarnation, device.capability.num_examples)
        if device.state is DeviceState.ALIVE and self._known.get(device.device_id) != now:
            self._known[device.device_id] = now
            self._writer.add(Joined(at_s, device.device_id, *now))


def _entry(past: Past[Tensor], turn: Turn, digests: dict[Version, str]) -> Entry:
    match past:
        case BaseHeld(device_id, version):
            return Held(turn.at_s, device_id, version)
        case Answered(update, outcome):
            made = "" if isinstance(outcome, Dropped) else digests.get(outcome.version, "")
            return Settled(turn.at_s, update.header, turn.payload, outcome, made)
        case RoundClosed(version):
            return Closed(turn.at_s, version, digests[version])
        case PastEnded(finished):
            return Ended(turn.at_s, finished.reason)
