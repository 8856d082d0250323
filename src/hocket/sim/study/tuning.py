"""The points of a method's grid, and which one it is to be reported with."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

from hocket.sim.study.jobs import Outcome, Row
from hocket.sim.study.kinds import beside_defaults
from hocket.sim.study.study import Method, Scale, Study, flat
from hocket.task.changes import layered


def points(study: Study, scale: Scale, method: Method) -> tuple[dict[str, Any], ...]:
    """Changes by dotted keys: each of the method's own with each combination of the common grid.

    At least one, which may be empty; a method that follows another has that one's points.
    """
    leader = study.method(method.follows) if method.follows else method
    common = flat(study.grid if scale.grid is None else scale.grid)
    own = leader.grid or ({},)
    found = tuple(
        dict(zip(common, values, strict=True)) | flat(table)
        for values in product(*common.values())
        for table in own
    )
    return found if scale.tuned else found[:1]


def fixed(study: Study, scale: Scale, method: Method) -> dict[str, Any]:
    """What a method's own changes set beside its grid, where it is not the strategy's default.

    A method that follows another has that one's, too.
    """
    leader = study.method(method.follows) if method.follows else method
    own = flat(method.changes)
    changes = layered(flat(leader.changes), own) if method.follows else own
    tried = {key for point in points(study, scale, method) for key in point}
    if method.follows:
        tried -= own.keys()  # its own changes come last
    return {key: value for key, value in beside_defaults(changes).items() if key not in tried}


def choose(outcomes: Sequence[Outcome], last: int) -> int | None:
    """The point with the best mean of its last evaluations, the first of equals; None: all failed.

    A point whose run failed cannot be chosen.
    """
    scores = [score(outcome, last) for outcome in outcomes]
    known = [(-value, at) for at, value in enumerate(scores) if value is not None]
    return min(known)[1] if known else None


def score(outcome: Outcome, last: int) -> float | None:
    """What a point is judged by; None if its run failed or was never evaluated."""
    return outcome.accuracy(last) if isinstance(outcome, Row) else None
