"""The journal: every update as it was received, and what became of it."""

from __future__ import annotations

from hocket_aggregator.journal.journal import Journal
from hocket_aggregator.journal.unjournalled import Unjournalled

AnyJournal = Journal | Unjournalled

__all__ = ["AnyJournal", "Journal", "Unjournalled"]
