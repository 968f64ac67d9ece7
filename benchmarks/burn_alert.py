"""From a regression of latency to the page, and back: a real Prometheus, a real Alertmanager, a real server.

    python -m benchmarks.burn_alert            # about 10 minutes

A model answers in a millisecond for a minute; then most of its answers take a fifth of a second, against an objective
of 99 % under 100 ms; then it is fast again. The rules are those that `taxiway monitor export prometheus` writes, with
their own windows. Bar: Alertmanager has the page within 2 minutes of the regression, and has it resolved once the
windows have passed. (That one error in an hour never pages is a test in virtual time: tests/flow/test_rules.py.)
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep
from typing import Final

import yaml
from tests.support.prometheus import Prometheus, alertmanager, prometheus
from tests.support.raw_http import Process, infer, serve_process
from tests.support.slow_models import sleeper

from taxiway.config.settings import Settings
from taxiway.monitor.slos.files import alertmanager_text, prometheus_text, rules_text

BAR_S: Final = 120.0
HEALTHY_S: Final = 60.0
WITHIN_S: Final = 15 * 60.0
FAST, SLOW = 1, 4000
ALERT: Final = "TaxiwayErrorBudgetBurnsFast"
SLOS: Final = {"sleeper": {"latency": [{"percent": 99, "under_ms": 100}]}}


class Load:
    """Asks, one request after the other, about 50 a second while answers are quick."""

    def __init__(self, server: Process) -> None:
        self.steps = FAST
        self.asked = 0
        self._server = server
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with self._server.connect() as client:
            while not self._over.wait(0.02):
                assert client.send(infer("sleeper", [[self.steps]], "INT64")).reply().status == 200
                self.asked += 1

    def end(self) -> None:
        """No more."""
        self._over.set()
        self._thread.join()


def main() -> int:
    """Measure and judge."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = Settings.model_validate({"monitoring": {"slos": SLOS}}).monitoring
        (folder / "taxiway.rules.yml").write_text(rules_text(settings))
        with serve_process(sleeper(folder / "sleeper.onnx"), log__level="error") as server:
            host, port = server.metrics_address
            with alertmanager(folder, yaml.safe_load(alertmanager_text())) as manager:
                config = yaml.safe_load(prometheus_text(f"{host}:{port}", manager))
                with prometheus(folder, config) as scraper:
                    return _measure(server, scraper, manager)


def _measure(server: Process, scraper: Prometheus, manager: str) -> int:
    load = Load(server)
    try:
        sleep(HEALTHY_S)
        assert not _paged(manager), "it pages while all is well"
        print(f"healthy for {HEALTHY_S:.0f} s, {load.asked} requests: no page", flush=True)
        load.steps, began_s = SLOW, monotonic()
        fired_s = _wait(lambda: _paged(manager), began_s)
        firing = scraper.query(f'ALERTS{{alertname="{ALERT}",alertstate="firing"}}')
        print(f"regression: paged after {fired_s:.0f} s (bar {BAR_S:.0f}), by {len(firing)} alert", flush=True)
        load.steps, began_s = FAST, monotonic()
        resolved_s = _wait(lambda: not _paged(manager), began_s)
        print(f"recovery: resolved after {resolved_s:.0f} s", flush=True)
    finally:
        load.end()
    return 0 if fired_s <= BAR_S and len(firing) == 1 else 1


def _wait(holds: Callable[[], bool], began_s: float) -> float:
    while not holds():
        if monotonic() - began_s > WITHIN_S:
            raise SystemExit(f"not within {WITHIN_S:.0f} s")
        sleep(0.5)
    return monotonic() - began_s


def _paged(manager: str) -> bool:
    """Whether Alertmanager holds the page as active."""
    with urllib.request.urlopen(f"http://{manager}/api/v2/alerts?active=true", timeout=10) as answer:
        alerts = json.loads(answer.read())
    return any(one["labels"]["alertname"] == ALERT for one in alerts)


if __name__ == "__main__":
    sys.exit(main())
