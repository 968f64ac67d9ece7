"""What metrics cost: counting one request, and a scrape of 3,000 series, and of 30 models by 5 versions served.

    python -m benchmarks.metrics_cost [--no-server]

Bars: 1.5 microseconds for the metrics of one request, 5 ms of processor time for 3,000 series in each form (decoding
what two workers wrote down, adding it up and writing it), 200 ms for `/metrics` of a real server of 150 versions.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter_ns, process_time_ns

from tests.support.onnx_models import doubler
from tests.support.raw_http import Process, Raw, request, serve_process

from taxiway.core.clock import SystemClock
from taxiway.core.ports import BatchOutcome
from taxiway.core.requests import BatchResult, InferRequest
from taxiway.server.statistics import ModelStatistics
from taxiway.telemetry.adding import Totals
from taxiway.telemetry.exposition import OPENMETRICS, PROTOBUF, TEXT, Exposition
from taxiway.telemetry.render import Point
from taxiway.telemetry.slots import decode_points, encode_points

REQUEST_BAR_US, SCRAPE_BAR_MS, SERVER_BAR_MS = 1.5, 5.0, 200.0
SERIES, WORKERS, ROUNDS, REQUESTS = 3000, 2, 15, 20_000
MODELS, VERSIONS = 30, 5
_FORMS = {"text": TEXT, "openmetrics": OPENMETRICS, "protobuf": PROTOBUF}


def main() -> int:
    """Measure and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-server", action="store_true", help="leave out the real server")
    words = parser.parse_args()
    kept = [_judge("metrics of one request", _us_per_request(), REQUEST_BAR_US, "us")]
    for name, form in _FORMS.items():
        kept.append(_judge(f"{SERIES} series, {name}", _scrape_ms(form), SCRAPE_BAR_MS, "ms of CPU"))
    if not words.no_server:
        for name, form in _FORMS.items():
            kept.append(_judge(f"{MODELS} x {VERSIONS} served, {name}", _served_ms(form), SERVER_BAR_MS, "ms"))
    return 0 if all(kept) else 1


def _judge(what: str, figure: float, bar: float, unit: str) -> bool:
    print(f"{what:32} {figure:8.2f} {unit} (bar {bar:g}): {'holds' if figure <= bar else 'does not hold'}")
    return figure <= bar


def _us_per_request() -> float:
    """One request in a batch of its own, the dearest there is; without the clock, which runs anyway."""
    statistics, batch, outcome = _prepared()
    arrived = (batch[0].arrived_ns,)

    def count() -> None:
        for _ in range(REQUESTS):
            statistics.batch_done(batch, outcome, 0)
            statistics.responses_done(arrived, 2_000_000)

    return _best_ns(count) / REQUESTS / 1000


def _prepared() -> tuple[ModelStatistics, list[InferRequest], BatchOutcome]:
    outcome = BatchOutcome(started_ns=300_000, finished_ns=1_900_000, result=BatchResult((), (), 1))
    outcome.input_ns, outcome.infer_ns = 40_000, 1_500_000
    one = InferRequest.__new__(InferRequest)
    one.arrived_ns = 1_000
    return ModelStatistics("m", "1", SystemClock()), [one], outcome


def _scrape_ms(form: Exposition) -> float:
    """Of as many versions as make the series in the text form, each a number or a bucket that Prometheus stores."""
    written = [encode_points(_points(SERIES)) for _ in range(WORKERS)]

    def scrape() -> None:
        totals = Totals()
        for one in written:
            totals.add(decode_points(one))
        form.write(totals.points())

    return _best_ns(scrape) / 1e6


def _points(series: int) -> list[Point]:
    points: list[Point] = []
    version = 0
    while _lines(points) < series:
        version += 1
        statistics, batch, outcome = _prepared()
        statistics.version = str(version)
        statistics.batch_done(batch, outcome, 0)
        statistics.responses_done((1_000,), 2_000_000)
        points += statistics.points()
    return points


def _lines(points: Sequence[Point]) -> int:
    return sum(1 for line in TEXT.write(points).splitlines() if not line.startswith(b"#"))


def _best_ns(work: Callable[[], None]) -> int:
    work()
    taken = []
    for _ in range(ROUNDS):
        began = process_time_ns()
        work()
        taken.append(process_time_ns() - began)
    return min(taken)


def _served_ms(form: Exposition) -> float:
    with TemporaryDirectory() as folder:
        repository = _repository(Path(folder))
        with serve_process(repository) as server:
            return sorted(_timed_ms(server, form) for _ in range(ROUNDS))[ROUNDS // 2]


def _repository(folder: Path) -> Path:
    model = doubler(folder / "double.onnx")
    for number in range(MODELS):
        place = folder / "models" / f"m{number}"
        for version in range(1, VERSIONS + 1):
            (place / str(version)).mkdir(parents=True)
            shutil.copy(model, place / str(version) / "model.onnx")
        (place / "config.pbtxt").write_text("version_policy { all {} }", encoding="ascii")
    return folder / "models"


def _timed_ms(server: Process, form: Exposition) -> float:
    with Raw(server.metrics_address) as connection:
        began = perf_counter_ns()
        reply = connection.send(request("GET", "/metrics", None, f"Accept: {form.content_type}")).reply()
        assert reply.status == 200
        return (perf_counter_ns() - began) / 1e6


if __name__ == "__main__":
    sys.exit(main())
