"""Every aggregation rule we ship. To add one: write the module, list it here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from hocket.core.terms import PLAIN, LocalTerms
from hocket.errors import TaskError
from hocket.learn.local_rule import LocalRule
from hocket.learn.strategies.aso_fed import AsoFed
from hocket.learn.strategies.ca2fl import Ca2fl
from hocket.learn.strategies.fadas import Fadas
from hocket.learn.strategies.fedasmu import FedASMU
from hocket.learn.strategies.fedasync import FedAsync
from hocket.learn.strategies.fedavg import FedAvg
from hocket.learn.strategies.fedbuff import FedBuff
from hocket.learn.strategies.fednova import FedNova
from hocket.learn.strategies.fedprox import FedProx
from hocket.learn.strategies.moon import Moon
from hocket.learn.strategies.port import Port
from hocket.learn.strategies.scaffold import Scaffold

AnyStrategy = (
    FedAsync
    | FedBuff
    | FedAvg
    | FedASMU
    | Port
    | Ca2fl
    | Fadas
    | FedNova
    | Scaffold
    | FedProx
    | Moon
    | AsoFed
)

LOCAL_RULES: Mapping[str, type[Any]] = {
    rule.half.kind: rule.half for rule in get_args(AnyStrategy) if hasattr(rule, "half")
}
"""What devices can be asked to do besides gradient descent: the class attributes `half`."""

__all__ = [
    "LOCAL_RULES",
    "AnyStrategy",
    "AsoFed",
    "Ca2fl",
    "Fadas",
    "FedASMU",
    "FedAsync",
    "FedAvg",
    "FedBuff",
    "FedNova",
    "FedProx",
    "Moon",
    "Port",
    "Scaffold",
    "rule_of",
]


def rule_of(terms: LocalTerms) -> LocalRule | None:
    """The client half that the terms ask for; None for plain gradient descent.

    Raises TaskError for a kind or settings that this device does not know, or values out of range.
    """
    if terms.kind == PLAIN:
        return None
    values = dict(terms.values)
    try:
        rule: LocalRule = LOCAL_RULES[terms.kind](**values)
    except (KeyError, TypeError):
        known = ", ".join(sorted(LOCAL_RULES))
        raise TaskError(
            f"the task has its devices train by the rule {terms.kind!r} with the settings "
            f"{values}, which this device does not know (it knows {known}); install the version "
            "of Hocket that the aggregator runs"
        ) from None
    return rule
