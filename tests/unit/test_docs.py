"""The documents are held against the code: links, keys and defaults, settings, commands."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from dataclasses import MISSING, Field, asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from hocket_aggregator.settings import Settings as AggregatorSettings
from hocket_device.settings import Settings as DeviceSettings
from hocket_registry.settings import Settings as RegistrySettings
from pydantic_settings import BaseSettings

from hocket.cli.app import app
from hocket.cli.fleet import Fleet, FleetDevice, load_fleet
from hocket.core.refresh import RefreshRules
from hocket.learn.data import Normalisation
from hocket.learn.strategies import FedAvg
from hocket.learn.strategies.parts import Parts
from hocket.learn.strategies.server import AnyServer
from hocket.task import Task
from hocket.task.task import DEFAULT_TRAINING

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    page
    for pattern in ("*.md", "docs/*.md", "examples/**/*.md", "services/*/README.md")
    for page in ROOT.glob(pattern)
)
TASKS = (ROOT / "docs" / "tasks.md").read_text(encoding="utf-8")
DEVICES = (ROOT / "docs" / "devices.md").read_text(encoding="utf-8")
SETTINGS: dict[str, type[BaseSettings]] = {
    "AGGREGATOR_": AggregatorSettings,
    "DEVICE_": DeviceSettings,
    "REGISTRY_": RegistrySettings,
}
TOP_LEVEL = "top level"
SUB_TABLES = {
    "refresh.rules": RefreshRules,
    "data.normalise": Normalisation,
    "strategy.parts": Parts,
}


def by_name(pages: list[Path]) -> dict[str, Path]:
    return {str(page.relative_to(ROOT)): page for page in pages}


def anchors(page: Path) -> set[str]:
    """What a code host makes of the headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("name", by_name(PAGES))
def test_every_relative_link_leads_somewhere(name: str) -> None:
    page = ROOT / name
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|href)="([^"]+)"', text)
    for link in links:
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name} links to {link}"
        assert target.is_relative_to(ROOT)
        if anchor:
            assert anchor in anchors(target), f"{name} links to {link}"


@pytest.mark.parametrize("name", by_name(sorted((ROOT / "docs" / "images").iterdir())))
def test_images_are_small_and_fetch_nothing(name: str) -> None:
    image = (ROOT / name).read_bytes()
    assert len(image) < 300_000
    if name.endswith(".svg"):
        found = set(re.findall(rb"https?://[^\s\"')]+", image))
        assert found <= {b"http://www.w3.org/2000/svg"}
        assert b"<script" not in image


def documented() -> dict[tuple[str, str | None], dict[str, str]]:
    """Keys and their defaults as docs/tasks.md has them, by table and kind."""
    found: dict[tuple[str, str | None], dict[str, str]] = {}
    table, kind = "", None
    for line in TASKS.splitlines():
        if line == "## Top level":
            table, kind = TOP_LEVEL, None
        elif heading := re.match(r"##+ `\[([a-z_.]+)\]`$", line):
            table, kind = heading[1], None
        elif heading := re.match(r'####? `kind = "([a-z0-9-]+)"`', line):
            kind = heading[1]
            found.setdefault((table, kind), {})
        elif row := re.match(r"\| `([a-z0-9_]+)` \| (.*?) \|", line):
            found.setdefault((table, kind), {})[row[1]] = row[2]
    return found


def as_written(field: Field[Any]) -> str:
    """A field's default in TOML, as the page writes it."""
    if field.default_factory is not MISSING:
        made = field.default_factory()
        return "see below" if is_dataclass(made) else f"`{json.dumps(made)}`"
    if field.default is MISSING:
        return "required"
    if field.default is None:
        return "not set"
    return f"`{json.dumps(field.default)}`"


def in_code() -> Iterator[tuple[tuple[str, str | None], dict[str, str]]]:
    """Keys and their defaults as the dataclasses have them."""
    hints = get_type_hints(Task)
    top: dict[str, str] = {}
    for field in fields(Task):
        options = get_args(hints[field.name]) or (hints[field.name],)
        tables = [option for option in options if is_dataclass(option)]
        if not tables:
            top[field.name] = as_written(field)
        for option in tables if field.name != "origin" else ():
            known = {f.name: as_written(f) for f in fields(option)}
            kind = json.loads(known.pop("kind").strip("`")) if len(tables) > 1 else None
            yield (field.name, kind), known
    yield (TOP_LEVEL, None), top
    for name, sub_table in SUB_TABLES.items():
        yield (name, None), {f.name: as_written(f) for f in fields(sub_table)}
    for server in tables_of(AnyServer):
        known = {f.name: as_written(f) for f in fields(server)}
        yield ("strategy.server", json.loads(known.pop("kind").strip("`"))), known


