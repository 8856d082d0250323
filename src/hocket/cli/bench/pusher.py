"""Devices that push as fast as they are answered, in a process of their own with one event loop.

They are clients as anybody could write one: they join the registry, pull and push through the same
calls. One more takes version 1 to train from and never pushes, as slow devices do, so that the base
of all these updates stays.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from hocket.cli.bench import processor
from hocket.cli.bench.cases import Coding
from hocket.cli.bench.closed_loop import Ran, closed_loop
from hocket.cli.bench.worker import JSON, work
from hocket.core.capability import Capability
from hocket.core.device import Caller
from hocket.core.ids import FIRST_VERSION, UpdateId
from hocket.core.payload import Payload
from hocket.core.update import Applied, UpdateHeader
from hocket.errors import CorruptState, UpdateDropped
from hocket.rpc.aggregator_client import AggregatorClient
from hocket.rpc.channel import open_channel
from hocket.rpc.registry_client import RegistryClient

if TYPE_CHECKING:
    from hocket.rpc.transfer import PulledModel

DISTINCT = 4  # payloads; each is used again and again under new ids
SAMPLES = 200  # of the server's memory
WARM_UP = 2  # pushes of each stream before the clock starts
CHANGED = {Coding.RAW: 0.9, Coding.TOPK: 0.005}  # least share of a model's values that moved


@dataclass(frozen=True, slots=True)
class PushJob:
    """Whom to push to, and how much."""

    registry: str
    aggregator: str
    aggregator_pid: int
    coding: str
    streams: int
    updates: int
    seconds: float  # after so many no push begins
    seed: int = 1

    def as_json(self) -> JSON:
        """For the worker."""
        return asdict(self)


class Pusher:
    """One device of the bench."""

    def __init__(self, client: AggregatorClient, caller: Caller) -> None:
        self._client = client
        self._caller = caller
        self._sent = 0

    async def push(self, payload: Payload) -> None:
        """Push once more. Raises UpdateDropped unless it became a version of its own."""
        self._sent += 1
        header = UpdateHeader(
            UpdateId(f"{self._caller.device_id}-{self._sent}"),
            self._caller.device_id,
            self._caller.incarnation,
            FIRST_VERSION,
            num_examples=32,
            num_steps=1,
            learning_rate=0.1,
        )
        pushed = await self._client.push(header, payload)
        if not isinstance(pushed.outcome, Applied):
            raise UpdateDropped(f"update {header.update_id} came to {pushed.outcome}")


async def push_all(told: JSON) -> JSON:
    """Push, check that all of it was applied, and tell what it took."""
    job = PushJob(**told)
    coding = Coding(job.coding)
    async with AsyncExitStack() as channels:
        registry = RegistryClient(await channels.enter_async_context(open_channel(job.registry)))
        clients = [
            AggregatorClient(await channels.enter_async_context(open_channel(job.aggregator)))
            for _ in range(job.streams)
        ]
        first = await _keep_first(registry, clients[0])
        payloads = await _payloads(clients[0], coding, job.seed)
        pushers = [Pusher(client, await _join(registry, "pusher")) for client in clients]

        async def transfer(stream: int, number: int) -> None:
            await pushers[stream].push(payloads[number % len(payloads)])

        warm_up = WARM_UP * job.streams
        await closed_loop(transfer, streams=job.streams, count=warm_up)
        watch = Watch(job.aggregator_pid, max(1, job.updates // SAMPLES))
        ran = await closed_loop(
            transfer,
            streams=job.streams,
            count=job.updates,
            seconds=job.seconds,
            done=watch.sample,
        )
        cost = watch.cost(ran)
        pushes = warm_up + len(ran.latencies_s)
        status = await clients[0].get_status()
        if (status.version, status.updates_accepted) != (FIRST_VERSION + pushes, pushes):
            raise CorruptState(
                f"{pushes} updates were acknowledged, but the newest version is {status.version} "
                f"of {status.updates_accepted} updates"
            )
        await _check_changed(clients[0], first, coding)
    return cost | {
        "pushes": pushes,
        "wire_bytes": payloads[0].header.wire_bytes,
        "model_bytes": first.payload.header.unpacked_bytes,
        "version": status.version,
        "digest": status.digest,
    }


class Watch:
    """Looks at the server after every so many pushes."""

    def __init__(self, pid: int, every: int) -> None:
        self._pid = pid
        self._every = every
        self._points: list[tuple[float, float]] = []
        self._server_cpu_s = processor.cpu_s(pid)
        self._client_cpu_s = time.process_time()

    def sample(self, updates: int) -> None:
        """So many updates have been answered."""
        if updates % self._every == 0:
            self._points.append((float(updates), float(processor.rss_bytes(self._pid))))

    def cost(self, ran: Ran) -> JSON:
        """What the pushes took; of processor time, each process's."""
        count = len(ran.latencies_s)
        server_cpu_s = processor.cpu_s(self._pid) - self._server_cpu_s
        client_cpu_s = time.process_time() - self._client_cpu_s
        return {
            "updates": count,
            "seconds": ran.seconds,
            "p50_ms": ran.percentile_ms(0.5),
            "p99_ms": ran.percentile_ms(0.99),
            "server_cpu_ms_per_update": 1e3 * server_cpu_s / count,
            "client_cpu_ms_per_update": 1e3 * client_cpu_s / count,
            "rss_peak_bytes": processor.rss_peak_bytes(self._pid),
            "rss_slope_bytes_per_update": processor.settled_slope(self._points),
        }


async def _join(registry: RegistryClient, role: str) -> Caller:
    joined = await registry.join(Capability(num_examples=32), labels={"bench": role})
    return joined.caller


async def _keep_first(registry: RegistryClient, client: AggregatorClient) -> PulledModel:
    """Version 1, taken by a device that will never push."""
    terms = await client.get_task()
    keeper = await _join(registry, "keeper")
    first = await client.pull(
        keeper, limit_bytes=terms.down_bytes, version=FIRST_VERSION, for_training=True
    )
    if first is None:
        raise CorruptState(f"version {FIRST_VERSION} was not sent")
    return first


async def _payloads(client: AggregatorClient, coding: Coding, seed: int) -> Sequence[Payload]:
    from hocket.cli.bench.payloads import make_payloads  # noqa: PLC0415 -- torch takes seconds

    terms = await client.get_task()
    return make_payloads(terms.manifest, coding, DISTINCT, seed)


async def _check_changed(client: AggregatorClient, first: PulledModel, coding: Coding) -> None:
    """Raise CorruptState if the newest model is not another one than the first, and finite."""
    import numpy as np  # noqa: PLC0415 -- as torch

    body = first.payload.body
    newest = await client.pull(None, limit_bytes=memoryview(body).nbytes)
    if newest is None:
        raise CorruptState("the newest version was not sent")
    before, after = (np.frombuffer(memoryview(b), "<f4") for b in (body, newest.payload.body))
    changed = float(np.mean(before != after))
    if changed < CHANGED[coding] or not np.isfinite(after).all():
        raise CorruptState(
            f"after all updates {changed:.1%} of the model's values have changed; "
            f"{CHANGED[coding]:.1%} or more were to be expected, all finite"
        )


if __name__ == "__main__":
    sys.exit(work(push_all))
