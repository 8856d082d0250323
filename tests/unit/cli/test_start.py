"""What the `hocket` command loads before it knows what is asked of it."""

from __future__ import annotations

import subprocess
import sys


def test_the_command_starts_without_torch_and_what_comes_with_it() -> None:
    heavy = "{'torch', 'numpy', 'pyarrow', 'matplotlib', 'hocket.sim'}"
    code = (
        f"import sys, hocket.cli.app; print(sorted({heavy} & set(sys.modules)));"
        "import hocket.cli.bench.ingest; print('torch' in sys.modules)"
    )
    said = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert said == "[]\nFalse\n"  # nor does the measuring of services load it by itself
