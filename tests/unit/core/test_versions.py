"""Which models are kept, where, and for how long."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.simulated_disk import Shelf
from support.steps import count_steps

from hocket.core.ids import DeviceId, Version
from hocket.core.strategy import Global
from hocket.core.versions import Versions
from hocket.errors import UnknownVersion


def kept(limit: int = 10, in_memory: int = 8) -> tuple[Versions[float], Shelf]:
    shelf = Shelf()
    return Versions(Global(1.0), limit, shelf=shelf, in_memory=in_memory), shelf


def grow(versions: Versions[float], *, to: int) -> None:
    for number in range(versions.newest.version + 1, to + 1):
        versions.add(Global(float(number), Version(number)))


def hold(versions: Versions[float], name: str, version: int) -> None:
    versions.hold(DeviceId(name), Version(version))


def test_a_version_that_nobody_holds_goes_with_the_next() -> None:
    versions, shelf = kept()
    grow(versions, to=3)
    assert versions.retained == (3,)
    assert (versions.bases, versions.holds, shelf.models) == ({}, {}, {})
    with pytest.raises(UnknownVersion, match="newest is 3") as gone:
        versions.get(Version(2))
    assert gone.value.details == {"newest": "3"}


def test_a_base_is_kept_as_long_as_one_device_holds_it() -> None:
    versions, _ = kept()
    hold(versions, "a", 1)
    hold(versions, "b", 1)
    hold(versions, "b", 1)  # asked for twice, held once
    grow(versions, to=3)
    versions.release(DeviceId("b"))
    assert (versions.retained, versions.oldest, versions.bases) == ((1, 3), 1, {1: 1.0})
    versions.release(DeviceId("a"))
    versions.release(DeviceId("a"))
    assert versions.retained == (3,)


def test_holding_another_base_gives_the_first_one_up() -> None:
    versions, _ = kept()
    hold(versions, "a", 1)
    grow(versions, to=2)
    hold(versions, "a", 2)
    assert (versions.retained, versions.holds) == ((2,), {"a": 2})
    with pytest.raises(UnknownVersion):
        hold(versions, "a", 1)
    assert versions.holds == {"a": 2}


def test_a_base_beyond_the_limit_goes_though_it_is_held() -> None:
    versions, shelf = kept(limit=2)
    hold(versions, "a", 1)
    grow(versions, to=3)
    assert versions.retained == (1, 3)
    grow(versions, to=4)
    assert list(versions.retained) == [4]
    assert (versions.holds, shelf.models) == ({}, {})
    versions.release(DeviceId("a"))
    assert list(versions.retained) == [4]


def test_only_the_youngest_bases_stay_in_memory() -> None:
    versions, shelf = kept(in_memory=2)
    for number in range(1, 6):
        grow(versions, to=number)
        hold(versions, f"d{number}", number)
    grow(versions, to=6)
    assert versions.retained == (1, 2, 3, 4, 5, 6)
    assert shelf.models == {1: 1.0, 2: 2.0, 3: 3.0}
    assert [versions.get(Version(n)) for n in versions.retained] == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    versions.release(DeviceId("d2"))
    assert shelf.models == {1: 1.0, 3: 3.0}


def test_the_base_of_a_silent_device_is_kept_on_the_shelf() -> None:
    versions, shelf = kept()
    hold(versions, "a", 1)
    hold(versions, "b", 1)
    versions.fall_silent(DeviceId("a"))
    versions.fall_silent(DeviceId("nobody"))
    grow(versions, to=2)
    assert shelf.models == {}  # b is awake
    versions.fall_silent(DeviceId("b"))
    grow(versions, to=3)
    assert shelf.models == {1: 1.0}
    assert versions.holds == {"a": 1, "b": 1}


def test_a_silent_device_that_is_heard_again_counts_as_awake() -> None:
    versions, shelf = kept()
    hold(versions, "a", 1)
    versions.fall_silent(DeviceId("a"))
    hold(versions, "a", 1)
    grow(versions, to=2)
    assert (versions.retained, shelf.models) == ((1, 2), {})


def test_what_is_restored_waits_on_the_shelf_and_goes_like_any_other() -> None:
    shelf = Shelf()
    versions = Versions(Global(9.0, Version(9)), 10, shelf=shelf)
    bases = {Version(7): 7.0, Version(8): 8.0}
    versions.restore(bases, {DeviceId("a"): Version(7), DeviceId("b"): Version(9)})
    assert (versions.retained, shelf.models) == ((7, 8, 9), {7: 7.0, 8: 8.0})
    assert versions.holds == {"a": 7, "b": 9}
    grow(versions, to=10)
    assert versions.get(Version(9)) == shelf.models[Version(9)] == 9.0
    versions.release(DeviceId("a"))
    assert 7 not in shelf.models
    assert versions.retained == (8, 9, 10)


def test_the_oldest_of_those_restored_is_known_at_once() -> None:
    versions = Versions(Global(9.0, Version(9)), 10)
    versions.restore({Version(8): 8.0, Version(7): 7.0}, {DeviceId("a"): Version(7)})
    assert (versions.oldest, versions.retained) == (7, (7, 8, 9))


@dataclass
class Plainly:
    """Which versions are kept, by going through all of them each time."""

    limit: int
    newest: int = 1
    models: set[int] = field(default_factory=lambda: {1})
    holds: dict[str, int] = field(default_factory=dict)

    def clear_out(self, candidates: set[int]) -> None:
        needed = {self.newest, *self.holds.values()}
        self.models -= {version for version in candidates if version not in needed}

    def add(self) -> None:
        self.newest += 1
        self.models.add(self.newest)
        self.clear_out({self.newest - 1})
        self.models = {version for version in self.models if self.newest - version <= self.limit}

    def release(self, name: str) -> None:
        if name in self.holds:
            self.clear_out({self.holds.pop(name)})

    def hold(self, name: str, version: int) -> None:
        if self.holds.get(name) != version:
            self.release(name)
            self.holds[name] = version


CHANGES = st.tuples(
    st.sampled_from(["add", "hold", "release"]), st.sampled_from("abcd"), st.integers(0, 6)
)


@pytest.mark.parametrize("shelved", [False, True])
@given(st.lists(CHANGES, max_size=60))
def test_what_is_kept_is_what_going_through_all_finds(
    shelved: bool, changes: list[tuple[str, str, int]]
) -> None:
    versions = kept(limit=5)[0] if shelved else Versions(Global(1.0), 5)
    plain = Plainly(5)
    for change, name, back in changes:
        if change == "add":
            grow(versions, to=plain.newest + 1)
            plain.add()
        elif change == "release":
            versions.release(DeviceId(name))
            plain.release(name)
        else:
            version = sorted(plain.models)[-1 - back % len(plain.models)]
            hold(versions, name, version)
            plain.hold(name, version)
        assert versions.retained == tuple(sorted(plain.models))
        assert versions.oldest == min(plain.models)
        assert versions.holds == {d: v for d, v in plain.holds.items() if v in plain.models}


def test_without_a_shelf_a_version_costs_the_same_whoever_holds_bases() -> None:
    def held(count: int) -> Versions[float]:
        versions = Versions(Global(1.0), 99)
        for number in range(count):
            hold(versions, f"d{number}", 1)
        return versions

    few, many = (count_steps(partial(grow, held(count), to=9)) for count in (10, 1_000))
    assert few == many
