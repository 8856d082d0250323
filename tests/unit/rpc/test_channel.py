from __future__ import annotations

from hocket.rpc.channel import CHANNEL_OPTIONS, IDEMPOTENT, SERVER_OPTIONS
from hocket.v1 import aggregator_pb2, registry_pb2


def test_no_client_pings_more_often_than_a_server_allows() -> None:
    """Else the server answers GOAWAY "too_many_pings" (gRFC A8) and drops every stream."""
    client, server = dict(CHANNEL_OPTIONS), dict(SERVER_OPTIONS)
    allowed = server["grpc.http2.min_ping_interval_without_data_ms"]
    assert int(client["grpc.keepalive_time_ms"]) > int(allowed)
    assert client["grpc.keepalive_permit_without_calls"] == 1
    assert server["grpc.keepalive_permit_without_calls"] == 1


def test_what_is_retried_exists_and_is_unary() -> None:
    files = [registry_pb2.DESCRIPTOR, aggregator_pb2.DESCRIPTOR]
    services = {
        service.full_name: service for file in files for service in file.services_by_name.values()
    }
    for name, methods in IDEMPOTENT.items():
        for method in methods:
            found = services[name].methods_by_name[method]
            assert not found.client_streaming
            assert not found.server_streaming
