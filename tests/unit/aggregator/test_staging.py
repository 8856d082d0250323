"""Bodies on their way in: within a limit, kept for a while after a break, one stream each."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hocket_aggregator.journal import Unjournalled
from hocket_aggregator.journal.entries import Discarded, Entry, Piece
from hocket_aggregator.journal.reader import Found
from hocket_aggregator.pushes.staging import Staged, Staging
from hocket_aggregator.recovery.bodies import Bodies
from support.aggregating import header

from hocket.core.ids import Incarnation, UpdateId
from hocket.core.payload import CodecId, Packing, PayloadHeader, TensorHeader
from hocket.core.update import UpdateHeader
from hocket.errors import InvalidUpdate, Overloaded, PayloadTooLarge, Unavailable
from hocket.rpc.chunks import Assembler, pieces

BODY = bytes(range(100))


class Time:
    """A now that tests set."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def payload(num_bytes: int = 100) -> PayloadHeader:
    tensors = (TensorHeader("w", (num_bytes // 4,), CodecId.RAW, num_bytes),)
    return PayloadHeader(tensors, Packing.NONE, num_bytes, None)


def staging(limit_bytes: int = 250) -> tuple[Staging, Time]:
    time = Time()
    return Staging(limit_bytes, keep_s=10.0, now=time, journal=Unjournalled()), time


async def send(staged: Staged, count: int) -> None:
    for chunk in list(pieces(BODY, staged.received, chunk_bytes=10))[:count]:
        await staged.add(chunk)


async def test_a_broken_stream_is_followed_by_one_that_goes_on() -> None:
    place, _ = staging()
    first = place.open(header("a"), payload())
    await send(first, 3)
    first.leave()
    second = place.open(header("a"), payload())
    assert second.received == 30
    await send(second, 7)
    assert bytes(memoryview((await second.finish()).body)) == BODY


async def test_a_restarted_device_goes_on_as_a_newer_incarnation() -> None:
    place, _ = staging()
    first = place.open(header("a"), payload())
    await send(first, 3)
    first.leave()
    assert place.open(header("a", incarnation=Incarnation(2)), payload()).received == 30


@pytest.mark.parametrize("other", [header("a", num_steps=11), header("a", base=2)])
async def test_another_update_under_the_same_id_begins_anew(other: UpdateHeader) -> None:
    place, _ = staging()
    await send(place.open(header("a"), payload()), 3)
    changed = replace(other, update_id=UpdateId("a-from-1"))
    assert place.open(changed, payload()).received == 0
    assert place.num_bytes == 100


def test_another_device_cannot_take_an_update_over() -> None:
    place, _ = staging()
    place.open(header("a"), payload())
    with pytest.raises(InvalidUpdate):
        place.open(header("b", update_id="a-from-1"), payload())


async def test_an_older_stream_is_shut_out_when_a_newer_one_comes() -> None:
    place, _ = staging()
    older = place.open(header("a"), payload())
    newer = place.open(header("a"), payload())
    with pytest.raises(Unavailable):
        await send(older, 1)
    older.leave()
    older.discard()
    await send(newer, 10)
    assert newer.is_complete


def test_what_does_not_fit_beside_the_others_is_sent_away() -> None:
    place, _ = staging()
    place.open(header("a"), payload())
    second = place.open(header("b"), payload())
    with pytest.raises(Overloaded) as refused:
        place.open(header("c"), payload())
    assert refused.value.retry_after_s > 0
    second.discard()
    place.open(header("c"), payload())


def test_what_never_fits_is_refused_for_good() -> None:
    place, _ = staging()
    with pytest.raises(PayloadTooLarge):
        place.open(header("a"), payload(400))
    assert place.num_bytes == 0


def test_broken_pushes_make_room_for_living_ones_oldest_first() -> None:
    place, time = staging()
    for at, name in enumerate("ab"):
        time.now = float(at)
        place.open(header(name), payload()).leave()
    place.open(header("c"), payload())
    assert place.num_bytes == 200
    assert place.open(header("b"), payload()).received == 0


async def test_broken_pushes_that_make_too_little_room_stay() -> None:
    place, _ = staging()
    broken = place.open(header("a"), payload())
    await send(broken, 3)
    broken.leave()
    place.open(header("b"), payload())
    with pytest.raises(Overloaded, match="100 bytes of other updates"):
        place.open(header("c"), payload(200))
    with pytest.raises(PayloadTooLarge):
        place.open(header("c"), payload(400))
    assert place.received(header("a").update_id) == 30


def test_only_as_many_broken_pushes_go_as_are_in_the_way() -> None:
    place, time = staging()
    for at, name in enumerate("ab"):
        time.now = float(at)
        place.open(header(name), payload()).leave()
    place.open(header("c"), payload(150))
    assert place.num_bytes == 250
    assert place.open(header("b"), payload()).received == 0
    assert place.num_bytes == 250  # not made anew: it was there


async def test_a_device_that_opens_push_after_push_leaves_room_for_others() -> None:
    place, _ = staging()
    first, *_, last = [place.open(header("a", base), payload()) for base in range(1, 10)]
    assert place.num_bytes == 100
    with pytest.raises(Unavailable):
        await send(first, 1)
    await send(place.open(header("b"), payload()), 10)
    await send(last, 10)
    assert last.is_complete


async def test_a_stream_that_stalls_loses_its_place_in_time() -> None:
    place, time = staging()
    stalled = place.open(header("a"), payload())
    await send(stalled, 1)
    time.now = 10.1
    place.open(header("b"), payload())
    assert place.num_bytes == 100
    with pytest.raises(Unavailable):
        await send(stalled, 1)


class Remembered(Unjournalled):
    """A journal that tells what was appended."""

    def __init__(self) -> None:
        super().__init__()
        self.entries: list[Entry] = []

    def append(self, entry: Entry) -> int:
        self.entries.append(entry)
        return 0


async def applied_twice() -> tuple[Staging, Remembered, Staged, Staged]:
    """A body whose update is on its way through the rules on behalf of two streams."""
    journal = Remembered()
    place = Staging(250, keep_s=10.0, now=Time(), journal=journal)
    first = place.open(header("a"), payload())
    await send(first, 10)
    await first.finish()
    second = place.open(replace(header("a"), incarnation=Incarnation(2)), payload())
    await second.finish()
    assert (first.header.incarnation, second.header.incarnation) == (1, 2)
    return place, journal, first, second


async def test_a_body_stays_in_the_journal_while_any_stream_applies_it() -> None:
    place, journal, first, second = await applied_twice()
    first.give_up()  # as an older incarnation, for one
    first.discard()
    place.open(header("a", update_id=UpdateId("next")), payload())
    assert place.received(header("a").update_id) == 100
    second.give_up()
    second.discard()
    assert [e.update_id for e in journal.entries if isinstance(e, Discarded)] == ["a-from-1"]


async def test_the_stream_that_came_last_cannot_discard_what_another_applies() -> None:
    place, journal, first, second = await applied_twice()
    second.give_up()
    second.discard()
    assert place.received(header("a").update_id) == 100
    first.settle()
    first.give_up()
    assert place.num_bytes == 0
    assert not any(isinstance(entry, Discarded) for entry in journal.entries)


# --- bodies carried on to the journal's end


def known_from(entries: list[Entry]) -> dict[str, int]:
    """The bodies that a start finds in these entries, and how many bytes it has of each."""
    bodies = Bodies(250)
    for entry in entries:
        bodies.take(Found(1, 0, entry))
    return {body.header.update_id: body.assembler.received for body in bodies}


async def test_what_is_carried_is_all_that_a_start_needs_of_the_bodies() -> None:
    """Also of a device that began another body while its former one was being applied."""
    journal = Remembered()
    place = Staging(450, keep_s=10.0, now=Time(), journal=journal)
    former = place.open(header("a"), payload())
    await send(former, 10)
    await former.finish()
    latter = place.open(header("a", update_id=UpdateId("latter")), payload())
    await send(latter, 3)
    former.give_up()
    place.open(header("b"), payload()).leave()
    there = {"a-from-1": 100, "latter": 30, "b-from-1": 0}
    assert known_from(journal.entries) == there
    journal.segment, before = 7, len(journal.entries)
    place.carry()
    assert place.oldest_segment == 7
    assert known_from(journal.entries) == known_from(journal.entries[before:]) == there
    for cut in range(before, len(journal.entries)):  # a kill in the middle
        for update_id, received in known_from(journal.entries[:cut]).items():
            assert received <= there[update_id]
    await send(latter, 7)
    assert known_from(journal.entries[before:]) == {**there, "latter": 100}
    carried = b"".join(
        bytes(entry.data)
        for entry in journal.entries[before:]
        if isinstance(entry, Piece) and entry.update_id == "latter"
    )
    assert carried == BODY


async def test_bodies_of_an_earlier_life_are_carried_as_well() -> None:
    journal = Remembered()
    place = Staging(450, keep_s=10.0, now=Time(), journal=journal)
    assembler = Assembler(payload(), 450)
    for chunk in list(pieces(BODY, chunk_bytes=10))[:4]:
        assembler.add(chunk)
    place.restore(header("a"), assembler, segment=1)
    journal.segment = 3
    place.carry()
    assert known_from(journal.entries) == {"a-from-1": 40}
    await send(place.open(header("a"), payload()), 6)  # it grows beside what waits to be written
    assert known_from(journal.entries) == {"a-from-1": 100}


async def test_a_body_that_is_being_applied_is_not_carried() -> None:
    """Its answer needs the body that is in the journal, also where the disk takes no other."""
    place, journal, first, second = await applied_twice()
    journal.segment, before = 7, len(journal.entries)
    place.carry()
    assert (place.oldest_segment, journal.entries[before:]) == (1, [])
    first.give_up()
    second.give_up()
    place.carry()
    assert place.oldest_segment == 7


async def test_what_was_given_up_is_not_carried() -> None:
    journal, time = Remembered(), Time()
    place = Staging(250, keep_s=10.0, now=time, journal=journal)
    await send(place.open(header("a"), payload()), 3)
    time.now = 10.1
    place.carry()
    assert (place.num_bytes, known_from(journal.entries)) == (0, {})


class Busy(Remembered):
    """A journal whose disk gets a body carried while its stream waits for it."""

    place: Staging

    def __init__(self) -> None:
        super().__init__()
        self.waited_for: list[int] = []

    def append(self, entry: Entry) -> int:
        super().append(entry)
        return len(self.entries)

    async def written(self, ticket: int) -> None:
        if not self.waited_for:
            self.place.carry()
        self.waited_for.append(ticket)


async def test_a_body_is_applied_when_what_was_carried_of_it_is_written() -> None:
    """Else its answer would follow a body that the disk may have refused."""
    journal = Busy()
    journal.place = Staging(250, keep_s=10.0, now=Time(), journal=journal)
    staged = journal.place.open(header("a"), payload())
    await send(staged, 10)
    await staged.finish()
    assert journal.waited_for == [11, 13]
