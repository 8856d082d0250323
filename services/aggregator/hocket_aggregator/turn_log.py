"""One log line for each thing that happened. A sink of the owner's turns."""

from __future__ import annotations

import structlog

from hocket.core.events import Evaluated, SendTrigger, Settled, TaskFinished, VersionMade
from hocket.core.update import Dropped
from hocket_aggregator.tally import wire_bytes_of
from hocket_aggregator.turn import Turn

log = structlog.get_logger()


def log_turn(turn: Turn) -> None:
    """Say what became of updates, and what was made."""
    if isinstance(turn.event, Evaluated):
        evaluation = turn.event.evaluation
        log.info(
            "version_evaluated",
            version=turn.event.version,
            test_loss=evaluation.test_loss,
            test_accuracy=evaluation.test_accuracy,
        )
    for effect in turn.effects:
        match effect:
            case Settled(first_time=True):
                _log_outcome(effect, wire_bytes_of(turn))
            case VersionMade(made, update_ids):
                log.info(
                    "version_made",
                    version=made.version,
                    updates=len(update_ids),
                    digest=turn.digests[made.version],
                )
            case SendTrigger(caller, trigger):
                log.debug("trigger_sent", device=caller.device_id, trigger=trigger.trigger_id)
            case TaskFinished(finished, first_time=True):
                log.info("task_finished", reason=finished.reason)


def _log_outcome(effect: Settled, wire_bytes: int) -> None:
    header, outcome = effect.header, effect.outcome
    told = {
        "device": header.device_id,
        "update": header.update_id,
        "base_version": header.base_version,
        "tau": outcome.tau,
        "wire_bytes": wire_bytes,
    }
    if isinstance(outcome, Dropped):
        log.info("update_dropped", **told, reason=outcome.reason.name)
    else:
        log.info("update_accepted", **told, version=outcome.version, weight=outcome.weight)
