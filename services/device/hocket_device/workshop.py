"""The task's model and this device's examples. Loads torch: import it in the training thread."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from hocket.core.ids import DeviceId
from hocket.core.terms import TaskTerms
from hocket.task import default_task, load_task
from hocket_device.pace import Pace
from hocket_device.settings import Settings
from hocket_device.trainer import Trainer


def open_workshop(settings: Settings, pace: Pace) -> Callable[[TaskTerms, DeviceId], Trainer]:
    """Load everything that does not depend on what the aggregator says.

    Raises TaskError, ModelError or DataError.
    """
    torch.set_num_threads(1)
    if settings.task is None:
        task = default_task()
    else:
        task = load_task(
            settings.task, data_folders=settings.data_roots, code_folders=(Path.cwd(),)
        )
    examples = task.train_examples(settings.shard, settings.shards)
    model = task.build_model()
    task.check_fit(model, examples)

    def trainer(terms: TaskTerms, device_id: DeviceId) -> Trainer:
        return Trainer(
            model,
            examples,
            terms,
            pace,
            keep=settings.keep,
            name=device_id,
        )

    return trainer
