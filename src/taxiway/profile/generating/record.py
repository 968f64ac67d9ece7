"""What a generator process writes down while it sends: six numbers a request and two a token, in flat arrays."""

from __future__ import annotations

from array import array
from math import nan

from taxiway.profile.samples import NOT_SENT, ending_words


class Record:
    """Of one process; `began` is the moment from which seconds count, by the monotonic clock."""

    def __init__(self) -> None:
        self.began = 0.0
        self.rows = array("d")
        self.gaps = array("d")
        self.examples: dict[str, str] = {}

    def note(self, due: float, sent: float, done: float, ending: int) -> None:
        """A request ended; times by the monotonic clock."""
        began = self.began
        self.rows.extend((due - began, sent - began, nan, done - began, 0.0, ending))

    def note_tokens(self, due: float, sent: float, done: float, tokens: tuple[float, int, list[float]]) -> None:
        """Likewise, of an answer in tokens: when the first came, how many did, the gaps between."""
        began = self.began
        first, count, gaps = tokens
        self.rows.extend((due - began, sent - began, first - began, done - began, count, 0))
        for gap in gaps:
            self.gaps.extend((due - began, gap))

    def never_sent(self, due: float, now: float) -> None:
        """A request that waited for a connection until it was too late."""
        self.note(due, nan, now, NOT_SENT)

    def explain(self, ending: int, said: bytes) -> None:
        """Keep the first example of a kind of error."""
        self.examples.setdefault(ending_words(ending), said.decode("utf-8", "replace")[:300])
