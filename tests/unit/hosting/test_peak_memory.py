"""The peak of a piece of work's memory."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from hocket.hosting import peak_memory
from hocket.hosting.peak_memory import peak_bytes_of

MB = 10**6


@pytest.mark.skipif(sys.platform != "linux", reason="the system tells on Linux only")
def test_what_was_taken_and_given_back_counts() -> None:
    def work() -> None:
        for megabytes in (10, 60, 20):
            np.ones(megabytes * MB, dtype=np.int8)

    peak_bytes = peak_bytes_of(work)
    assert peak_bytes is not None
    assert 55 * MB < peak_bytes < 100 * MB
    again = peak_bytes_of(lambda: np.ones(20 * MB, dtype=np.int8))
    assert again is not None
    assert again < 50 * MB  # an earlier peak is forgotten


def test_a_system_that_does_not_tell_is_no_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(peak_memory, "STATUS", tmp_path / "status")
    assert peak_bytes_of(list) is None
    (tmp_path / "status").write_text("Name: python\n")
    assert peak_bytes_of(list) is None
