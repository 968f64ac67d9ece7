"""What the console costs the control process with 30 models of 5 versions, all of them busy.

    python -m benchmarks.console_cost [--seconds 1300]

Prints the memory of a process that has imported all of the control process and keeps their history, what a second of it
costs in CPU (points encoded by the supervisor, decoded and kept here, frame made), and how large frames and files are.
Seconds are virtual: nothing waits.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import process_time
from typing import TypeVar

import numpy as np

from taxiway.control import wiring  # what a control process holds
from taxiway.control.console.feed import resident_bytes
from taxiway.control.console.frames import Frames, Moment
from taxiway.core.clock import SystemClock
from taxiway.monitor.history.desk import HistoryDesk, Stretch
from taxiway.monitor.history.differences import FAMILIES
from taxiway.monitor.history.store import HistoryStore
from taxiway.server.statistics import ModelStatistics
from taxiway.telemetry.render import Point
from taxiway.telemetry.slots import decode_points, encode_points

MODELS, VERSIONS = 30, 5
BEGIN_S = 1_700_000_100
T = TypeVar("T")


class Stopwatch:
    """Seconds of CPU, by what they were spent on."""

    def __init__(self) -> None:
        self.spent: dict[str, list[float]] = {}

    def __call__(self, name: str, what: Callable[[], T]) -> T:
        """Do it, and note what it took."""
        began = process_time()
        told = what()
        self.spent.setdefault(name, []).append(process_time() - began)
        return told


def main() -> None:
    assert wiring.__file__
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--seconds", type=int, default=1300)
    seconds = words.parse_args().seconds
    chance = np.random.default_rng(7)
    served = [
        ModelStatistics(f"model-{model:02}", str(version), SystemClock())
        for model in range(MODELS)
        for version in range(1, VERSIONS + 1)
    ]
    began_bytes = resident_bytes()
    with tempfile.TemporaryDirectory() as folder:
        desk = HistoryDesk(HistoryStore(Path(folder) / "history.db", 30, 256 << 20), 1000)
        watch, frames = Stopwatch(), Frames("life")
        full, delta, content = b"", b"", b""
        for second in range(BEGIN_S, BEGIN_S + seconds):
            for one in served:
                _serve(one, chance)
            points = [point for one in served for point in one.points() if point.family.name in FAMILIES]
            content = watch("points encoded", lambda: encode_points(points))  # noqa: B023 - called at once
            told: list[Point] = watch("points decoded", lambda: decode_points(content))  # noqa: B023 - at once
            watch("kept", lambda: desk.take(told, {}, second, float(second)))  # noqa: B023 - at once
            rows = desk.now(second)
            delta = watch("frame made", lambda: frames.next(Moment(second * 1000, rows))) or b""  # noqa: B023 - at once
            full = full or watch("full frame made", lambda: frames.full({}))
        last = BEGIN_S + seconds - 1
        for span_s in (300, 3600):
            stretch = Stretch.of(span_s, last)
            ask = partial(desk.history, "version", ["model-03"], None, stretch)
            watch(f"history of {span_s} s, one model", ask)
        for name, spent in watch.spent.items():
            print(
                f"{name:32} {1e3 * float(np.median(spent)):8.2f} ms (p99 {1e3 * float(np.quantile(spent, 0.99)):.2f})"
            )
        print(f"{'points':32} {len(content):8} bytes; full frame {len(full)}, delta {len(delta)}")
        desk.close()
        size = (Path(folder) / "history.db").stat().st_size
    print(f"{'file after the run':32} {size / 1e6:8.1f} MB")
    print(f"{'memory':32} {resident_bytes() / 1e6:8.1f} MB, {began_bytes / 1e6:.1f} before the first second")
    print(f"{'of which rings':32} {desk.nbytes / 1e6:8.1f} MB")


def _serve(one: ModelStatistics, chance: np.random.Generator) -> None:
    """A second of traffic: eight requests of about a millisecond."""
    for ns in (chance.lognormal(0, 0.6, 8) * 1e6).astype(int).tolist():
        one.responses_done([0], ns)
        one._queue.observe(ns // 3)
        one._infer.observe(ns // 2)
        one._runs[1][0] += 1


if __name__ == "__main__":
    main()
