"""Checks of single fields that came over the wire. A refusal names the field and its value."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from enum import IntEnum
from typing import TypeVar

from hocket.core.ids import DeviceId, Incarnation, UpdateId, Version
from hocket.errors import InvalidRequest

LARGEST_COUNT = 2**63 - 1  # what every database holds
LONGEST_ID = 64
LONGEST_TEXT = 1000
LONGEST_WHY = 200  # of a device's reason for its size
MAX_LABELS = 16
LONGEST_LABEL = 64
DEFAULT_PAGE = 100
LARGEST_PAGE = 1000
_DEVICE_ID = re.compile(rf"[A-Za-z0-9._-]{{1,{LONGEST_ID}}}")

E = TypeVar("E", bound=IntEnum)


def refused(field: str, value: object, wanted: str) -> InvalidRequest:
    """The error that says which field must be what.

    A message has hundreds of fields (a payload of ResNet18, 500): what is checked most does not
    even put together what would be `wanted` before something is wrong.
    """
    shown = repr(value)
    shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
    return InvalidRequest(f"{field} is {shown}: it must be {wanted}", field=field)


def require(ok: bool, field: str, value: object, wanted: str) -> None:
    """Raise InvalidRequest unless `ok`; the message says which field must be what."""
    if not ok:
        raise refused(field, value, wanted)


def present(field: str, ok: bool) -> None:
    """Raise InvalidRequest when a message that must be there is absent."""
    if not ok:
        raise InvalidRequest(f"{field} is missing: it must be set", field=field)


def text(field: str, value: str, longest: int = LONGEST_TEXT) -> str:
    """Text of at most `longest` characters, maybe empty."""
    require(len(value) <= longest, field, value, f"at most {longest} characters")
    return value


def line(field: str, value: str, longest: int) -> str:
    """Printable text of at most `longest` characters, maybe empty: it is shown in terminals."""
    fine = len(value) <= longest and value.isprintable()
    require(fine, field, value, f"at most {longest} printable characters")
    return value


def name(field: str, value: str, longest: int) -> str:
    """Printable text of 1 to `longest` characters."""
    if not (1 <= len(value) <= longest and value.isprintable()):
        raise refused(field, value, f"1 to {longest} printable characters")
    return value


def device_id(field: str, value: str) -> DeviceId:
    """A device's name."""
    wanted = f"1 to {LONGEST_ID} letters, digits, '.', '_' or '-'"
    require(_DEVICE_ID.fullmatch(value) is not None, field, value, wanted)
    return DeviceId(value)


def update_id(field: str, value: str) -> UpdateId:
    """An update's name."""
    return UpdateId(name(field, value, LONGEST_ID))


def labels(field: str, value: Mapping[str, str]) -> dict[str, str]:
    """At most 16 labels of at most 64 characters each side."""
    require(len(value) <= MAX_LABELS, field, len(value), f"at most {MAX_LABELS} labels")
    return {
        name(f"{field} key", key, LONGEST_LABEL): text(f"{field}[{key!r}]", label, LONGEST_LABEL)
        for key, label in value.items()
    }


def count(field: str, value: int, least: int = 0, most: int = LARGEST_COUNT) -> int:
    """A whole number in `least` to `most`."""
    if not least <= value <= most:
        raise refused(field, value, f"a whole number in {least} to {most}")
    return value


def version(field: str, value: int, least: int = 0) -> Version:
    """A global model's number; 0 where it may stand for none."""
    return Version(count(field, value, least))


def incarnation(field: str, value: int) -> Incarnation:
    """A device's incarnation, from 1."""
    return Incarnation(count(field, value, least=1))


def real(field: str, value: float) -> float:
    """A finite number."""
    require(math.isfinite(value), field, value, "a finite number")
    return value


def not_negative(field: str, value: float) -> float:
    """A finite number from 0 up."""
    require(math.isfinite(value) and value >= 0, field, value, "a finite number, at least 0")
    return value


def positive(field: str, value: float) -> float:
    """A finite number above 0."""
    require(math.isfinite(value) and value > 0, field, value, "a finite number above 0")
    return value


def share(field: str, value: float) -> float:
    """A number in [0, 1]."""
    require(0 <= value <= 1, field, value, "in [0, 1]")
    return value


def positive_share(field: str, value: float) -> float:
    """A number in (0, 1]."""
    require(0 < value <= 1, field, value, "above 0 and at most 1")
    return value


def member(field: str, value: int, kind: type[E]) -> E:
    """A named value of an enum; UNSPECIFIED and unknown numbers are refused."""
    try:
        return kind(value)
    except ValueError:
        known = ", ".join(f"{each.name} ({each.value})" for each in kind)
        raise refused(field, value, f"one of {known}") from None


def page_size(value: int) -> int:
    """How many rows a page holds: 1 to 1000, and 100 where the caller left it open."""
    return count("page_size", value, least=0, most=LARGEST_PAGE) or DEFAULT_PAGE
