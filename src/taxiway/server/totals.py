"""Counting what one data-plane process does as a whole: its doors, and how models come and go.

What each model does is counted in statistics.py, and in the same way: integers, worked out when somebody asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from taxiway.telemetry import catalogue as names
from taxiway.telemetry.catalogue import LoadOutcome, UnloadReason
from taxiway.telemetry.render import Point

HANDSHAKE_OUTCOMES = ("done", "failed", "late", "gone")


class ServerStatistics:
    """What the HTTP front has done; the transport adds to its integers in place.

    `held` is asked at a scrape for what admission counts: requests and bytes held, requests refused so far.
    """

    __slots__ = (
        "_held",
        "accepted_connections",
        "handshakes",
        "open_connections",
        "open_streams",
        "refused_connections",
        "status_classes",
    )

    def __init__(self, held: Callable[[], tuple[int, int, int]]) -> None:
        self._held = held
        self.open_connections = 0
        self.accepted_connections = 0
        self.refused_connections = 0
        self.open_streams = 0
        """Answers that have begun and have no known end."""
        self.handshakes = dict.fromkeys(HANDSHAKE_OUTCOMES, 0)
        """TLS handshakes by how they ended."""
        self.status_classes = [0] * 6
        """Responses by the first digit of their status."""

    def responded(self, status: int, count: int = 1) -> None:
        """Responses with this status were written."""
        self.status_classes[status // 100] += count

    def points(self) -> Iterator[Point]:
        """Every series of the front."""
        for digit in range(1, 6):
            yield Point(names.RESPONSES, (f"{digit}xx",), self.status_classes[digit])
        yield Point(names.OPEN_CONNECTIONS, (), self.open_connections)
        yield Point(names.OPEN_STREAMS, ("http",), self.open_streams)
        yield Point(names.ACCEPTED_CONNECTIONS, (), self.accepted_connections)
        yield Point(names.REFUSED_CONNECTIONS, (), self.refused_connections)
        for outcome, count in self.handshakes.items():
            yield Point(names.HANDSHAKES, (outcome,), count)
        requests, nbytes, refused = self._held()
        yield Point(names.REFUSED_REQUESTS, (), refused)
        yield Point(names.IN_FLIGHT, (), requests)
        yield Point(names.BUFFERED_BYTES, (), nbytes)


class LifecycleStatistics:
    """What happened to models as a whole; whoever does it adds to its integers in place."""

    def __init__(self) -> None:
        self.memory: Callable[[], tuple[int, int]] = lambda: (0, 0)
        """Asked at a scrape: bytes that loaded models take, by the size of their files, and what they may."""
        self.loads = dict.fromkeys(LoadOutcome, 0)
        self.unloads = dict.fromkeys(UnloadReason, 0)
        self.cold_held = 0
        self.cold_refused = 0
        self.cold_waiting = 0

    def points(self) -> Iterator[Point]:
        """Every series."""
        for outcome, count in self.loads.items():
            yield Point(names.LOADS, (outcome.value,), count)
        for reason, count in self.unloads.items():
            yield Point(names.UNLOADS, (reason.value,), count)
        used, allowed = self.memory()
        yield Point(names.MODELS_BYTES, (), used)
        yield Point(names.MODELS_LIMIT_BYTES, (), allowed)
        yield Point(names.COLD_HELD, (), self.cold_held)
        yield Point(names.COLD_REFUSED, (), self.cold_refused)
        yield Point(names.COLD_WAITING, (), self.cold_waiting)


class GrpcStatistics:
    """What the gRPC front has done: calls that ended, by method and status, and the streams that are open."""

    __slots__ = ("_ended", "open_streams")

    def __init__(self) -> None:
        self._ended: dict[tuple[str, str], int] = {}
        self.open_streams = 0

    def ended(self, method: str, code: str) -> None:
        """A call of `method` ended with the status named `code`. Both are from closed lists."""
        key = (method, code)
        self._ended[key] = self._ended.get(key, 0) + 1

    def points(self) -> Iterator[Point]:
        """Every series of the front."""
        for labels, count in self._ended.items():
            yield Point(names.GRPC_CALLS, labels, count)
        yield Point(names.OPEN_STREAMS, ("grpc",), self.open_streams)
