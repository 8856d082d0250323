"""Log lines on stderr: JSON of a service, text where a person looks on, messages of a command."""

from __future__ import annotations

import logging
import sys

import structlog


def configure(service: str, level: str = "info") -> None:
    """Set up structlog for this process; `service` is part of every line.

    `level` is one of debug, info, warning, error. Raises ValueError for any other.
    """
    levels = logging.getLevelNamesMapping()
    if level.upper() not in levels:
        raise ValueError(f"log level {level!r} is none of debug, info, warning, error")

    def with_service(
        _logger: object, _method: str, event: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        return {**event, "service": service}

    to_person = sys.stderr.isatty()
    renderers: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer()]
        if to_person
        else [structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            with_service,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *renderers,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(levels[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    # gRPC reports every cancelled stream of a device that went away as an error.
    logging.getLogger("grpc").setLevel(logging.CRITICAL)


def configure_command(name: str) -> None:
    """Set up structlog for a command: warnings on stderr, since stdout is what it was asked for."""

    def as_message(_logger: object, _method: str, event: structlog.typing.EventDict) -> str:
        level, what = event.pop("level"), event.pop("event")
        facts = ", ".join(f"{key} {value}" for key, value in event.items())
        return f"{name}: {level}: {what}" + (f": {facts}" if facts else "")

    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            as_message,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
