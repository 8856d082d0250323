"""registry.proto <-> core: devices and the filter for them."""

from __future__ import annotations

from hocket.core.device import Device, DeviceFilter, DeviceState
from hocket.rpc.convert import checks
from hocket.rpc.convert.types import (
    capability_from_pb,
    capability_to_pb,
    link_to_pb,
    links_from_pb,
)
from hocket.v1 import registry_pb2 as pb

MAX_FILTER_IDS = 10_000


def device_to_pb(device: Device) -> pb.Device:
    """A device's record."""
    return pb.Device(
        device_id=device.device_id,
        incarnation=device.incarnation,
        state=pb.DeviceState.ValueType(device.state.value),
        capability=capability_to_pb(device.capability),
        links=map(link_to_pb, device.links),
        lease_left_s=device.lease_left_s,
        revision=device.revision,
        joined_unix_s=device.joined_unix_s,
        labels=device.labels,
    )


def device_from_pb(message: pb.Device) -> Device:
    """A device's record."""
    return Device(
        checks.device_id("device.device_id", message.device_id),
        checks.incarnation("device.incarnation", message.incarnation),
        checks.member("device.state", message.state, DeviceState),
        capability_from_pb(message.capability),
        links_from_pb(message.links),
        checks.not_negative("device.lease_left_s", message.lease_left_s),
        checks.count("device.revision", message.revision),
        checks.not_negative("device.joined_unix_s", message.joined_unix_s),
        checks.labels("device.labels", message.labels),
    )


def device_filter_to_pb(which: DeviceFilter) -> pb.DeviceFilter:
    """A filter; the sets come out in order, so that equal filters are equal bytes."""
    return pb.DeviceFilter(
        device_ids=sorted(which.device_ids),
        states=[pb.DeviceState.ValueType(state.value) for state in sorted(which.states)],
        available_only=which.available_only,
        min_processor_share=which.min_processor_share,
        min_memory_bytes=which.min_memory_bytes,
        min_up_bytes_per_s=which.min_up_bytes_per_s,
        min_down_bytes_per_s=which.min_down_bytes_per_s,
        labels=which.labels,
    )


def device_filter_from_pb(message: pb.DeviceFilter) -> DeviceFilter:
    """A filter; an absent one lets every device through."""
    checks.count("the number of filter.device_ids", len(message.device_ids), most=MAX_FILTER_IDS)
    return DeviceFilter(
        frozenset(checks.device_id("filter.device_ids", each) for each in message.device_ids),
        frozenset(checks.member("filter.states", each, DeviceState) for each in message.states),
        message.available_only,
        checks.share("filter.min_processor_share", message.min_processor_share),
        checks.count("filter.min_memory_bytes", message.min_memory_bytes),
        checks.not_negative("filter.min_up_bytes_per_s", message.min_up_bytes_per_s),
        checks.not_negative("filter.min_down_bytes_per_s", message.min_down_bytes_per_s),
        checks.labels("filter.labels", message.labels),
    )
