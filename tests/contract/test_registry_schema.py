"""The migrations make the tables that the code reads, in both databases, and meet what is there already."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import inspect
from tests.support.postgres import Cluster

from taxiway.core.errors import InvalidArgument, RegistryUnavailable
from taxiway.registry import Registry, migrations, schema
from taxiway.registry.database import Database
from taxiway.registry.migrating import Migration
from taxiway.registry.migrations import LATEST, migrate, schema_of

NOW = "2026-01-01T00:00:00.000000Z"


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/registry.db"
    else:
        cluster: Cluster = request.getfixturevalue("postgres")
        url = cluster.new_schema()
    opened = Database.open(url)
    yield opened
    opened.close()


def test_the_steps_make_the_tables_that_the_code_reads(database: Database) -> None:
    migrate(database, NOW)
    with database.read() as connection:
        found = inspect(connection)
        tables = {name: [column["name"] for column in found.get_columns(name)] for name in found.get_table_names()}
    assert tables == {table.name: [column.name for column in table.c] for table in schema.metadata.sorted_tables}


def test_steps_are_taken_once_and_in_order(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    migrate(database, NOW)
    later = (*migrations.MIGRATIONS, Migration("a shelf", ["CREATE TABLE taxiway_shelf (name {text} NOT NULL)"]))
    monkeypatch.setattr(migrations, "MIGRATIONS", later)
    monkeypatch.setattr(migrations, "LATEST", len(later))
    for _ in range(2):
        migrate(database, NOW, to=len(later))
    with database.read() as connection:
        assert schema_of(connection) == LATEST + 1
        assert inspect(connection).has_table("taxiway_shelf")


def test_a_step_that_fails_leaves_nothing_of_itself(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    migrate(database, NOW)
    broken = Migration("a broken shelf", ["CREATE TABLE taxiway_shelf (name {text} NOT NULL)", "NONSENSE"])
    monkeypatch.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, broken))
    with pytest.raises(Exception, match="NONSENSE"):
        migrate(database, NOW, to=LATEST + 1)
    with database.read() as connection:
        assert schema_of(connection) == LATEST
        assert not inspect(connection).has_table("taxiway_shelf")


def test_sqlite_is_opened_to_survive_a_power_cut(tmp_path: Path) -> None:
    database = Database.open(f"sqlite:///{tmp_path}/registry.db")
    with database.read() as connection:
        asked = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        found = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in asked]
    database.close()
    assert found == ["wal", 2, 1, 30_000]


@pytest.mark.parametrize("url", ["mysql://x/y", "sqlite://", "sqlite:///:memory:", "://", "registry.db"])
def test_a_url_of_another_kind_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument):
        Registry.open(url, str(tmp_path))


def test_what_cannot_be_reached_is_said_so_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(RegistryUnavailable) as caught:
        Registry.open(f"postgresql://ada:secret@/none?host={tmp_path}", str(tmp_path))
    assert "secret" not in caught.value.message
    (tmp_path / "file").write_text("not a database" * 100)
    with pytest.raises(RegistryUnavailable):
        Registry.open(f"sqlite:///{tmp_path}/file", str(tmp_path))
    with pytest.raises(RegistryUnavailable):
        Registry.open(f"sqlite:///{tmp_path}/file/below", str(tmp_path))


def test_blobs_that_no_driver_knows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="nobody://x"):
        Registry.open(f"sqlite:///{tmp_path}/registry.db", "nobody://x")
