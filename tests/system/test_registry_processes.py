"""Many processes write to one registry, and are killed at any moment."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.postgres import Cluster
from tests.support.registries import Place
from tests.support.registry_forks import forker, work

from taxiway.registry import Registry

Ask = Callable[..., Any]


@pytest.fixture(scope="module")
def ask() -> Iterator[Ask]:
    with forker() as asked:
        yield asked


@pytest.fixture(params=["sqlite", "postgresql"])
def new_place(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Place]:
    numbers = iter(range(10_000))

    def make() -> Place:
        folder = tmp_path / str(next(numbers))
        if request.param == "sqlite":
            return Place(f"sqlite:///{folder}/registry.db", str(folder / "blobs"))
        cluster: Cluster = request.getfixturevalue("postgres")
        return Place(cluster.new_schema(), str(folder / "blobs"))

    return make


def assert_sound(registry: Registry) -> None:
    """What must be true of every registry at every moment."""
    registry.verify_audit()
    assert registry.verify_blobs().damaged == ()
    for model in registry.models():
        numbers = [version.number for version in registry.versions(model.name, limit=10_000)]
        assert numbers == list(range(model.versions, 0, -1))
        for alias, to in model.aliases.items():
            assert registry.resolve(f"{model.name}@{alias}").number == to
            moves = registry.alias_history(model.name, alias)
            assert [move.from_version for move in moves] == [None, *(move.to_version for move in moves[:-1])]


@pytest.mark.timeout(300)
def test_ten_writers_at_once_lose_nothing(ask: Ask, new_place: Callable[[], Place]) -> None:
    place, writers, each = new_place(), 10, 3
    ended = ask("write", place.url, place.blobs, writers, each)
    assert ended == [[0, None]] * writers
    with Registry.open(place.url, place.blobs) as registry:
        assert_sound(registry)
        digests = [version.digest for version in registry.versions("fraud", limit=1000)]
        assert len(digests) == len(set(digests)) == writers * each + each
        assert len(registry.alias_history("fraud", "turn")) == writers * each


def die_at(ask: Ask, place: Place, point: int) -> None:
    """Killed there, what is left is sound, and can be completed."""
    code, _ = ask("die", place.url, place.blobs, point)
    assert code == -9, point
    with Registry.open(place.url, place.blobs) as registry:
        assert_sound(registry)
        work(registry)
        assert_sound(registry)
        assert [version.number for version in registry.versions("fraud")] == [2, 1]
        assert (registry.aliases("fraud"), registry.resolve("fraud:1").tags) == ({"stable": 2}, {"owner": "risk"})
        assert registry.resolve("fraud:2-int8").manifest.size == len(b"small")


def points(ask: Ask, new_place: Callable[[], Place]) -> int:
    place = new_place()
    code, passed = ask("points", place.url, place.blobs)
    assert code == 0
    return int(passed)


def test_a_writer_killed_at_some_points_leaves_a_sound_registry(ask: Ask, new_place: Callable[[], Place]) -> None:
    """A step that shares no factor with the few statements of a transaction: each kind of point is met."""
    for point in range(3, points(ask, new_place), 29):
        die_at(ask, new_place(), point)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_writer_killed_at_every_point_leaves_a_sound_registry(ask: Ask, new_place: Callable[[], Place]) -> None:
    count = points(ask, new_place)
    assert count > 200
    for point in range(1, count):
        die_at(ask, new_place(), point)
