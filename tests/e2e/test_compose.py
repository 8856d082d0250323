"""docker-compose.yml as a person runs it: built, started, hit, trained to a target, stopped.

One system for all tests, in this order. HOCKET_REGISTRY_PORT and HOCKET_AGGREGATOR_PORT move it out
of the way of another one.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.containers import Compose, NoEngine, docker, find_compose, run, until

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
HOCKET = Path(sys.executable).with_name("hocket")
DEVICES = {"workstation", "phone", "sensor"}
SERVICES = {"registry", "aggregator"} | DEVICES
BATCH_SIZE = 16  # of the digits task
HEALTHY_LIMIT_S = 120.0
TRAINED_LIMIT_S = 240.0
TARGET_ACCURACY = 0.9


@dataclass(frozen=True, slots=True)
class System:
    """The running containers, and how the host reaches them."""

    compose: Compose
    registry: str
    aggregator: str
    events: list[dict[str, Any]]  # what the engine did while it started them, oldest first

    def hocket(self, command: str) -> Any:
        """What the host's `hocket` finds out through the published ports."""
        where = ["--registry", self.registry, "--aggregator", self.aggregator]
        return json.loads(run([str(HOCKET), command, *where, "--format", "json"]))

    def moment(self, service: str, action: str) -> int:
        """When it first did this, in nanoseconds since 1970."""
        return next(
            int(event["timeNano"])
            for event in self.events
            if event["Actor"]["Attributes"].get("com.docker.compose.service") == service
            and event["Action"] == action
        )

    def all_healthy(self) -> bool | None:
        health = {name: state["State"] for name, state in self.compose.states().items()}
        well = {name for name, state in health.items() if state["Health"]["Status"] == "healthy"}
        return True if well == SERVICES else None

    def snapshot_version(self) -> int:
        """Of the newest file that the aggregator has written."""
        names = self.compose.execute("aggregator", "ls", "/var/lib/hocket/versions").split()
        return max(int(name.split(".")[0]) for name in names if name.endswith(".safetensors"))


@pytest.fixture(scope="module")
def system(request: pytest.FixtureRequest) -> Iterator[System]:
    """Everything up and healthy; the logs are shown if a test fails, and nothing stays behind."""
    try:
        command = find_compose()
    except NoEngine as error:
        pytest.fail(str(error))
    ports = {
        "HOCKET_REGISTRY_PORT": os.environ.get("HOCKET_REGISTRY_PORT", "50051"),
        "HOCKET_AGGREGATOR_PORT": os.environ.get("HOCKET_AGGREGATOR_PORT", "50052"),
    }
    often = {"AGGREGATOR_SNAPSHOT_EVERY_S": "2", "HOCKET_TASK": "./tests/e2e/digits.toml"}
    compose = Compose(command, ROOT / "docker-compose.yml", "hocket-e2e", ports | often)
    failed_before = request.session.testsfailed
    try:
        compose.down()  # what a killed run has left
        compose.build()
        began = time.time()
        compose.up()
        events = engine_events(compose.project, began)
        registry, aggregator = (f"127.0.0.1:{port}" for port in ports.values())
        running = System(compose, registry, aggregator, events)
        until(HEALTHY_LIMIT_S, "all services healthy", running.all_healthy)
        yield running
    except BaseException:
        show(request, compose.logs())
        raise
    else:
        if request.session.testsfailed > failed_before:
            show(request, compose.logs())
    finally:
        compose.down()


def engine_events(project: str, began: float) -> list[dict[str, Any]]:
    """Starts and changes of health of the project's containers since `began`."""
    filters = ["type=container", f"label=com.docker.compose.project={project}"]
    filters += ["event=start", "event=health_status"]
    arguments = [argument for one in filters for argument in ("--filter", one)]
    period = ["--since", f"{began:.3f}", "--until", f"{time.time():.3f}"]
    answer = docker("events", *period, *arguments, "--format", "{{json .}}")
    return [json.loads(line) for line in answer.splitlines()]


def show(request: pytest.FixtureRequest, text: str) -> None:
    """Print past pytest's capture, which belongs to one test and not to the system."""
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        sys.stderr.write(f"\n{text}\n")


def test_each_service_starts_once_those_it_needs_are_healthy(system: System) -> None:
    healthy = "health_status: healthy"
    assert system.moment("registry", healthy) < system.moment("aggregator", "start")
    for device in DEVICES:
        assert system.moment("aggregator", healthy) < system.moment(device, "start")


def test_no_process_is_root_or_can_become_it(system: System) -> None:
    for service, state in system.compose.states().items():
        _titles, *rows = docker("top", state["Id"], "-eo", "pid,uid").splitlines()
        assert {row.split()[1] for row in rows} == {"10001"}, service
        assert state["HostConfig"]["CapDrop"] == ["ALL"], service
        assert state["HostConfig"]["ReadonlyRootfs"], service


