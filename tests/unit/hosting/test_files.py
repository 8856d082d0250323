"""Small files that a crash or a power cut leaves whole: the old one or the new one."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.disk_log import DiskLog, made_durable

from hocket.hosting.files import replace_file


def test_a_file_has_its_name_only_once_all_of_it_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, log = tmp_path / "kept", DiskLog()
    log.put(monkeypatch)
    for pieces in ((b"first",), (b"a ", memoryview(b"longer "), b"second")):
        log.entries.clear()
        replace_file(file, *pieces)
        assert log.entries == made_durable(file)
        assert file.read_bytes() == b"".join(pieces)
    assert list(tmp_path.iterdir()) == [file]


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    """/dev/full takes nothing: writing to it ends with ENOSPC."""
    file = tmp_path / "kept"
    replace_file(file, b"old")
    (tmp_path / "kept.new").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        replace_file(file, b"new")
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]
