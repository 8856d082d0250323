"""The device's process: the one place that knows every concrete class.

torch takes seconds to load, so nothing here imports it: the training thread does, while the
device joins the registry.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import structlog
import uvloop

from hocket.core.chance import Stream
from hocket.core.clock import Clock
from hocket.core.schedule import Schedule
from hocket.hosting.command import run_command
from hocket.hosting.folder import take_folder
from hocket.hosting.ready import remove_ready, write_ready
from hocket.hosting.settings import help_text, read_settings
from hocket.obs import logging
from hocket.rpc.aggregator_client import UNPACED, AggregatorClient
from hocket.rpc.channel import open_channel
from hocket.rpc.registry_client import RegistryClient
from hocket.rpc.transfer import Pacer
from hocket.rpc.wall_clock import WallClock
from hocket_device import cgroup
from hocket_device.ability import Ability
from hocket_device.agent import Agent, Workshop
from hocket_device.courier import Courier
from hocket_device.lease import LeaseHolder
from hocket_device.pace import Pace
from hocket_device.resources import Resources
from hocket_device.settings import Settings
from hocket_device.state import load_state
from hocket_device.throttle import DutyCycle, TokenBucket

COMMAND = "hocket-device"
PURPOSE = "Trains on this device until the task is over, SIGTERM or Ctrl-C. Variables:"
log = structlog.get_logger()


def main() -> int:
    """Take part until told to stop or done. Exit status 1: cannot go on; 2: wrong settings."""
    return run_command(COMMAND, lambda: help_text(Settings, COMMAND, PURPOSE), _work)


def _work() -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch loads: its threads are ours alone
    settings = read_settings(Settings)
    logging.configure("device", settings.log_level)
    uvloop.run(run(settings))


async def run(settings: Settings) -> None:
    """Take part until the task is over, SIGTERM or SIGINT. Raises HocketError."""
    with (
        take_folder(settings.state_dir, "device", "DEVICE_STATE_DIR"),
        ThreadPoolExecutor(1, thread_name_prefix="training") as thread,
    ):
        async with (
            open_channel(settings.registry) as to_registry,
            open_channel(settings.aggregator) as to_aggregator,
            _stop_signal() as stop,
        ):
            agent = compose(
                settings,
                RegistryClient(to_registry, settings.registry),
                AggregatorClient(to_aggregator, settings.aggregator),
                thread,
                Stream(secrets.randbits(63), "jitter").random,
            )
            try:
                await agent.run(stop, exit_when_finished=settings.exit_when_finished)
            finally:
                remove_ready(settings.ready_file)
    log.info("stopped")


def compose(
    settings: Settings,
    registry: RegistryClient,
    aggregator: AggregatorClient,
    thread: Executor,
    chance: Callable[[], float],
) -> Agent:
    """A device out of its parts; `chance` is uniform in [0, 1), for jitter.

    Raises StartupError or DataError for an unusable state folder.
    """
    state = load_state(settings.state_dir)
    clock = WallClock()
    pace = training_pace(settings)
    available = Schedule(default=True, steps=settings.available_schedule)
    ability = Ability(pace.resources, available, clock, keep=settings.keep)
    name = settings.device_id or state.device_id
    lease = LeaseHolder(
        registry, name, settings.labels, ability.now, clock, chance, ability.next_change_s
    )
    courier = Courier(
        aggregator,
        lease,
        clock,
        chance,
        up=_pacer(settings.up_bytes_per_s, clock),
        down=_pacer(settings.down_bytes_per_s, clock),
        tally=state.tally,
    )

    def prepare() -> Workshop:
        workshop: Workshop = importlib.import_module("hocket_device.workshop").open_workshop(
            settings, pace
        )
        return workshop

    return Agent(
        courier,
        lease,
        ability,
        prepare,
        pace.stop.set,
        thread,
        state,
        settings.state_dir,
        on_ready=_announcer(settings.ready_file, lease),
    )


def training_pace(settings: Settings) -> Pace:
    """What the training thread holds itself to, by the settings."""
    began = time.monotonic()
    schedule = Schedule(settings.processor_share, settings.share_schedule)

    def allowed_share() -> float:
        return schedule.at(time.monotonic() - began)

    def memory_bytes() -> int:
        return settings.memory_bytes or cgroup.memory_bytes()

    resources = Resources(allowed_share, memory_bytes=memory_bytes)
    stop = threading.Event()
    return Pace(DutyCycle(allowed_share, stop.wait), resources, stop)


def _announcer(file: Path | None, lease: LeaseHolder) -> Callable[[], None]:
    def announce() -> None:
        if file is not None:
            write_ready(file, {"device_id": lease.caller.device_id}, "DEVICE_READY_FILE")
        log.info("ready", device=lease.caller.device_id)

    return announce


def _pacer(bytes_per_s: float, clock: Clock) -> Pacer:
    return TokenBucket(bytes_per_s, clock) if bytes_per_s else UNPACED


@asynccontextmanager
async def _stop_signal() -> AsyncIterator[asyncio.Event]:
    """An event that SIGTERM and SIGINT set."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    try:
        yield stop
    finally:
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(signum)


if __name__ == "__main__":
    sys.exit(main())
