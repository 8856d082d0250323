from __future__ import annotations

from hocket_registry.batches import batches

from hocket.core.capability import Capability, CostLine
from hocket.core.device import Device, DeviceState
from hocket.core.ids import DeviceId, Incarnation
from hocket.core.link import Link
from hocket.rpc import convert
from hocket.v1 import registry_pb2 as pb

GRPC_LIMIT_BYTES = 4 * 1024 * 1024


def device(name: str, *, num_links: int = 0, num_costs: int = 0, num_labels: int = 0) -> Device:
    """A device whose every text is as long as it may be, in the widest characters."""
    return Device(
        DeviceId(name.rjust(64, "x")),
        Incarnation(2**62),
        DeviceState.ALIVE,
        Capability((CostLine(0.3, 0.1, 0.1),) * num_costs, 0.3, 2**62, 0.3, True, 2**62),
        tuple(
            Link(f"{n}".rjust(64, "p"), 1e9 / 3, 1e9 / 3, 0.1, 0.1, 2**62) for n in range(num_links)
        ),
        0.1,
        2**62,
        1e9 / 3,
        {f"{n}".rjust(64, "\N{SAXOPHONE}"): "\N{SAXOPHONE}" * 64 for n in range(num_labels)},
    )


def test_batches_keep_the_order_and_the_number_asked_for() -> None:
    devices = [device(str(at)) for at in range(7)]
    assert list(batches(devices, 3)) == [devices[:3], devices[3:6], devices[6:]]
    assert list(batches([], 3)) == []


def test_a_batch_of_the_largest_devices_fits_a_message() -> None:
    largest = device("0", num_links=1000, num_costs=64, num_labels=16)
    labelled = device("1", num_labels=16)
    for many in ([largest] * 50, [labelled] * 1000, [device("2")] * 1000):
        fits = list(batches(many, 1000))
        assert sum(map(len, fits)) == len(many)
        for batch in fits:
            message = pb.ListDevicesResponse(devices=map(convert.device_to_pb, batch))
            assert message.ByteSize() < GRPC_LIMIT_BYTES
    unbatched = pb.ListDevicesResponse(devices=map(convert.device_to_pb, [largest] * 50))
    assert unbatched.ByteSize() > GRPC_LIMIT_BYTES  # so the batches were needed
