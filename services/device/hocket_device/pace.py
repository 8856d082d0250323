"""How fast the training thread may go, and how it is timed and stopped."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from hocket_device.resources import Resources
from hocket_device.throttle import DutyCycle


@dataclass(frozen=True, slots=True)
class Pace:
    """What one training thread holds itself to."""

    duty: DutyCycle
    resources: Resources
    stop: threading.Event = field(default_factory=threading.Event)  # ends training for good
    now: Callable[[], float] = time.monotonic
    busy_s: Callable[[], float] = time.thread_time