def tables_of(choice: Any) -> tuple[Any, ...]:
    """The dataclasses of a choice by kind."""
    return get_args(get_args(choice)[0])


def test_the_page_on_task_files_has_every_key_with_its_default_and_no_other() -> None:
    code = dict(in_code())
    code[TOP_LEVEL, None]["name"] = "the file's name"
    defaults = asdict(DEFAULT_TRAINING)
    for name in ("local_epochs", "batch_size", "learning_rate"):
        code["training", None][name] = f"`{json.dumps(defaults[name])}`"
    assert len(code) > 25
    for key, table in documented().items():
        assert table == code.get(key), key
    assert documented().keys() == code.keys()


def test_the_page_on_task_files_marks_the_kinds_that_are_taken_by_default() -> None:
    (inner,) = re.findall(r'^#### `kind = "([a-z0-9-]+)"` \(default\)$', TASKS, re.MULTILINE)
    assert inner == FedAvg().server.kind
    marked = re.findall(r'^### `kind = "([a-z0-9-]+)"` \(default\)$', TASKS, re.MULTILINE)
    chosen = [
        field.default_factory().kind
        for field in fields(Task)
        if field.default_factory is not MISSING and field.name not in ("refresh", "origin")
        if hasattr(field.default_factory(), "kind")
    ]
    assert marked == chosen


def test_the_page_on_devices_has_every_key_of_a_fleet_file_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `([a-z_]+)` \| (.*?) \|", DEVICES, re.MULTILINE))
    hints = {field.name: as_written(field) for field in fields(FleetDevice)}
    assert rows == hints
    assert [field.name for field in fields(Fleet)] == ["device"]


def toml_blocks(page: str) -> list[str]:
    return re.findall(r"```toml\n(.*?)```", page, re.DOTALL)


def test_the_fleet_shown_is_one(tmp_path: Path) -> None:
    (shown,) = toml_blocks(DEVICES)
    (tmp_path / "fleet.toml").write_text(shown)
    assert [device.name for device in load_fleet(tmp_path / "fleet.toml")] == ["desk", "pi"]


def test_every_setting_that_a_document_names_exists() -> None:
    known = {
        f"{prefix}{name.upper()}"
        for prefix, settings in SETTINGS.items()
        for name in settings.model_fields
    }
    for page in PAGES:
        named = re.findall(
            r"(?<![A-Z_])(?:DEVICE|AGGREGATOR|REGISTRY)_[A-Z_]*[A-Z]",
            page.read_text(encoding="utf-8"),
        )
        codes = {"REGISTRY_SERVICE", "AGGREGATOR_SERVICE"}
        assert set(named) - codes <= known, page.name


@pytest.mark.parametrize("service", ["aggregator", "device", "registry"])
def test_each_service_s_page_names_all_of_its_settings(service: str) -> None:
    page = (ROOT / "services" / service / "README.md").read_text(encoding="utf-8")
    prefix = f"{service.upper()}_"
    for name in SETTINGS[prefix].model_fields:
        assert f"`{prefix}{name.upper()}`" in page


def test_every_command_that_a_document_shows_exists() -> None:
    known = {command.callback.__name__ for command in app.registered_commands if command.callback}
    known |= {group.name for group in app.registered_groups if group.name}
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for command in re.findall(r"(?:^|`|bin/)hocket ([a-z]+)\b", text, re.MULTILINE):
            assert command in known, f"{page.name}: hocket {command}"
        for target in re.findall(r"(?:^|`)make ([a-z0-9-]+)", text, re.MULTILINE):
            assert target in targets, f"{page.name}: make {target}"


def test_the_smallest_task_shown_is_one() -> None:
    smallest = tomllib.loads(toml_blocks(TASKS)[0])
    required = {f.name for f in fields(Task) if (f.default, f.default_factory) == (MISSING,) * 2}
    assert smallest.keys() == required
