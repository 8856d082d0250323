"""A place at which a process is told to end: when it does, and what is said of a wrong setting."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hocket.hosting.failpoint import VARIABLE, arm
from hocket.hosting.settings import WrongSettings

# Comes to a place five times, and makes the file, if any, before the third; says how far it came.
CODE = """
import sys
from pathlib import Path
from hocket.hosting.failpoint import Failpoint, arm, reach

arm(sys.argv[1])
for number in range(1, 6):
    if number == 3 and len(sys.argv) > 2:
        Path(sys.argv[2]).touch()
    if number == 5 and len(sys.argv) > 3:
        Path(sys.argv[2]).unlink()
    print(number, flush=True)
    reach(Failpoint.MID_PUSH)
"""


def life(*arguments: str) -> tuple[int, int]:
    """Its exit status, and the last time that it came to the place."""
    ended = subprocess.run(
        [sys.executable, "-c", CODE, *arguments], capture_output=True, text=True, check=False
    )
    assert not ended.stderr
    return ended.returncode, int(ended.stdout.split()[-1])


def test_the_place_counts_from_the_start_or_only_while_a_file_is_there(tmp_path: Path) -> None:
    file = str(tmp_path / "a:b")
    assert life("mid-push:2") == (-signal.SIGKILL, 2)
    assert life("outbox-written:2") == (0, 5)
    assert life(f"mid-push:2:{file}", file) == (-signal.SIGKILL, 4)
    assert life(f"mid-push:3:{file}x", f"{file}x", "gone before the last") == (0, 5)


@pytest.mark.parametrize("setting", ["mid-push", "mid-push:", "mid-push:x", "nowhere:1", ":1:f"])
def test_a_setting_that_names_no_place_or_number_is_refused(setting: str) -> None:
    with pytest.raises(WrongSettings, match=f"{VARIABLE} is '{setting}'; write NAME:N"):
        arm(setting)
