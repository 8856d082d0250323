"""Task files: one TOML file names model, data and rules, and every process reads the same one."""

from __future__ import annotations

from hocket.task.reading import default_task, load_task
from hocket.task.rules import EvaluationRules, Limits, ModelRef, RefreshSettings
from hocket.task.task import Origin, Task

__all__ = [
    "EvaluationRules",
    "Limits",
    "ModelRef",
    "Origin",
    "RefreshSettings",
    "Task",
    "default_task",
    "load_task",
]
