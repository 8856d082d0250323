"""Hostile bytes and messages: anything at all, and sound encodings that were tampered with.

A script is a few bytes that hypothesis draws; it says what to do to a sample, so that one cheap
draw serves many decoders, and a failing example shrinks to few changes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from hocket.errors import HocketError

T = TypeVar("T")

INPUTS = 2_000
FIXED = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=INPUTS,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)
scripts = st.binary(min_size=1, max_size=24)


def records(fewest: int, most: int, size: int) -> st.SearchStrategy[list[bytes]]:
    """So many scripts, of so many bytes each: a history of anything in one cheap draw."""

    def bytes_of(count: int) -> st.SearchStrategy[bytes]:
        return st.binary(min_size=size * count, max_size=size * count)

    def cut(script: bytes) -> list[bytes]:
        return [script[at : at + size] for at in range(0, len(script), size)]

    return st.integers(fewest, most).flatmap(bytes_of).map(cut)


HOSTILE: dict[int, Sequence[Any]] = {
    FieldDescriptor.CPPTYPE_DOUBLE: (math.nan, math.inf, -math.inf, -1.0, 0.0, 1e308, 5e-324, 2.0),
    FieldDescriptor.CPPTYPE_FLOAT: (math.nan, math.inf, -math.inf, -1.0, 0.0, 1e38, 1e-45, 2.0),
    FieldDescriptor.CPPTYPE_UINT64: (0, 1, 2**63 - 1, 2**63, 2**64 - 1, 2**40 + 1),
    FieldDescriptor.CPPTYPE_INT64: (0, -1, -(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 1, 2**31, 2**32 - 1),
    FieldDescriptor.CPPTYPE_INT32: (0, -1, -(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_ENUM: (0, 1, 2, 99, -1, 2**31 - 1),
    FieldDescriptor.CPPTYPE_BOOL: (False, True),
    FieldDescriptor.CPPTYPE_STRING: ("", "\0", "\n", "ü" * 70, "x" * 5000, "a/b", "\U0001f3b5"),
}


def samples(words: st.SearchStrategy[T], count: int = 12) -> list[T]:
    """The same few values of a strategy each time."""
    found: list[T] = []

    @settings(FIXED, max_examples=count)
    @given(words)
    def collect(word: T) -> None:
        found.append(word)

    collect()
    return found


def typed(decode: Callable[[], T], *contract: type[Exception]) -> T | None:
    """What a decoder makes of it, or None for a typed error. Any other exception passes."""
    try:
        return decode()
    except HocketError:
        return None
    except contract:
        return None


def accepts(take: Callable[[], object], *contract: type[Exception]) -> bool:
    """Whether a decoder took it, rather than refuse it with a typed error."""

    def attempt() -> bool:
        take()
        return True

    return typed(attempt, *contract) or False


def tampered(sample: bytes, script: bytes) -> bytes:
    """By its first byte: the script itself, or the sample cut, extended or changed in places."""
    how, rest = script[0] % 8, script[1:]
    if how == 0:
        return rest
    if how == 1:
        return sample[: _place(rest, len(sample) + 1)]
    if how == 2:
        at = _place(rest, len(sample) + 1)
        return sample[:at] + rest + sample[at:]
    changed = bytearray(sample)
    for first, second, value in _triples(rest):
        if changed:
            at = (first * 256 + second) % len(changed)
            changed[at] = value if how < 6 else changed[at] ^ (1 << value % 8)
    return bytes(changed)


def disturbed(sample: Message, script: bytes) -> Message:
    """A copy in which some fields, however deep, hold what no honest peer would send."""
    message = type(sample)()
    message.CopyFrom(sample)
    for first, second, value in _triples(script + b"\1\2"):
        places = list(_places(message))
        if not places:
            break
        owner, field = places[(first * 256 + second) % len(places)]
        _disturb(owner, field, value)
    return message


def _triples(script: bytes) -> Iterator[tuple[int, int, int]]:
    return zip(script[::3], script[1::3], script[2::3], strict=False)


def _place(script: bytes, size: int) -> int:
    return int.from_bytes(script[:2], "big") % size


def _places(message: Message) -> Iterator[tuple[Message, FieldDescriptor]]:
    for field in message.DESCRIPTOR.fields:
        yield message, field
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        if field.is_repeated:
            for each in getattr(message, field.name)[:3]:
                yield from _places(each)
        elif message.HasField(field.name):
            yield from _places(getattr(message, field.name))


def _disturb_values(owner: Message, value: int) -> None:
    """Of a map whose values are messages: each field of a new one."""
    for field in owner.DESCRIPTOR.fields:
        _disturb(owner, field, value)


def _disturb(owner: Message, field: FieldDescriptor, value: int) -> None:
    held = getattr(owner, field.name)
    if value % 4 == 0:
        owner.ClearField(field.name)
    elif field.message_type is not None and field.message_type.GetOptions().map_entry:
        inner = field.message_type.fields_by_name["value"]
        if inner.message_type is not None:
            _disturb_values(held[HOSTILE[FieldDescriptor.CPPTYPE_STRING][value % 7]], value)
            return
        kind = inner.cpp_type
        text = kind == FieldDescriptor.CPPTYPE_STRING
        hostile = ["x" * value * 3] if text else HOSTILE[kind]
        held[HOSTILE[FieldDescriptor.CPPTYPE_STRING][value % 7]] = hostile[value % len(hostile)]
    elif field.is_repeated and field.message_type is not None:
        held.extend([held[0]] * (value * 8) if held else [field.message_type._concrete_class()])
    elif field.message_type is not None:
        held.SetInParent()
    elif field.type == FieldDescriptor.TYPE_BYTES:
        setattr(owner, field.name, bytes(value))
    else:
        hostile = HOSTILE[field.cpp_type]
        chosen = hostile[value // 4 % len(hostile)]
        if field.is_repeated:
            held.extend([chosen] * (1 + value % 9))
        else:
            setattr(owner, field.name, chosen)
