"""The `hocket` command."""

from __future__ import annotations

from hocket.cli.app import main

__all__ = ["main"]
