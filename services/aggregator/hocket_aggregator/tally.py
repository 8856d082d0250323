"""Where the task stands, in numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from hocket.core.events import Settled, VersionMade
from hocket.core.ids import Version
from hocket.core.records import DeviceStatus, Status
from hocket.core.update import Dropped
from hocket_aggregator.job import Core
from hocket_aggregator.turn import Turn


class Tally:
    """Counts bytes and watches the time. Counts the owner's turns when they are done."""

    def __init__(
        self,
        task: str,
        strategy: str,
        dense_bytes: int,
        now: Callable[[], float],
        *,
        earlier: Status | None = None,
        pushed: tuple[int, int] = (0, 0),
    ) -> None:
        self.bytes_pulled = earlier.bytes_pulled if earlier else 0
        self._task, self._strategy = task, strategy
        self._dense_bytes = dense_bytes
        self._now = now
        self._started = now()
        self._first_version_s = earlier.first_version_s if earlier else 0.0
        self._bytes_pushed, self._bytes_dense = pushed

    def on_turn(self, turn: Turn) -> None:
        """Count what was accepted."""
        for effect in turn.effects:
            if isinstance(effect, VersionMade) and not self._first_version_s:
                self._first_version_s = turn.now - self._started
            if not isinstance(effect, Settled) or not effect.first_time:
                continue
            if not isinstance(effect.outcome, Dropped):
                self._bytes_pushed += wire_bytes_of(turn)
                self._bytes_dense += self._dense_bytes

    def status(self, core: Core, digest: str) -> Status:
        """Everything at once; `digest` is that of the newest version."""
        return self.capture(core, digest)()

    def capture(self, core: Core, digest: str) -> Callable[[], Status]:
        """The status of this moment, to be put together in any thread, at any time.

        For ten thousand devices that takes 60 ms, and this 2 ms.
        """
        now = self._now()
        evaluated = core.evaluated
        members = [(member.status, member.since) for member in core.fleet]

        def devices() -> tuple[DeviceStatus, ...]:
            members.sort(key=lambda member: member[0].device_id)
            return tuple(replace(s, in_phase_s=max(0.0, now - since)) for s, since in members)

        build = partial(
            Status,
            task=self._task,
            strategy=self._strategy,
            version=core.newest.version,
            digest=digest,
            finished_reason=core.finished.reason if core.finished else "",
            uptime_s=now - self._started,
            first_version_s=self._first_version_s,
            updates_accepted=core.state.updates_accepted,
            updates_rejected=core.state.updates_rejected,
            bytes_pushed=self._bytes_pushed,
            bytes_dense_equivalent=self._bytes_dense,
            bytes_pulled=self.bytes_pulled,
            evaluated_version=evaluated[0] if evaluated else Version(0),
            evaluation=evaluated[1] if evaluated else None,
        )
        return lambda: build(devices=devices())


def wire_bytes_of(turn: Turn) -> int:
    """Bytes of the update that the turn was about, as they travelled."""
    update = getattr(turn.event, "update", None)
    return 0 if update is None else int(update.wire_bytes)
