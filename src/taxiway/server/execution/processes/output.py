"""What a model process prints, until it ends: into the log, line by line, and never more of it than a log can bear.

The thread that reads it also sees the process end. A connection or a pipe that closes would not tell: whatever the
model has started may hold them open for as long as it likes.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import threading
from collections import deque
from collections.abc import Callable
from time import monotonic_ns

from taxiway.runtimes.hosted.frames import Said
from taxiway.server.execution.processes.plan import Labels
from taxiway.telemetry.logs import MODEL_LOGGER, Log

_log = Log(MODEL_LOGGER)
_READ_BYTES = 64 * 1024
_LINE_BYTES = 4096
_KEPT_LINES = 20
_TOLD_CHARS = 300
"""So much of a line is told outside the log, which has it whole: it becomes part of a reason."""
_LAST_READS = 64
"""After its end so much is read at most: what it has started may go on printing."""


class LineCutter:
    """Cuts what is printed into lines, none of them longer than `longest` bytes."""

    def __init__(self, longest: int = _LINE_BYTES) -> None:
        self._longest = longest
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that are whole now, and what is too long for one as several."""
        *whole, rest = (self._rest + data).split(b"\n")
        lines = [piece for line in whole for piece in self._pieces(line)]
        *long, self._rest = self._pieces(rest)
        return lines + long

    def end(self) -> list[bytes]:
        """What was not ended by a newline."""
        rest, self._rest = self._rest, b""
        return [rest] if rest else []

    def _pieces(self, line: bytes) -> list[bytes]:
        if len(line) <= self._longest:
            return [line]
        return [line[at : at + self._longest] for at in range(0, len(line), self._longest)]


class LineBudget:
    """How many lines may be told: `lines` in each window; the rest are counted."""

    def __init__(self, lines: int = 1000, window_s: float = 10.0) -> None:
        self._lines = lines
        self._window_ns = int(window_s * 1e9)
        self._since_ns = 0
        self._left = lines
        self.dropped = 0
        """In the windows before this one, or in this one."""

    def take(self, wanted: int, now_ns: int) -> tuple[int, int]:
        """How many of `wanted` lines may be told now; and how many were dropped in the last window, once it is over."""
        told = 0
        if now_ns - self._since_ns >= self._window_ns:
            self._since_ns, self._left = now_ns, self._lines
            told, self.dropped = self.dropped, 0
        granted = min(wanted, self._left)
        self._left -= granted
        self.dropped += wanted - granted
        return granted, told


class Output:
    """Reads what a child prints in a thread of its own, until the child has ended.

    Args:
        process: whose `stdout` is a pipe, and which nobody waits for meanwhile.
        tell: called with lines, in that thread. They are not text yet: most of too many are never looked at.

    Attributes:
        ended: set once it has ended, and what it printed was read.
    """

    def __init__(self, process: subprocess.Popen[bytes], name: str, tell: Callable[[list[bytes]], None]) -> None:
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        self.ended = threading.Event()
        self._stdout = process.stdout
        self._end = os.pidfd_open(process.pid)
        self._tell = tell
        self._last: deque[bytes] = deque(maxlen=_KEPT_LINES)
        self._is_over = False
        self._on_end: Callable[[], None] | None = None
        self._lock = threading.Lock()
        threading.Thread(target=self._read, name=name, daemon=True).start()

    def last_line(self) -> str:
        """The last one that says something, or its beginning; empty if there is none."""
        line = next((text_of(line) for line in reversed(self._last) if line.strip()), "")
        return line if len(line) <= _TOLD_CHARS else f"{line[:_TOLD_CHARS]}..."

    def call_at_end(self, on_end: Callable[[], None]) -> None:
        """Have this called in the thread once the child has ended, before `ended` is set; at once if it has."""
        with self._lock:
            self._on_end = on_end
            is_over = self._is_over
        if is_over:
            on_end()

    def _read(self) -> None:
        try:
            self._read_all()
        finally:
            self._stdout.close()  # whatever it has started, and still prints, is told so
            os.close(self._end)
            with self._lock:
                self._is_over = True
                on_end, self._on_end = self._on_end, None
            if on_end is not None:
                on_end()
            self.ended.set()  # after that: whoever waits for it may rely on what was told

    def _read_all(self) -> None:
        cutter = LineCutter()
        number = self._stdout.fileno()
        poll = select.poll()
        poll.register(number, select.POLLIN)
        poll.register(self._end, select.POLLIN)
        left = _LAST_READS
        while left:
            ready = {descriptor for descriptor, _ in poll.poll()}
            if number in ready:
                data = os.read(number, _READ_BYTES)
                if not data:
                    poll.unregister(number)
                self._take(cutter.feed(data))
                left -= self._end in ready
            elif self._end in ready:
                break
        self._take(cutter.end())

    def _take(self, lines: list[bytes]) -> None:
        self._last.extend(lines[-_KEPT_LINES:])
        with contextlib.suppress(Exception):  # a log that fails must not have the child block when it prints
            self._tell(lines)


class ModelLog:
    """Writes what a model's code prints and says into the log, as far as a log can bear it."""

    def __init__(self, labels: Labels, instance: int) -> None:
        self._labels = labels
        self._instance = instance
        self._budget = LineBudget()

    def printed(self, lines: list[bytes]) -> None:
        """Lines that it printed; empty ones are left out."""
        full = [line for line in lines if line.strip()]
        for line in full[: self._granted(len(full))]:
            _log.info("model_output", **self._labels, instance=self._instance, line=text_of(line))

    def said(self, said: Said) -> None:
        """A line that it wants in the log."""
        if self._granted(1):
            write = {"error": _log.error, "warning": _log.warning, "debug": _log.debug}.get(said.level, _log.info)
            write("model_said", **self._labels, instance=self._instance, line=said.text[:_LINE_BYTES])

    def _granted(self, wanted: int) -> int:
        granted, dropped = self._budget.take(wanted, monotonic_ns())
        if dropped:
            _log.warning("model_output_dropped", **self._labels, instance=self._instance, count=dropped)
        return granted


def text_of(line: bytes) -> str:
    """A line as it stands in the log."""
    return line.decode("utf-8", "replace").rstrip()
