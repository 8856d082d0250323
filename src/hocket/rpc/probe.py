"""A health check for containers: `python -m hocket.rpc.probe ADDRESS [SERVICE]`.

Exits with 0 if the service says SERVING, else says why and exits with 1. Plain gRPC without the
services' own clients, so that it starts fast and costs little every few seconds.
"""

from __future__ import annotations

import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from hocket.rpc.channel import NO_PROXY

TIMEOUT_S = 3.0
USAGE = "usage: python -m hocket.rpc.probe ADDRESS [SERVICE]"


def probe(address: str, service: str = "") -> str:
    """Why the service cannot be used; empty if it can."""
    with grpc.insecure_channel(address, options=NO_PROXY) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            return f"{address}: {error.code().name}"
    if answer.status == health_pb2.HealthCheckResponse.SERVING:
        return ""
    return f"{address}: {health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)}"


def main(arguments: list[str]) -> int:
    """Exit status of the command."""
    if len(arguments) not in (1, 2):
        sys.stderr.write(f"{USAGE}\n")
        return 2
    trouble = probe(*arguments)
    if trouble:
        sys.stderr.write(f"{trouble}\n")
    return 1 if trouble else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
