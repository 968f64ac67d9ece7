"""What a long verb is doing now, for whoever waits: one line that changes on a terminal, a line each in a log."""

from __future__ import annotations

import threading
from time import monotonic
from types import TracebackType
from typing import Self, TextIO

_PATIENCE_S = 1.0
"""Nobody is told of what takes no longer."""
_TICK_S = 0.2


class Progress:
    """Shows the step under way once it takes a while, with the seconds it has taken; cleans up after itself."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._overwrites = stream.isatty()
        self._doing = ""
        self._since = monotonic()
        self._shown = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._show_on, name="progress", daemon=True)

    def tell(self, doing: str) -> None:
        """The next step begins."""
        self._doing, self._since = doing, monotonic()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if self._overwrites and self._shown:
            self._write("\r\x1b[K")

    def _show_on(self) -> None:
        while not self._stop.wait(_TICK_S):
            doing, lasted = self._doing, monotonic() - self._since
            if not doing or lasted < _PATIENCE_S:
                continue
            if self._overwrites:
                self._shown = doing
                self._write(f"\r\x1b[K{doing} ... {lasted:.0f} s")
            elif self._shown != doing:
                self._shown = doing
                self._write(f"{doing} ...\n")

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:  # nobody looks any more, which is no reason to stop
            self._stop.set()
