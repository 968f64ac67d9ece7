"""Registries on each database and store, for the contract of all of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.postgres import Cluster
from tests.support.registries import NewPlace, Place, memory_blobs

from taxiway.registry import Registry


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
