"""What a registry of 10,000 versions costs to ask and to fill: `python -m benchmarks.registry [--versions N]`.

The same registry on SQLite and on a PostgreSQL of its own, both flushing every commit to the disk; blobs in a
directory. The bar: list, resolve and import stay under 50 ms, which is asked of the 99th percentile. Import is what the
registry does of it: a megabyte of weights and a configuration put, then registered. CPU is this process's alone, which
neighbours on the machine do not change.
"""

from __future__ import annotations

import argparse
import datetime as dt
import itertools
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.postgres import binaries, cluster

from benchmarks.load import percentile
from taxiway.registry import ANY, Manifest, NewVersion, Registry

BAR_MS = 50.0
_ROUNDS = 100
_WEIGHTS = 1 << 20
_SIGNATURE = {
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}],
    "max_batch_size": 64,
}


def fill(registry: Registry, versions: int) -> float:
    """Versions of one model, that share their bytes and differ in a path; seconds for each."""
    weights, config = registry.put_bytes(b"weights"), registry.put_bytes(b"config")
    begun = time.perf_counter()
    for number in range(versions):
        manifest = Manifest.of([weights.at(f"@/model-{number}.onnx"), config.at("config.pbtxt")])
        origin, facts = {"source": f"mlflow:runs:/{number}"}, {"scan": "clean", "parity": 1e-7}
        new = NewVersion("fraud", manifest, "onnx", _SIGNATURE, origin, facts)
        registry.register(new, actor="ada", why="a benchmark")
    return (time.perf_counter() - begun) / versions


@dataclass(frozen=True, slots=True)
class Times:
    """Milliseconds: of each call, sorted, and of this process's CPU for one of them."""

    calls: list[float]
    cpu: float


def measure(call: Callable[[int], object], rounds: int = _ROUNDS) -> Times:
    """Time `rounds` calls."""
    calls, cpu = [], time.process_time()
    for number in range(rounds):
        begun = time.perf_counter()
        call(number)
        calls.append(1000 * (time.perf_counter() - begun))
    return Times(sorted(calls), 1000 * (time.process_time() - cpu) / rounds)


def questions(registry: Registry, folder: Path, versions: int) -> Iterator[tuple[str, bool, Times]]:
    """What was asked, whether the bar is on it, and how long it took."""
    numbers = itertools.cycle(range(1, versions, 37))
    registry.set_alias("fraud", "stable", versions // 2, expect=ANY, actor="ada", why="a benchmark")

    def import_one(number: int) -> None:
        files = registry.put_file(folder / str(number)).at("@/m.onnx"), registry.put_bytes(b"c").at("config.pbtxt")
        new = NewVersion("fraud", Manifest.of(files), "onnx", _SIGNATURE)
        registry.register(new, actor="ada", why=f"import {number}")

    for number in range(_ROUNDS):
        (folder / str(number)).write_bytes(secrets.token_bytes(_WEIGHTS))
    yield "list models", True, measure(lambda _: registry.models())
    yield "list the newest 100 versions", True, measure(lambda _: registry.versions("fraud"))
    yield "list 100 versions from the middle", True, measure(lambda _: registry.versions("fraud", after=versions // 2))
    yield "resolve fraud:N", True, measure(lambda _: registry.resolve(f"fraud:{next(numbers)}"))
    yield "resolve fraud@stable", True, measure(lambda _: registry.resolve("fraud@stable"))
    yield "resolve fraud", True, measure(lambda _: registry.resolve("fraud"))
    yield "import 1 MiB", True, measure(import_one)
    yield (
        "move an alias",
        False,
        measure(lambda at: registry.set_alias("fraud", "stable", at + 1, expect=ANY, actor="ada", why="a benchmark")),
    )
    yield "why fraud:N", False, measure(lambda _: registry.why(f"fraud:{next(numbers)}"))
    now = dt.datetime.now(dt.UTC)
    yield "serving at a moment", False, measure(lambda _: registry.serving_at(now))
    yield "list all versions at once", False, measure(lambda _: registry.versions("fraud", limit=1_000_000), 5)
    yield "verify the audit log and the state", False, measure(lambda _: registry.verify_audit(), 3)


@contextmanager
def registries(folder: Path) -> Iterator[dict[str, Registry]]:
    """One on each database."""
    opened = {"SQLite": Registry.open(f"sqlite:///{folder}/registry.db", f"{folder}/one")}
    if binaries() is None:
        yield opened
        return
    with cluster(durable=True) as postgres:
        opened["PostgreSQL"] = Registry.open(postgres.new_schema(), f"{folder}/two")
        try:
            yield opened
        finally:
            for registry in opened.values():
                registry.close()


def main() -> int:
    """Print a table; 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--versions", type=int, default=10_000)
    versions = parser.parse_args().versions
    missed = 0
    with tempfile.TemporaryDirectory() as name, registries(Path(name)) as opened:
        print(f"{versions} versions, load average {os.getloadavg()[0]:.1f}\n")
        print(f"{'ms':<36}{'':>12}{'p50':>9}{'p99':>9}{'CPU':>9}")
        for database, registry in opened.items():
            each = fill(registry, versions)
            print(f"{'register, while filling (mean)':<36}{database:>12}{1000 * each:>9.2f}")
            for what, barred, times in questions(registry, Path(name), versions):
                middle, late = (percentile(times.calls, share) for share in (0.5, 0.99))
                verdict = f"   over {BAR_MS:g}" if barred and late >= BAR_MS else ""
                missed += bool(verdict)
                print(f"{what:<36}{database:>12}{middle:>9.2f}{late:>9.2f}{times.cpu:>9.2f}{verdict}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
