"""What it costs a request on the data plane that somebody watches: bytes to bytes in one process, no sockets.

    python -m benchmarks.monitoring_cost       # about 2 minutes, two quiet cores

Two data planes that serve the same model (2 floats, JSON, 16 connections) take turns: one that nobody samples from, and
one that is sampled from, once a second as the control process does it. Bars: at most 0.3 microseconds more where
requests are passed over, at most 2 microseconds with 200 rows a second copied and fetched. The figure is the median of
the differences of neighbouring turns, with an interval of 95 % for it.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import uvloop

from benchmarks.trace_cost import _Load, _write_model
from taxiway.config.loader import load_settings
from taxiway.server.app import DataPlane
from taxiway.stats.quantile_interval import rank_levels

ROWS_PER_S: Final = {"passed over": 1e-9, "as it is set up": 200.0}
BARS_US: Final = {"passed over": 0.3, "as it is set up": 2.0}
FETCH_S: Final = 1.0


async def measure(requests: int, turns: int) -> dict[str, list[float]]:
    """Microseconds more of a request, turn by turn, for each kind of sampling."""
    told: dict[str, list[float]] = {kind: [] for kind in ROWS_PER_S}
    with tempfile.TemporaryDirectory() as folder:
        model = _write_model(Path(folder))
        planes = [await _plane(model, sampled=sampled) for sampled in (False, True)]
        loads = [_Load(plane, asyncio.get_running_loop()) for plane in planes]
        for load in loads:
            await load.run(requests)
        for kind, rows_per_s in ROWS_PER_S.items():
            fetching = asyncio.create_task(_fetch_always(planes[1], rows_per_s))
            await asyncio.sleep(2 * FETCH_S)  # the share has settled
            for turn in range(turns):
                order = (0, 1) if turn % 2 else (1, 0)
                spent = {at: await loads[at].run(requests) for at in order}
                told[kind].append(spent[1] - spent[0])
            fetching.cancel()
        for plane in planes:
            await plane.stop()
    return told


async def _plane(model: Path, *, sampled: bool) -> DataPlane:
    flags: dict[str, Any] = {"http.port": 0, "grpc.port": 0, "metrics.enabled": False, "models.paths": [str(model)]}
    plane = DataPlane(load_settings(None, {}, {**flags, "monitoring.sampling.enabled": sampled}))
    await plane.start()
    return plane


async def _fetch_always(plane: DataPlane, rows_per_s: float) -> None:
    assert plane.traffic.fleet is not None
    while True:
        await plane.traffic.fleet.ask("samples_fetch", {"rows_per_s": {"*": rows_per_s}})
        await asyncio.sleep(FETCH_S)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and judge."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.monitoring_cost", description=main.__doc__)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--turns", type=int, default=60)
    options = parser.parse_args(arguments)
    kept = True
    for kind, more in uvloop.run(measure(options.requests, options.turns)).items():
        low, high = np.quantile(more, rank_levels(len(more), 0.5, 0.95))
        median = float(np.median(more))
        kept = kept and median <= BARS_US[kind]
        print(f"{kind:16} {median:+6.2f} us a request, {low:+.2f} to {high:+.2f} (bar {BARS_US[kind]:g})")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
