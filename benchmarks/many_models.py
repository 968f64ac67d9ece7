"""Many models in one server: `python -m benchmarks.many_models`.

Fifty models of three versions each, every version with a file of its own: how long until all are served, what it costs
to list them, to scrape their metrics and to switch one of them, and what a model takes that nobody asks.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import uvloop

from benchmarks.processes import resident_bytes
from benchmarks.switches import CallFailed, HttpCaller, Running, http_caller, serve, write_version

_ROUNDS: Final = 10
_WEIGHTS: Final = 2_500
"""Numbers of ballast: the models are small, so that what is told is taxiway's and ONNX Runtime's own share."""


def write_models(repository: Path, models: int, versions: int) -> None:
    """The repository, all of whose versions are served."""
    for name in (f"m{index}" for index in range(models)):
        for version in range(1, versions + 1):
            write_version(repository, version, name, _WEIGHTS)
        (repository / name / "config.pbtxt").write_text("version_policy { all {} }", encoding="ascii")


async def _timed(act: Callable[[], Awaitable[int]]) -> str:
    """Median and maximum of some rounds, and the size of the last answer."""
    took_ms = []
    size = 0
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        size = await act()
        took_ms.append((time.perf_counter() - began) * 1e3)
    return f"median {statistics.median(took_ms):7.2f} ms, max {max(took_ms):7.2f} ms, {size} bytes"


async def _get(caller: HttpCaller, path: str) -> int:
    status, body = await caller.get(path)
    if status != 200:
        raise CallFailed(f"{path}: {status}")
    return len(body)


async def _post(caller: HttpCaller, path: str) -> int:
    status, body = await caller.post(path, b"")
    if status != 200:
        raise CallFailed(f"{path}: {status} {body[:200]!r}")
    return len(body)


async def _measure(repository: Path, server: Running, served: int) -> None:
    async with http_caller(server.http) as caller, http_caller(server.metrics) as metrics:
        _, body = await caller.post("/v2/repository/index", json.dumps({"ready": True}).encode())
        if len(json.loads(body)) != served:
            raise CallFailed(f"{len(json.loads(body))} versions are ready; there are {served}")
        print(f"index:          {await _timed(lambda: _post(caller, '/v2/repository/index'))}")
        print(f"metrics:        {await _timed(lambda: _get(metrics, '/metrics'))}")
        print(f"load unchanged: {await _timed(lambda: _post(caller, '/v2/repository/models/m0/load'))}")
        versions = iter(range(1000, 2000))

        async def switch() -> int:
            write_version(repository, next(versions), "m0", _WEIGHTS)
            return await _post(caller, "/v2/repository/models/m0/load")

        print(f"add a version:  {await _timed(switch)}")


def main() -> int:
    """Measure and print; nothing is judged."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=50)
    parser.add_argument("--versions", type=int, default=3)
    parser.add_argument("--taxiway-arg", action="append", default=[], help="passed to the server, for experiments")
    words = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder)
        write_models(repository, words.models, words.versions)
        with serve(repository, [*words.taxiway_arg, "--models.load", "[]"]) as server:
            empty = resident_bytes(server.pid)
        began = time.perf_counter()
        with serve(repository, words.taxiway_arg) as server:
            count = words.models * words.versions
            print(f"start:          {time.perf_counter() - began:.2f} s for {count} versions")
            idle = (resident_bytes(server.pid) - empty) / count
            print(f"memory:         {empty / 2**20:.1f} MiB without models, {idle / 2**10:.0f} KiB for each version")
            uvloop.run(_measure(repository, server, count))
    return 0


if __name__ == "__main__":
    sys.exit(main())
