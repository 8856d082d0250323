"""The audit of the crash tests must itself be able to fail."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.audit import Audit, check_lineage, check_versions
from support.book import Book, Parcel
from support.runs import record

from hocket.core.ids import UpdateId, Version
from hocket.core.records import UpdateRecord, VersionRecord
from hocket.core.update import Applied


def applied(name: str, version: int) -> UpdateRecord:
    made = record("a", 1, Applied(Version(version), 0.5, 0), 1.0)
    return replace(made, header=replace(made.header, update_id=UpdateId(name)))


def version(number: int, *updates: str, parent: int | None = None) -> VersionRecord:
    parent = number - 1 if parent is None else parent
    return VersionRecord(Version(number), Version(parent), "0" * 16, 1.0, updates)


SOUND = Audit([version(1), version(2, "x"), version(3, "y")], [applied("y", 3), applied("x", 2)])


def test_what_is_sound_passes() -> None:
    check_versions(SOUND)
    check_lineage(SOUND)


@pytest.mark.parametrize(
    "versions",
    [[version(1), version(3, "y")], [version(1), version(2, "x"), version(2, "x")]],
    ids=["a gap", "twice"],
)
def test_versions_that_do_not_rise_by_one_are_seen(versions: list[VersionRecord]) -> None:
    with pytest.raises(AssertionError):
        check_versions(Audit(versions, []))


def test_a_wrong_parent_is_seen() -> None:
    with pytest.raises(AssertionError):
        check_versions(Audit([version(1), version(2, "x"), version(3, "y", parent=1)], []))


@pytest.mark.parametrize(
    "updates",
    [
        [applied("x", 2), applied("x", 3), applied("y", 3)],
        [applied("x", 2)],
        [applied("x", 2), applied("y", 3), applied("z", 4)],
    ],
    ids=["twice", "missing", "of no version"],
)
def test_updates_that_the_versions_do_not_divide_are_seen(updates: list[UpdateRecord]) -> None:
    with pytest.raises(AssertionError):
        check_lineage(Audit(SOUND.versions, updates))


def test_another_answer_to_the_same_update_is_seen() -> None:
    book, parcel = Book(), Parcel(applied("x", 2).header, 1, large=False)
    book.note(parcel, Applied(Version(2), 0.5, 0))
    with pytest.raises(AssertionError):
        book.note(parcel, Applied(Version(3), 0.5, 0))
