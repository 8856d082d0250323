"""The steps lead to exactly the tables in the code, and lose nothing on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from hocket_aggregator.metadata.store import SCHEMA as AGGREGATOR
from hocket_aggregator.metadata.store import Identity, Store
from hocket_aggregator.metadata.tables import METADATA as AGGREGATOR_TABLES
from hocket_aggregator.metadata.tables import VERSIONS
from hocket_registry.store import SCHEMA as REGISTRY
from hocket_registry.store import DeviceStore
from hocket_registry.tables import COUNTERS
from hocket_registry.tables import METADATA as REGISTRY_TABLES
from sqlalchemy import (
    Connection,
    MetaData,
    Table,
    column,
    create_engine,
    insert,
    inspect,
    select,
    table,
    update,
)
from sqlalchemy.pool import NullPool

from hocket.errors import StartupError
from hocket.hosting.database import Database, Schema
from hocket.hosting.migration import migrate, version_table


@dataclass(frozen=True)
class Service:
    schema: Schema
    tables: MetaData
    of_one_row: Table
    row: dict[str, object]
    newest: str  # step

    @property
    def noted(self) -> str:
        return version_table(self.schema.service)

    @property
    def steps(self) -> list[Path]:
        return sorted((self.schema.scripts / "versions").glob("0*.py"))


SERVICES = {
    "aggregator": Service(
        AGGREGATOR,
        AGGREGATOR_TABLES,
        VERSIONS,
        {
            "version": 7,
            "parent": 6,
            "digest": "d" * 16,
            "created_unix_s": 1.5,
            "update_ids": ["a"],
            "test_loss": None,
            "test_accuracy": 0.5,
        },
        newest="0003",
    ),
    "registry": Service(
        REGISTRY, REGISTRY_TABLES, COUNTERS, {"name": "revision", "value": 42}, newest="0001"
    ),
}


NUMBERS = (
    *("incarnation", "base_version", "num_examples", "num_steps", "learning_rate", "train_loss"),
    *("train_s", "wire_bytes", "dense_bytes", "received_unix_s"),
)


@pytest.fixture(params=SERVICES)
def service(request: pytest.FixtureRequest) -> Service:
    return SERVICES[request.param]


def at(file: Path, work: Callable[[Connection], object]) -> object:
    engine = create_engine(f"sqlite:///{file}", poolclass=NullPool)
    with engine.begin() as connection:
        return work(connection)


def migrated(service: Service, file: Path) -> None:
    schema = service.schema
    at(file, lambda c: migrate(c, schema.service, schema.scripts, str(file)))


def rows(service: Service, file: Path) -> object:
    query = select(service.of_one_row)
    return at(file, lambda c: [dict(row) for row in c.execute(query).mappings()])


def revision(service: Service, file: Path) -> object:
    context = {"version_table": service.noted}
    return at(file, lambda c: MigrationContext.configure(c, opts=context).get_current_revision())


def test_the_steps_lead_to_the_tables_in_the_code(service: Service, tmp_path: Path) -> None:
    file = tmp_path / "new"
    migrated(service, file)
    context = {"version_table": service.noted}
    compared = at(
        file,
        lambda c: compare_metadata(MigrationContext.configure(c, opts=context), service.tables),
    )
    assert compared == []
    assert revision(service, file) == service.newest


def test_tables_made_before_there_were_steps_are_taken_over(
    service: Service, tmp_path: Path
) -> None:
    """As Hocket 0.1 made them before: with create_all, which a crash may have cut short."""
    file = tmp_path / "old"
    at(file, service.tables.create_all)
    at(file, lambda c: c.execute(insert(service.of_one_row).values(service.row)))
    spare = next(t for t in service.tables.sorted_tables[::-1] if t is not service.of_one_row)
    at(file, spare.drop)
    migrated(service, file)
    assert revision(service, file) == service.newest
    assert rows(service, file) == [service.row]
    assert at(file, lambda c: inspect(c).has_table(spare.name))


def test_a_later_step_keeps_what_was_stored(service: Service, tmp_path: Path) -> None:
    """One more step of our own, in a copy of the folder of steps."""
    file, scripts = tmp_path / "database", tmp_path / "100% steps"
    migrated(service, file)
    at(file, lambda c: c.execute(insert(service.of_one_row).values(service.row)))
    (scripts / "versions").mkdir(parents=True)
    for step in (service.schema.scripts / "env.py", *service.steps):
        (scripts / step.relative_to(service.schema.scripts)).write_bytes(step.read_bytes())
    (scripts / "versions" / "0100_more.py").write_text(
        "import sqlalchemy as sa\n"
        "from alembic import op\n"
        f"revision, down_revision = '0100', {service.newest!r}\n"
        "def upgrade():\n"
        f"    op.add_column({service.of_one_row.name!r}, sa.Column('more', sa.Integer))\n"
    )
    at(file, lambda c: migrate(c, service.schema.service, scripts, str(file)))
    assert revision(service, file) == "0100"
    assert rows(service, file) == [service.row]
    columns = at(
        file, lambda c: [x["name"] for x in inspect(c).get_columns(service.of_one_row.name)]
    )
    assert isinstance(columns, list)
    assert "more" in columns


async def test_a_step_that_fails_leaves_nothing_behind(service: Service, tmp_path: Path) -> None:
    scripts = tmp_path / "steps"
    (scripts / "versions").mkdir(parents=True)
    (scripts / "env.py").write_bytes((service.schema.scripts / "env.py").read_bytes())
    first = (service.schema.scripts / "versions" / "0001_first.py").read_text(encoding="utf-8")
    broken = Schema(service.schema.service, "database", scripts, service.schema.to_json)
    (scripts / "versions" / "0001_first.py").write_text(first + "    raise KeyError('power cut')\n")
    with pytest.raises(KeyError):
        await Database.open(tmp_path, broken, "")
    assert at(tmp_path / "database", lambda c: inspect(c).get_table_names()) == []


def test_updates_of_before_the_later_steps_are_taken_over(tmp_path: Path) -> None:
    file, scripts = tmp_path / "database", tmp_path / "first"
    (scripts / "versions").mkdir(parents=True)
    aggregator = SERVICES["aggregator"].schema.scripts
    for step in ("env.py", "versions/0001_first.py"):
        (scripts / step).write_bytes((aggregator / step).read_bytes())
    at(file, lambda c: migrate(c, AGGREGATOR.service, scripts, str(file)))
    words = {"update_id": "u", "device_id": "d", "spec": "{}", "outcome": "{}", "codec": "raw"}
    stored = {**words, **dict.fromkeys(NUMBERS, 1)}
    older = table("updates", *(column(name) for name in stored))
    at(file, lambda c: c.execute(insert(older).values(stored)))
    migrated(SERVICES["aggregator"], file)
    names = ("update_id", "train_loss_rms", "labels")
    newer = select(table("updates", *(column(name) for name in names)))
    assert at(file, lambda c: c.execute(newer).all()) == [("u", 0.0, None)]


async def open_registry(folder: Path) -> None:
    await (await DeviceStore.open(folder)).close()


async def open_aggregator(folder: Path) -> None:
    await (await Store.open(folder, Identity("digits", "0"))).close()


@pytest.mark.parametrize("opening", [open_registry, open_aggregator])
async def test_a_newer_hockets_database_is_left_alone(opening: object, tmp_path: Path) -> None:
    assert callable(opening)
    await opening(tmp_path)
    service = SERVICES["registry" if opening is open_registry else "aggregator"]
    file = tmp_path / service.schema.file_name
    noted = table(service.noted, column("version_num"))
    at(file, lambda c: c.execute(update(noted).values(version_num="0999")))
    for _ in range(2):
        with pytest.raises(StartupError, match=rf"newer Hocket \(schema 0999.* {service.newest}"):
            await opening(tmp_path)


async def test_opening_says_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    await open_registry(tmp_path)
    await open_aggregator(tmp_path)
    assert capfd.readouterr() == ("", "")
    assert [record for record in caplog.records if record.levelname != "INFO"] == []
