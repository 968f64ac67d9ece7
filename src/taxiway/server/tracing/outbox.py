"""Takes closed traces off the event loop: a bounded box, emptied by a thread of its own."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from taxiway.server.tracing.plan import EXPORT_BATCH, EXPORT_DELAY_MS, EXPORT_QUEUE
from taxiway.server.tracing.trace import Trace
from taxiway.telemetry import catalogue as names
from taxiway.telemetry.logs import Log
from taxiway.telemetry.render import Point

_log = Log("taxiway.trace")


class Outbox:
    """What `put` takes, `write` gets, in order, on a thread that starts with the first trace.

    Args:
        mode: of tracing, for metrics and the log.
        write: writes some traces. Blocks; what it raises is logged and costs only these traces.
        capacity: how many may wait.
    """

    def __init__(self, mode: str, write: Callable[[Sequence[Trace]], None], capacity: int = EXPORT_QUEUE) -> None:
        self._mode = mode
        self._write = write
        self._capacity = capacity
        self._waiting: deque[Trace] = deque()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._written = 0
        self._dropped = 0
        self._failed = 0

    def put(self, trace: Trace) -> None:
        """Take one, or drop and count it if the box is full or closed. Called on one thread only."""
        if len(self._waiting) >= self._capacity or self._closing.is_set():
            self._dropped += 1
            return
        self._waiting.append(trace)
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=f"trace-{self._mode}", daemon=True)
            self._thread.start()
        if not self._wake.is_set():
            self._wake.set()

    def close(self, timeout_s: float) -> None:
        """Take nothing more, and write what was taken, within that time; the rest is lost."""
        self._closing.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                _log.warning("traces_lost", count=len(self._waiting), reason="they could not be written in time")

    def points(self) -> Iterator[Point]:
        """Traces written and lost so far."""
        yield Point(names.TRACES, (self._mode, "written"), self._written)
        yield Point(names.TRACES, (self._mode, "dropped"), self._dropped)
        yield Point(names.TRACES, (self._mode, "failed"), self._failed)

    def _work(self) -> None:
        while not (self._closing.is_set() and not self._waiting):
            self._wake.wait()
            self._closing.wait(EXPORT_DELAY_MS / 1000)
            self._wake.clear()
            while self._waiting:
                self._write_some([self._waiting.popleft() for _ in range(min(EXPORT_BATCH, len(self._waiting)))])

    def _write_some(self, traces: Sequence[Trace]) -> None:
        try:
            self._write(traces)
        except Exception as problem:  # noqa: BLE001 - the boundary: a full disk must not end the thread
            self._failed += len(traces)
            _log.warning("traces_lost", count=len(traces), error=problem)
        else:
            self._written += len(traces)
