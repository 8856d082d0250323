"""At which size a device trains: one rule a file, asked before each training.

To add one: write the module, list it here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

from hocket.core.sizing.distreal import Distreal
from hocket.core.sizing.federated_dropout import FederatedDropout
from hocket.core.sizing.fedrolex import FedRolex
from hocket.core.sizing.fjord import Fjord
from hocket.core.sizing.full import Full
from hocket.core.sizing.heterofl import HeteroFL
from hocket.core.sizing.settings import rule_of_settings, terms_of_settings
from hocket.core.sizing.size import Sizing
from hocket.core.sizing.whale import Whale
from hocket.core.terms import SizingTerms
from hocket.errors import TaskError

AnySizing = Full | Distreal | Whale | HeteroFL | FedRolex | Fjord | FederatedDropout

KINDS: Mapping[str, type[AnySizing]] = {rule().kind: rule for rule in get_args(AnySizing)}
"""Every rule by its name in task files."""

LONGEST_TOLD = 500  # characters of settings in a complaint: an aggregator may send very many

DEFAULT = Distreal()
"""What a task does that does not say: uniform rates, the whole model on the wire."""

__all__ = [
    "DEFAULT",
    "KINDS",
    "AnySizing",
    "Distreal",
    "FedRolex",
    "FederatedDropout",
    "Fjord",
    "Full",
    "HeteroFL",
    "Sizing",
    "Whale",
    "choices_of",
    "sizing_of",
    "terms_of",
]


def choices_of(rule: AnySizing) -> tuple[float, ...]:
    """The widths that a rule chooses among, descending; none if it leaves that to `keep`."""
    match rule:
        case HeteroFL() | FedRolex() | Whale():
            return rule.levels
        case FederatedDropout():
            return rule.ratios
        case Fjord():
            return rule.widths
        case Full() | Distreal():
            return ()


def terms_of(rule: AnySizing) -> SizingTerms:
    """What devices are told of a rule; DISTREAL's rows travel as the task's dropout rows."""
    return terms_of_settings(rule)


def sizing_of(terms: SizingTerms) -> AnySizing:
    """The rule that the terms mean.

    Raises TaskError for a kind or settings that this device does not know, or values out of range.
    """
    try:
        return rule_of_settings(KINDS[terms.kind], terms)
    except (KeyError, TypeError, ValueError, IndexError, OverflowError):
        known = ", ".join(sorted(KINDS))
        told = str(dict(terms.values))
        told = told if len(told) <= LONGEST_TOLD else f"{told[:LONGEST_TOLD]}..."
        raise TaskError(
            f"the task sizes its parts of the model by the rule {terms.kind!r} with the settings "
            f"{told}, which this device does not know (it knows {known}); install "
            "the version of Hocket that the aggregator runs"
        ) from None
