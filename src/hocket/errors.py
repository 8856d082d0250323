"""Every error Hocket raises on purpose. Each message says what is wrong, where, and what to do.

HocketError
├── InvalidUpdate            an update contradicts itself or the model it is meant for
│   ├── NotFinite            it holds NaN or infinite values
│   ├── ShapeMismatch        a tensor's name, shape or dtype differs from the manifest
│   └── CorruptPayload       a checksum, length or encoding does not add up
├── PayloadTooLarge          a payload claims, or unpacks to, more than the manifest allows
├── UnknownVersion           the base version is not retained here; pull the model anew
├── UpdateDropped            the update came whole and sound, and is not used; pull and train anew
│   └── TooStale             it is older than the staleness limit
├── UnknownDevice            the sender holds no live lease; join again
├── StaleIncarnation         a newer incarnation of this device has joined; this one must stop
├── Overloaded               the service sheds load; retry after `retry_after_s`
│   └── StorageFull          its disk has no room; nothing was kept, retry later
├── Unavailable              the service cannot be reached or is shutting down; retry
├── NotFound                 the version, device or update asked for does not exist
├── InvalidRequest           a request's field is missing, malformed or out of range
├── TaskError                a task file, or what it names, is wrong
│   ├── ModelError           the model cannot be imported, built or sliced
│   └── DataError            the data cannot be found or read
├── StorageFailed            a disk does not take or give back what it should; the service stops
├── RulesFailed              the rules broke in mid-event; the service goes back to what is stored
├── CorruptState             what a service stored is damaged; the message names file and offset
└── StartupError             a service cannot start: port in use, folder not writable
"""

from __future__ import annotations


class HocketError(Exception):
    """Root of the tree. `reason` is the stable upper-snake-case name that crosses the wire."""

    reason = "HOCKET_ERROR"

    def __init__(self, message: str, **details: str) -> None:
        super().__init__(message)
        self.message = message
        self.details = details


class InvalidUpdate(HocketError):
    """An update contradicts itself or the model it is meant for. Discard it."""

    reason = "INVALID_UPDATE"


class NotFinite(InvalidUpdate):
    """An update holds NaN or infinite values. Lower the learning rate or clip, and train again."""

    reason = "NOT_FINITE"


class ShapeMismatch(InvalidUpdate):
    """A tensor's name, shape or dtype differs from the manifest. Call GetTask and compare."""

    reason = "SHAPE_MISMATCH"


class CorruptPayload(InvalidUpdate):
    """A checksum, a length or an encoding does not add up. Encode and push again."""

    reason = "CORRUPT_PAYLOAD"


class PayloadTooLarge(HocketError):
    """A payload claims, or unpacks to, more than the manifest allows. Nothing was kept."""

    reason = "PAYLOAD_TOO_LARGE"


class UnknownVersion(HocketError):
    """The base version is not retained here. Pull the model and train anew."""

    reason = "UNKNOWN_VERSION"


class UpdateDropped(HocketError):
    """The update came whole and sound, and is not used. Pull the model and train anew.

    Dropping is an outcome, not a refusal, so it crosses the wire as one: clients raise this.
    """

    reason = "UPDATE_DROPPED"


class TooStale(UpdateDropped):
    """The update is older than the staleness limit. Pull the model and train anew."""

    reason = "TOO_STALE"


class UnknownDevice(HocketError):
    """The sender holds no live lease. Join the registry again."""

    reason = "UNKNOWN_DEVICE"


class StaleIncarnation(HocketError):
    """A newer incarnation of this device has joined. The older process must stop."""

    reason = "STALE_INCARNATION"


class Overloaded(HocketError):
    """The service sheds load. Retry after `retry_after_s`."""

    reason = "OVERLOADED"

    def __init__(self, message: str, retry_after_s: float = 1.0, **details: str) -> None:
        super().__init__(message, **details)
        self.retry_after_s = retry_after_s


class StorageFull(Overloaded):
    """The service's disk has no room. Nothing was kept; retry after `retry_after_s`."""

    reason = "STORAGE_FULL"


class Unavailable(HocketError):
    """The service cannot be reached or is shutting down. Retry with jitter."""

    reason = "UNAVAILABLE"


class NotFound(HocketError):
    """The version, device or update asked for does not exist."""

    reason = "NOT_FOUND"


class InvalidRequest(HocketError):
    """A request's field is missing, malformed or out of range."""

    reason = "INVALID_REQUEST"


class TaskError(HocketError):
    """A task file, or what it names, is wrong. The message names file and key."""

    reason = "TASK_ERROR"


class ModelError(TaskError):
    """The model cannot be imported, built or sliced."""

    reason = "MODEL_ERROR"


class DataError(TaskError):
    """The data cannot be found or read."""

    reason = "DATA_ERROR"


class StorageFailed(HocketError):
    """A disk does not take or give back what it should. The service stops: nothing is lost."""

    reason = "STORAGE_FAILED"


class RulesFailed(HocketError):
    """The rules broke while they took an event in. The service stops: what it stored is sound."""

    reason = "RULES_FAILED"


class CorruptState(HocketError):
    """What a service stored is damaged. The message names the file, and the offset within."""

    reason = "CORRUPT_STATE"


class StartupError(HocketError):
    """A service cannot start: a port in use, a folder that is not writable."""

    reason = "STARTUP_ERROR"
