"""`hocket compare`: methods and seeds side by side. Torch is imported by its workers, and late."""

from __future__ import annotations

from hocket.cli.compare.command import compare

__all__ = ["compare"]
