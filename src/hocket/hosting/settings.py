"""Settings from the environment: read once, wrong ones told in one line, all of them in --help."""

from __future__ import annotations

from typing import TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsError

S = TypeVar("S", bound=BaseSettings)
SHOWN_CHARS = 80


class WrongSettings(Exception):
    """A variable holds what it must not. The message is one line and names it."""


def read_settings(kind: type[S]) -> S:
    """The settings of this process's environment. Raises WrongSettings."""
    try:
        return kind()
    except ValidationError as error:
        prefix = _prefix(kind)
        raise WrongSettings("; ".join(_complaint(e, prefix) for e in error.errors())) from error
    except SettingsError as error:  # no JSON where one belongs; the field is in quotes
        variable = _prefix(kind) + str(error).split('"')[1].upper()
        raise WrongSettings(f"{variable} is no valid JSON: {error.__cause__}") from error


def help_text(
    kind: type[BaseSettings], command: str, purpose: str, *others: tuple[str, str]
) -> str:
    """What a person reads who asks for help: every variable, its meaning and default.

    `others` are variables that are read elsewhere: name and meaning.
    """
    rows = [
        (f"{_prefix(kind)}{name.upper()}", field.description or "", _shown(field.default))
        for name, field in kind.model_fields.items()
    ]
    rows += [(name, meaning, _shown(None)) for name, meaning in others]
    width = max(len(variable) for variable, _, _ in rows)
    lines = [f"  {variable:<{width}}  {meaning} [{default}]" for variable, meaning, default in rows]
    return "\n".join([f"usage: {command}", "", purpose, "", *lines, ""])


def _prefix(kind: type[BaseSettings]) -> str:
    return kind.model_config.get("env_prefix", "")


def _shown(default: object) -> str:
    return "not set" if default is None else str(default)


def _complaint(error: ErrorDetails, prefix: str) -> str:
    message = error["msg"].removeprefix("Value error, ")
    if not error["loc"]:  # between two settings
        return message
    name = str(error["loc"][0])
    variable = name if name.isupper() else prefix + name.upper()
    return f"{variable} is {str(error['input'])[:SHOWN_CHARS]!r}: {message}"
