"""A service as a command: no arguments but --help, one line for what goes wrong on purpose."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

from hocket.errors import HocketError
from hocket.hosting import failpoint
from hocket.hosting.parent import end_with_parent
from hocket.hosting.settings import WrongSettings


def run_command(command: str, help_text: Callable[[], str], work: Callable[[], None]) -> int:
    """Do the work; its exit status. 1: cannot start or go on; 2: wrong settings or arguments."""
    arguments = sys.argv[1:]
    if arguments in (["--help"], ["-h"]):
        sys.stdout.write(help_text())
        return 0
    if arguments:
        sys.stderr.write(f"{command}: takes no arguments but --help; settings are variables\n")
        return 2
    end_with_parent()
    try:
        if setting := os.environ.get(failpoint.VARIABLE):
            failpoint.arm(setting)
        work()
    except WrongSettings as error:
        sys.stderr.write(f"{command}: {error}\n")
        return 2
    except HocketError as error:
        sys.stderr.write(f"{command}: {error.message}\n")
        return 1
    finally:
        # All is done but for Python's own end, which a late signal must not turn into a failure.
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, signal.SIG_IGN)
    return 0