def test_the_registry_holds_no_torch(system: System) -> None:
    program = (
        "from importlib.util import find_spec as find;"
        "print([name for name in ('torch', 'numpy', 'hocket') if find(name)])"
    )
    assert system.compose.execute("registry", "python", "-c", program).strip() == "['hocket']"
    assert "torch" in system.compose.execute("phone", "python", "-c", program)


def test_a_killed_aggregator_goes_on_from_its_snapshot(system: System) -> None:
    def saved() -> int | None:
        version = system.snapshot_version()
        return version if version > 1 else None

    saved_version = until(TRAINED_LIMIT_S, "a snapshot of a trained version", saved)
    assert not system.hocket("status")["finished_reason"], "the task was over too soon to interrupt"
    # To every process but the container's first, which is the init that reports it.
    system.compose.execute("aggregator", "sh", "-c", "kill -KILL -1")

    def restarted() -> bool | None:
        state = system.compose.states()["aggregator"]
        return True if state["RestartCount"] == 1 and state["State"]["Running"] else None

    until(HEALTHY_LIMIT_S, "the aggregator started again", restarted)
    until(HEALTHY_LIMIT_S, "all services healthy again", system.all_healthy)
    resumed = system.hocket("status")
    assert resumed["version"] >= saved_version

    def advanced() -> bool | None:
        now = system.hocket("status")
        if now["version"] > resumed["version"]:
            return True
        assert not now["finished_reason"], "the task ended without a version after the restart"
        return None

    until(TRAINED_LIMIT_S, "a version after the restart", advanced)


def test_it_trains_to_the_target(system: System) -> None:
    def reached() -> dict[str, Any] | None:
        status: dict[str, Any] = system.hocket("status")
        accuracy = (status["evaluation"] or {}).get("test_accuracy", 0.0)
        if accuracy >= TARGET_ACCURACY:
            return status
        judged = status["evaluated_version"] == status["version"]
        assert not (status["finished_reason"] and judged), f"the task ended at {accuracy:.3f}"
        return None

    status = until(TRAINED_LIMIT_S, f"an accuracy of {TARGET_ACCURACY}", reached)
    # Whoever trained when the aggregator was killed may have begun from a version that it lost.
    assert status["updates_rejected"] <= len(DEVICES)
    assert 0 < status["bytes_pushed"] < status["bytes_dense_equivalent"] / 3  # int8


def test_unequal_devices_are_measured_as_unequal(system: System) -> None:
    def measured() -> dict[str, dict[str, Any]] | None:
        found = {device["device_id"]: device for device in system.hocket("devices")}
        whole = {name for name, device in found.items() if link(device)["up_bytes_per_s"]}
        return found if whole == DEVICES else None

    found = until(TRAINED_LIMIT_S, "all links measured", measured)
    workstation, phone, sensor = (found[name] for name in ("workstation", "phone", "sensor"))
    # Without other load both are above 2; a busy machine slows the unlimited one down as well.
    shares = {name: device["capability"]["processor_share"] for name, device in found.items()}
    assert step_s(sensor) > 1.2 * step_s(workstation), f"is the machine busy? shares: {shares}"
    assert step_s(phone) > 1.2 * step_s(workstation), f"is the machine busy? shares: {shares}"
    assert sensor["capability"]["processor_share"] <= 0.25
    assert phone["capability"]["processor_share"] <= 0.4
    assert link(workstation)["up_bytes_per_s"] > 1.5 * link(phone)["up_bytes_per_s"]
    assert link(phone)["up_bytes_per_s"] > 1.5 * link(sensor)["up_bytes_per_s"]
    assert link(sensor)["up_bytes_per_s"] < 1.2 * 60_000


def test_every_service_ends_well_when_told_to(system: System) -> None:
    system.compose.stop()
    for service, state in system.compose.states().items():
        assert state["State"]["ExitCode"] == 0, service
        assert state["RestartCount"] == (service == "aggregator"), service


def link(device: dict[str, Any]) -> dict[str, Any]:
    """The device's link to the aggregator."""
    links: list[dict[str, Any]] = device["links"]
    nothing = {"up_bytes_per_s": 0.0}
    return next((one for one in links if one["peer"] == "aggregator"), nothing)


def step_s(device: dict[str, Any]) -> float:
    """Seconds of a training step at full width, from the line that the device measured."""
    lines: list[dict[str, float]] = device["capability"]["costs"]
    widest = max(lines, key=lambda line: line["keep"])
    return widest["fixed_s"] + widest["per_example_s"] * BATCH_SIZE
