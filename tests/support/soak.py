"""Many clients at once, what becomes of their requests, and connections that are left."""

from __future__ import annotations

import random
import re
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Self

from tests.support.raw_http import Process, Raw


def chance_of(seed: int) -> random.Random:
    """The same chances each time."""
    return random.Random(seed)  # noqa: S311 - a test's


class Line:
    """A connection that is replaced by a new one whenever its client leaves."""

    def __init__(self, soak: Soak) -> None:
        self._address = soak.server.address
        self.now = Raw(self._address)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.now.socket.close()

    def leave(self) -> None:
        """Hang up, whatever is owed, and come back."""
        self.now.socket.close()
        self.now = Raw(self._address)


class Soak:
    """Clients, each in a thread of its own, and what became of their requests."""

    def __init__(self, server: Process) -> None:
        self.server = server
        self.stop = threading.Event()
        self.problems: list[str] = []
        self.answered: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self._sequences = iter(range(1, 1 << 30))
        self._lock = threading.Lock()

    def run(
        self, clients: Sequence[Callable[[Soak, random.Random], Iterator[None]]], seed: int
    ) -> list[threading.Thread]:
        """Start them; each goes from one thing to the next until `stop`."""
        threads = [
            threading.Thread(target=self._go, args=(client, chance_of(seed * 1000 + number)), daemon=True)
            for number, client in enumerate(clients)
        ]
        for thread in threads:
            thread.start()
        return threads

    def _go(self, client: Client, chance: random.Random) -> None:
        try:
            for _ in client(self, chance):
                if self.stop.is_set():
                    return
        except Exception:  # noqa: BLE001 - told by the test
            self.problems.append(f"{client}: {traceback.format_exc()}")

    def sequence(self) -> int:
        """A number that no other sequence has."""
        with self._lock:
            return next(self._sequences)

    def right(self, model: str, got: Sequence[float], expected: Sequence[float]) -> None:
        """An answer came."""
        with self._lock:
            self.answered[model] += 1
        if list(got) != list(expected):
            self.problems.append(f"{model} answered {got}, not {expected}")

    def wrong(self, model: str, text: str, *allowed: re.Pattern[str]) -> None:
        """None came, for this reason."""
        reason = next((one for one in allowed if one.search(text)), None)
        if reason is None:
            self.problems.append(f"{model}: {text}")
        else:
            with self._lock:
                self.failed[reason.pattern] += 1


Client = Callable[[Soak, random.Random], Iterator[None]]
"""Does one thing after the other, and yields after each."""
