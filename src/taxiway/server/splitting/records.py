"""What is kept of answers for whoever judges them: bounded, handed out once, and counted where there was no room."""

from __future__ import annotations

import hashlib
import time
from collections import deque
from typing import Final

from taxiway.core.traffic import Recorded

MAX_RECORDS: Final = 20_000
MAX_BYTES: Final = 32 << 20


class Records:
    """The records of one service in one process, until they are asked for."""

    def __init__(self) -> None:
        self.dropped = 0
        """Those that there was no room for."""
        self._kept: deque[tuple[Recorded, int]] = deque()
        self._bytes = 0

    def add(self, record: Recorded, nbytes: int) -> None:
        """Keep one of about so many bytes, if there is room."""
        if len(self._kept) >= MAX_RECORDS or self._bytes + nbytes > MAX_BYTES:
            self.dropped += 1
            return
        self._kept.append((record, nbytes))
        self._bytes += nbytes

    def take(self) -> list[Recorded]:
        """All of them, which are forgotten here."""
        taken = [record for record, _ in self._kept]
        self._kept.clear()
        self._bytes = 0
        return taken


def unit_digest(unit: bytes | None) -> str:
    """A unit as it is told: nobody's name leaves the data plane."""
    return "" if unit is None else hashlib.blake2b(unit, digest_size=8).hexdigest()


def now_ns() -> int:
    """The time of day as records carry it, in UTC nanoseconds."""
    return time.time_ns()
