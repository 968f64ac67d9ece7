"""The last requests of a version that were slow or failed, with where their time went: bounded, and rarely touched.

What is slow follows from the version's own mean, so that nobody has to say it: five times that, and at least a
millisecond. So many a second are kept, the others are like them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any, Final

from taxiway.core.clock import Clock
from taxiway.core.requests import InferRequest

MAX_KEPT: Final = 50
_A_LOOK: Final = 10
"""Kept between two looks at the metrics, of each kind; those come every second."""
_TIMES: Final = 5
_LEAST_NS: Final = 1_000_000
_NEVER: Final = 1 << 62
_MAX_ID_CHARS: Final = 128
_STAGES: Final = ("queue_s", "input_s", "infer_s", "output_s")


class KeptRequests:
    """Of one version.

    Attributes:
        slow_ns: from arrival to the end of the run; what took longer is slow. Nothing is before the first look.
    """

    __slots__ = ("_clock", "_failed", "_kept", "_slow", "slow_ns")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept: deque[dict[str, Any]] = deque(maxlen=MAX_KEPT)
        self._slow = self._failed = _A_LOOK
        self.slow_ns = _NEVER

    def renew(self, count: int, total_ns: int) -> None:
        """So many requests took so long altogether."""
        self._slow = self._failed = _A_LOOK
        self.slow_ns = max(_LEAST_NS, _TIMES * total_ns // count) if count else _NEVER

    def slow(self, batch: Sequence[InferRequest], started_ns: int, stages_ns: tuple[int, int, int]) -> None:
        """A run ended whose first request was slow: input, infer and output took so long."""
        for request in batch:
            queue_ns = started_ns - request.arrived_ns
            if self._slow > 0 and queue_ns + sum(stages_ns) > self.slow_ns:
                self._slow -= 1
                self._keep(request, "slow", "", queue_ns + sum(stages_ns), (queue_ns, *stages_ns))

    def failed(self, request: InferRequest, code: str, took_ns: int) -> None:
        """There was no answer, for this reason."""
        if self._failed > 0:
            self._failed -= 1
            self._keep(request, "failed", code, took_ns, ())

    def told(self) -> list[dict[str, Any]]:
        """Oldest first."""
        return list(self._kept)

    def _keep(self, request: InferRequest, kind: str, code: str, total_ns: int, stages_ns: tuple[int, ...]) -> None:
        told: dict[str, Any] = {
            "at_ms": round(self._clock.now_utc().timestamp() * 1000),
            "id": (request.id or "")[:_MAX_ID_CHARS],
            "kind": kind,
            "code": code,
            "rows": request.rows,
            "total_s": total_ns / 1e9,
        }
        stages = zip_longest(_STAGES, stages_ns)
        self._kept.append(told | {name: None if ns is None else ns / 1e9 for name, ns in stages})
