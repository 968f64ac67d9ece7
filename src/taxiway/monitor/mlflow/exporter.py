"""Tells MLflow on a thread of its own: what cannot be told now waits, what there is no room for is dropped.

After a failure nothing is tried for a while, twice as long each time.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from taxiway.config.monitoring_mlflow import MlflowExportSettings
from taxiway.core.errors import ErrorKind, TaxiwayError
from taxiway.monitor.mlflow.metrics import metrics_of
from taxiway.telemetry import catalogue as names
from taxiway.telemetry.logs import Log
from taxiway.telemetry.render import Point

_log = Log("taxiway.monitor")
_LONGEST_S: Final = 300.0
_CLOSE_S: Final = 2.0
_WRONG: Final = frozenset({ErrorKind.INVALID_ARGUMENT})
"""What will not be right another time."""

Key = tuple[str, int]


class Recorder(Protocol):
    """An MLflow. Each call may wait, and may raise a TaxiwayError."""

    def experiment(self, name: str) -> str:
        """The id of an experiment, which is made if there is none."""

    def run_of(self, experiment: str, name: str, tags: Mapping[str, str]) -> str:
        """The id of the run with these tags, which is made if there is none."""

    def log(self, run: str, metrics: Mapping[str, float], at_ms: int, step: int) -> None:
        """Add to the metrics of a run, all at once."""


@dataclass(frozen=True, slots=True)
class _Told:
    key: Key
    metrics: Mapping[str, float]
    at_ms: int
    step: int


class MlflowExporter:
    """Takes reports, never waits, and never raises.

    Args:
        connect: gets ready to ask MLflow; called on the exporter's thread, again after each failure.
        wait_s: after a first failure.
    """

    def __init__(
        self, settings: MlflowExportSettings, connect: Callable[[], Recorder], wait_s: float | None = None
    ) -> None:
        self.every_s = settings.every_s
        self._settings = settings
        self._connect = connect
        self._wait_s = settings.every_s if wait_s is None else wait_s
        self._waiting: deque[_Told] = deque()
        self._changed = threading.Condition()
        self._recorder: Recorder | None = None
        self._runs: dict[Key, str] = {}
        self._failures = 0
        self._sent = self._dropped = 0
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="mlflow-export", daemon=True)
        self._thread.start()

    def tell(self, reports: Sequence[Mapping[str, Any]], now_ns: int) -> None:
        """These are known now."""
        at_ms = now_ns // 10**6
        told = [_Told((one["model"], one["version"]), metrics_of(one), at_ms, one["rows"]) for one in reports]
        with self._changed:
            self._waiting.extend(told)
            while len(self._waiting) > self._settings.max_waiting:
                self._waiting.popleft()
                self._dropped += 1
            self._changed.notify()

    def points(self) -> Iterator[Point]:
        """Every series."""
        yield Point(names.MLFLOW_SENT, (), self._sent)
        yield Point(names.MLFLOW_DROPPED, (), self._dropped)
        yield Point(names.MLFLOW_WAITING, (), len(self._waiting))

    def close(self) -> None:
        """Take no more; what waits is told if that takes no time."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join(_CLOSE_S)

    # --- the thread -----------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._is_closed)
                if not self._waiting:
                    return
                told = self._waiting.popleft()
            if not self._try(told):
                self._pause(told)
                if self._is_closed:
                    return

    def _try(self, told: _Told) -> bool:
        """Whether there is no need to try again."""
        try:
            self._send(told)
        except Exception as problem:  # noqa: BLE001 - the boundary: mlflow raises what it likes
            if isinstance(problem, TaxiwayError) and problem.kind in _WRONG:
                self._dropped += 1
                _log.warning("mlflow_refused", model=told.key[0], version=str(told.key[1]), error=problem)
                return True
            if not self._failures:
                _log.warning("mlflow_not_told", error=problem, hint="it is tried again; serving goes on")
            self._failures += 1
            self._recorder = None
            self._runs.clear()
            return False
        if self._failures:
            _log.info("mlflow_told_again")
        self._failures = 0
        self._sent += 1
        return True

    def _send(self, told: _Told) -> None:
        if self._recorder is None:
            self._recorder = self._connect()
        if told.key not in self._runs:
            name = f"{told.key[0]}:{told.key[1]}"
            experiment = self._recorder.experiment(self._settings.experiment)
            self._runs[told.key] = self._recorder.run_of(experiment, f"{name} in service", {"taxiway.watched": name})
        self._recorder.log(self._runs[told.key], told.metrics, told.at_ms, told.step)

    def _pause(self, told: _Told) -> None:
        """It is the first again, if there is room."""
        delay_s = min(self._wait_s * 2.0 ** min(self._failures - 1, 30), _LONGEST_S)
        until_s = time.monotonic() + delay_s
        with self._changed:
            if len(self._waiting) < self._settings.max_waiting:
                self._waiting.appendleft(told)
            else:
                self._dropped += 1
            self._changed.wait_for(lambda: self._is_closed, max(0.0, until_s - time.monotonic()))
