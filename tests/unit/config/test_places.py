from pathlib import Path

from taxiway.config.places import RegistryPlaces, registry_places
from taxiway.config.settings import RegistrySettings


def test_the_registry_lies_where_the_base_directories_say() -> None:
    environ = {"HOME": "/home/ada", "XDG_DATA_HOME": "/data", "XDG_CACHE_HOME": "/cache"}
    assert registry_places(RegistrySettings(), environ) == RegistryPlaces(
        "sqlite:////data/taxiway/registry.db", "/data/taxiway/blobs", Path("/cache/taxiway/models")
    )


def test_without_base_directories_it_lies_below_home_and_relative_ones_are_ignored() -> None:
    places = registry_places(RegistrySettings(), {"HOME": "/home/ada", "XDG_CACHE_HOME": "here"})
    assert places.url == "sqlite:////home/ada/.local/share/taxiway/registry.db"
    assert places.cache == Path("/home/ada/.cache/taxiway/models")


def test_blobs_lie_beside_the_sqlite_file() -> None:
    assert registry_places(RegistrySettings(url="sqlite:////srv/r.db"), {}).blobs == "/srv/blobs"
    assert registry_places(RegistrySettings(url="postgresql://h/d"), {"HOME": "/h"}).blobs == (
        "/h/.local/share/taxiway/blobs"
    )


def test_what_was_said_is_taken() -> None:
    said = RegistrySettings(url="postgresql://h/d", blobs="s3://bucket/x", cache="/fast")
    assert registry_places(said, {}) == RegistryPlaces("postgresql://h/d", "s3://bucket/x", Path("/fast"))
