"""Sees to it that no process of a server outlives its supervisor."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time

from taxiway.core.errors import EXIT_CODES, ErrorKind


class Sentinel(threading.Thread):
    """Ends this process if the supervisor is gone and the event loop does not see to it in time."""

    def __init__(self, channel: socket.socket) -> None:
        super().__init__(name="sentinel", daemon=True)
        self.patience_s = 0.0
        """How long the loop may take to end; while models load, nothing is owed to anybody."""
        self._watched = channel.dup()

    def run(self) -> None:
        """Sleep in the kernel until the other end is closed."""
        waiting = select.poll()
        waiting.register(self._watched, 0)
        with contextlib.suppress(OSError):
            waiting.poll()
        time.sleep(self.patience_s)
        os._exit(EXIT_CODES[ErrorKind.UNAVAILABLE])
