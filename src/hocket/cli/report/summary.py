"""summary.json: a run in numbers."""

from __future__ import annotations

from typing import Any

from hocket.cli.report.run import RunData


def summarise(run: RunData) -> dict[str, Any]:
    """The run in numbers; seconds and bytes throughout."""
    status, evaluation = run.status, run.status.evaluation
    return {
        "task": status.task,
        "strategy": status.strategy,
        "command": run.command,
        "seed": run.seed,
        "finished_reason": status.finished_reason,
        "test_accuracy": evaluation.test_accuracy if evaluation else None,
        "test_loss": evaluation.test_loss if evaluation else None,
        "evaluated_version": status.evaluated_version,
        "versions": status.version,
        "digest": status.digest,
        "updates_accepted": status.updates_accepted,
        "updates_rejected": status.updates_rejected,
        "first_version_s": run.first_version_s,
        "wall_s": run.wall_s,
        "bytes_pushed": status.bytes_pushed,
        "bytes_dense_equivalent": status.bytes_dense_equivalent,
        "bytes_pulled": status.bytes_pulled,
        "devices": {
            member.device_id: {
                "updates_accepted": member.updates_accepted,
                "updates_rejected": member.updates_rejected,
                "bytes_pushed": member.wire_bytes,
                "bytes_dense_equivalent": member.dense_bytes,
            }
            for member in status.devices
        },
    }
