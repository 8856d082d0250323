"""The task that a case trains: a model of the asked size, and rules that never end it."""

from __future__ import annotations

import math

from hocket.cli.bench.cases import Case, Coding, Rule

INPUTS, CLASSES = 64, 10  # scikit-learn's digits, which come with Hocket
NEVER = 1_000_000_000  # versions, or seconds
STAGED_BYTES = 256 * 1024 * 1024

TEXT = """\
name = "bench"
seed = 1

[model]
function = "hocket.learn.models:mlp"
arguments = {{ inputs = {inputs}, classes = {classes}, hidden = [{hidden}] }}

[data]
kind = "digits"
limit = 50

[strategy]
{strategy}

[codec]
kind = "{codec}"

[evaluation]
every_versions = {never}

[limits]
staleness = {never}
train_timeout_s = {never}.0
staged_bytes = {staged_bytes}
"""


def task_text(case: Case) -> str:
    """A task file (TOML) for the case."""
    strategy = f'kind = "{case.strategy}"'
    if case.strategy is Rule.FEDASMU:
        strategy += f"\nstaleness_limit = {NEVER}"
    return TEXT.format(
        inputs=INPUTS,
        classes=CLASSES,
        hidden=", ".join(map(str, hidden_for(case.model_values))),
        strategy=strategy,
        codec="topk" if case.coding is Coding.TOPK else "raw",
        never=NEVER,
        staged_bytes=max(STAGED_BYTES, 3 * case.streams * case.model_bytes),
    )


def hidden_for(values: int) -> tuple[int, int]:
    """Widths of two hidden layers that give a perceptron about so many parameters.

    With widths a and b it has (INPUTS + 1) a + (a + 1) b + (b + 1) CLASSES of them.
    """
    first = max(1, math.isqrt(values) - INPUTS // 2)
    second = round((values - (INPUTS + 1) * first - CLASSES) / (first + 1 + CLASSES))
    return first, max(1, second)


def parameters(hidden: tuple[int, int]) -> int:
    """Values of the perceptron with these hidden layers."""
    first, second = hidden
    return (INPUTS + 1) * first + (first + 1) * second + (second + 1) * CLASSES
