"""How both sides of a connection are set up: keepalive that matches, retries, small messages."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final

import grpc

KEEPALIVE_TIME_S = 20
KEEPALIVE_TIMEOUT_S = 10
RECONNECT_FIRST_S = 0.25
RECONNECT_LONGEST_S = 5
DEADLINE_S = 10.0  # of every unary call

# Calls that may run twice without harm. PushUpdate is retried by the device, which knows the
# offset; Join takes a new incarnation each time.
IDEMPOTENT: Final[Mapping[str, Sequence[str]]] = {
    "hocket.v1.RegistryService": ("Heartbeat", "ReportLinks", "ListDevices", "GetLinks"),
    "hocket.v1.AggregatorService": ("GetTask", "ListVersions", "GetLineage", "GetStatus"),
}
_RETRY_POLICY: Final = {
    "maxAttempts": 4,
    "initialBackoff": "0.2s",  # gRPC draws each delay from 0.8 to 1.2 times its value
    "maxBackoff": "2s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}
_SERVICE_CONFIG: Final = {
    "methodConfig": [
        {
            "name": [
                {"service": service, "method": method}
                for service, methods in IDEMPOTENT.items()
                for method in methods
            ],
            "retryPolicy": _RETRY_POLICY,
        }
    ]
}

Options = tuple[tuple[str, str | int], ...]
_KEEPALIVE: Final[Options] = (
    ("grpc.keepalive_time_ms", KEEPALIVE_TIME_S * 1000),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_S * 1000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
)
CHANNEL_OPTIONS: Final[Options] = (
    *_KEEPALIVE,
    ("grpc.initial_reconnect_backoff_ms", int(RECONNECT_FIRST_S * 1000)),
    ("grpc.min_reconnect_backoff_ms", int(RECONNECT_FIRST_S * 1000)),
    ("grpc.max_reconnect_backoff_ms", RECONNECT_LONGEST_S * 1000),
    ("grpc.use_local_subchannel_pool", 1),  # two channels of one process share no connection
    ("grpc.enable_retries", 1),
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
)
SERVER_OPTIONS: Final[Options] = (
    *_KEEPALIVE,
    # Twice as often as our own clients ping, so that none is ever sent away for it.
    ("grpc.http2.min_ping_interval_without_data_ms", KEEPALIVE_TIME_S * 500),
    ("grpc.so_reuseport", 0),  # a port in use is an error, not a coin toss between two servers
)


# A proxy that the environment names is for the world outside, never for this machine.
NO_PROXY: Final[Options] = (("grpc.enable_http_proxy", 0),)
_THIS_MACHINE = ("localhost:", "127.", "[::1]:")


def open_channel(address: str) -> grpc.aio.Channel:
    """A channel to `host:port`. It connects on the first call; use it as a context manager."""
    options = CHANNEL_OPTIONS
    if address.startswith(_THIS_MACHINE):
        options += NO_PROXY
    return grpc.aio.insecure_channel(address, options=options)
