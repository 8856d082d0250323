"""The `hocket` command: within this process, or in one of its own that gets a Ctrl-C."""

from __future__ import annotations

import subprocess
import sys

import structlog
from support.limits import LIMIT_S

from hocket.cli import main

# The signal comes from the process itself, while it says so: a person is never that quick, and
# whoever reads what it says may be too late on a busy machine.
INTERRUPTED = """
import os, signal, sys
from hocket.cli import main

class Said:
    def __init__(self, to):
        self.to = to

    def __getattr__(self, name):
        return getattr(self.to, name)

    def write(self, text):
        written = self.to.write(text)
        if mark in text:
            os.kill(os.getpid(), signal.SIGINT)
        return written

signal.signal(signal.SIGINT, signal.default_int_handler)  # which jobs in the background ignore
mark = sys.argv.pop(1)
sys.stderr = Said(sys.stderr)
main()
"""


def hocket(*arguments: str) -> int:
    """Run it; the exit status."""
    given, sys.argv = sys.argv, ["hocket", *arguments]
    try:
        main()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    finally:
        sys.argv = given
        structlog.reset_defaults()  # the command's streams may be those of its test
    return 0


def interrupted(mark: str, *arguments: str) -> str:
    """What a process says that gets a Ctrl-C when it says `mark`, for people."""
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, mark, *arguments],
        capture_output=True,
        text=True,
        timeout=4 * LIMIT_S,
        check=False,
    )
    assert done.returncode == 130, (done.returncode, done.stdout, done.stderr)
    return done.stderr
