"""Registries and journals on each database and store, for the contract of all of them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support.journals import JournalPlace, process
from tests.support.postgres import Cluster
from tests.support.registries import NewPlace, Place, ToldClock, memory_blobs

from taxiway.registry import Registry
from taxiway.rollout.journal import Journal, Leadership


@pytest.fixture
def new_place(request: pytest.FixtureRequest, tmp_path: Path) -> NewPlace:
    database, _, store = request.param.partition("+")
    numbers = iter(range(100))

    def make() -> Place:
        folder = tmp_path / f"place-{next(numbers)}"
        url = f"sqlite:///{folder}/registry.db"
        if database == "postgresql":
            cluster: Cluster = request.getfixturevalue("postgres")
            url = cluster.new_schema()
        return Place(url, str(folder / "blobs") if store == "directory" else memory_blobs())

    return make


@pytest.fixture
def place(new_place: NewPlace) -> Place:
    return new_place()


@pytest.fixture
def registry(place: Place) -> Iterator[Registry]:
    with place.open() as opened:
        yield opened


@pytest.fixture(params=["sqlite", "postgresql"])
def new_journal_place(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], JournalPlace]:
    numbers = iter(range(100))

    def make() -> JournalPlace:
        if request.param == "sqlite":
            return JournalPlace(f"sqlite:///{tmp_path}/rollouts-{next(numbers)}.db", "")
        cluster: Cluster = request.getfixturevalue("postgres")
        return JournalPlace(cluster.new_schema(), "")

    return make


@pytest.fixture
def here(new_journal_place: Callable[[], JournalPlace]) -> JournalPlace:
    return new_journal_place()


@pytest.fixture
def clock(here: JournalPlace) -> ToldClock:
    return here.clock


@pytest.fixture
def journal(here: JournalPlace) -> Iterator[Journal]:
    with here.journal() as opened:
        yield opened


@pytest.fixture
def leader(journal: Journal) -> Leadership:
    found = journal.lease.take(process("first"))
    assert found is not None
    return found
