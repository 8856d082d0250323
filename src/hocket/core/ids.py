"""Names of things that cross every layer."""

from __future__ import annotations

from typing import NewType

DeviceId = NewType("DeviceId", str)
"""A device's lasting name: 1 to 64 characters of letters, digits, '.', '_' and '-'."""

UpdateId = NewType("UpdateId", str)
"""A push's name, chosen by the device, never reused: the key of exactly-once."""

Version = NewType("Version", int)
"""Number of a global model. The first is 1; each server step adds 1."""

Incarnation = NewType("Incarnation", int)
"""Counts a device's joins, so that a restarted device is not its own ghost. The first is 1."""

FIRST_VERSION = Version(1)
