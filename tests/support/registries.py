"""Registries to test with: where they lie, a clock that is told the time, and quick ways to fill them."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sqlalchemy import create_engine, make_url

from taxiway.registry import Manifest, NewVersion, Registry, Version

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


@dataclass
class ToldClock:
    """Moves only when it is told to."""

    now: dt.datetime = START

    def monotonic_ns(self) -> int:
        return int((self.now - START).total_seconds() * 1e9)

    def now_utc(self) -> dt.datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += dt.timedelta(seconds=seconds)


@dataclass
class Place:
    """Where a registry lies. `sql` changes it past taxiway, as nobody should."""

    url: str
    blobs: str
    clock: ToldClock = field(default_factory=ToldClock)

    def open(self) -> Registry:
        return Registry.open(self.url, self.blobs, clock=self.clock)

    def sql(self, statement: str) -> None:
        url = make_url(self.url)
        engine = create_engine(url.set(drivername="postgresql+psycopg") if "postgres" in url.drivername else url)
        with engine.begin() as connection:
            connection.exec_driver_sql(statement)
        engine.dispose()


NewPlace = Callable[[], Place]
"""A place that nobody has used, of the same kind each time."""

DATABASES: Final = ("sqlite+directory", "postgresql+directory")
STORES: Final = (*DATABASES, "sqlite+memory")

_numbers: Iterator[int] = itertools.count(1)


def memory_blobs() -> str:
    """A place in fsspec's memory of its own."""
    return f"memory://registry-{next(_numbers)}/blobs"


def manifest_of(registry: Registry, files: Mapping[str, bytes]) -> Manifest:
    """Put each file, and name it."""
    return Manifest.of(registry.put_bytes(content).at(path) for path, content in files.items())


def register(
    registry: Registry, name: str = "fraud", content: bytes = b"weights", *, key: str | None = None, **more: Any
) -> Version:
    """A small version of two files."""
    manifest = manifest_of(registry, {"@/model.onnx": content, "config.pbtxt": b"x"})
    said: dict[str, Any] = {
        "signature": {"inputs": []},
        "origin": {"source": "file:///m.onnx"},
        "facts": {"scan": "ok"},
    }
    new = NewVersion(name, manifest, "onnx", **said | more)
    return registry.register(new, actor="ada", why="a first try", idempotency_key=key)


def files_below(root: Path) -> dict[str, bytes]:
    """Every file's path and content."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}
