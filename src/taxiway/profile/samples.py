"""One row for each request: when it was due, sent, first answered and done, how many tokens came, and how it ended."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

COLUMNS: Final = 6
"""Due, sent, first, done: seconds from the beginning. Tokens. The ending, as below."""
GAP_COLUMNS: Final = 2
"""When its request was due; seconds between the token before and this one."""

OK: Final = 0
TIMED_OUT: Final = 1
NOT_CONNECTED: Final = 2
DISCONNECTED: Final = 3
NOT_HTTP: Final = 4
NOT_SENT: Final = 5
NOT_WANTED: Final = 6
GRPC: Final = 50
"""And above, up to 99: gRPC's status codes. From 100 on it is the status of HTTP."""

_WORDS: Final = {
    TIMED_OUT: "timeout",
    NOT_CONNECTED: "connection refused",
    DISCONNECTED: "connection lost",
    NOT_HTTP: "malformed answer",
    NOT_SENT: "not sent",
    NOT_WANTED: "wrong answer",
}


def ending_words(ending: int) -> str:
    """`timeout`, `http 503`, `grpc 14`."""
    if ending >= 100:
        return f"http {ending}"
    return f"grpc {ending - GRPC}" if ending >= GRPC else _WORDS[ending]


@dataclass(frozen=True, slots=True)
class Samples:
    """What became of every request.

    Attributes:
        rows: float64 [n, COLUMNS], by due time.
        gaps: float64 [any, GAP_COLUMNS], one for each token after the first of its request.
    """

    rows: NDArray[np.float64]
    gaps: NDArray[np.float64]

    @classmethod
    def joined(cls, parts: Iterable[tuple[bytes, bytes]]) -> Samples:
        """Rows and gaps of several processes, as they wrote them."""
        told = list(parts)
        rows = np.concatenate([np.frombuffer(rows, np.float64).reshape(-1, COLUMNS) for rows, _ in told])
        gaps = np.concatenate([np.frombuffer(gaps, np.float64).reshape(-1, GAP_COLUMNS) for _, gaps in told])
        return cls(rows[np.argsort(rows[:, 0], kind="stable")], gaps)

    @property
    def due(self) -> NDArray[np.float64]:
        """When each was due, in seconds from the beginning."""
        return self.rows[:, 0]

    @property
    def sent(self) -> NDArray[np.float64]:
        """When each was sent; NaN where it never was."""
        return self.rows[:, 1]

    @property
    def first(self) -> NDArray[np.float64]:
        """When the first token came; NaN where none did."""
        return self.rows[:, 2]

    @property
    def done(self) -> NDArray[np.float64]:
        """When each ended, however it did."""
        return self.rows[:, 3]

    @property
    def tokens(self) -> NDArray[np.int64]:
        """How many tokens each brought."""
        return self.rows[:, 4].astype(np.int64)

    @property
    def ending(self) -> NDArray[np.int64]:
        """How each ended."""
        return self.rows[:, 5].astype(np.int64)

    @property
    def between(self) -> NDArray[np.float64]:
        """Seconds between one token and the next, of all requests."""
        return self.gaps[:, 1]

    def after(self, moment_s: float) -> Samples:
        """Those that were due from `moment_s` on, but for a microsecond: they went through the clock and back."""
        least = moment_s - 1e-6
        return Samples(self.rows[self.due >= least], self.gaps[self.gaps[:, 0] >= least])
