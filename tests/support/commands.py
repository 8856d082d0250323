"""The `hocket` command within this process: quick, and just as a person calls it."""

from __future__ import annotations

import sys

from hocket.cli import main


def hocket(*arguments: str) -> int:
    """Run it; the exit status."""
    given, sys.argv = sys.argv, ["hocket", *arguments]
    try:
        main()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    finally:
        sys.argv = given
    return 0
