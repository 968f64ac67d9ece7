"""Reads an answer that comes as server-sent events, and notes when each token came."""

from __future__ import annotations

import time
from typing import Any, Final

import orjson

_DONE: Final = b"[DONE]"
_TEXT_KEYS: Final = ("content", "reasoning_content", "reasoning", "tool_calls", "text", "refusal")
"""Whatever of these a delta has is a token that the user waits for, thoughts too."""


class EventReader:
    """Of one connection; `begin` before each request.

    Attributes:
        first: when the first token came, by the monotonic clock; NaN before.
        tokens: how many came; what the server counted, where it says so.
        gaps: seconds between one and the next.
        problem: the first event that tells of an error, as the server wrote it; empty if none does.
    """

    __slots__ = ("_buffer", "_counted", "_last", "_seen", "first", "gaps", "problem")

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Forget the answer before."""
        self._buffer = b""
        self._counted = 0
        self._seen = 0
        self._last = 0.0
        self.first = float("nan")
        self.gaps: list[float] = []
        self.problem = b""

    @property
    def tokens(self) -> int:
        """Events with text in them, unless the server counted tokens itself."""
        return self._counted or self._seen

    def feed(self, data: bytes) -> None:
        """A part of the body; all events that end in it came now."""
        self._buffer += data
        *lines, self._buffer = self._buffer.split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                self._event(line[5:].strip())

    def _event(self, text: bytes) -> None:
        if not text or text == _DONE:
            return
        try:
            document = orjson.loads(text)
        except orjson.JSONDecodeError:
            document = None
        if not isinstance(document, dict):
            self._token()
            return
        if document.get("error"):
            self.problem = self.problem or text
            return
        usage = document.get("usage")
        if isinstance(usage, dict) and isinstance(usage.get("completion_tokens"), int):
            self._counted = usage["completion_tokens"]
        if _has_text(document):
            self._token()

    def _token(self) -> None:
        now = time.monotonic()
        if self._seen:
            self.gaps.append(now - self._last)
        else:
            self.first = now
        self._last = now
        self._seen += 1


def _has_text(document: dict[str, Any]) -> bool:
    """An event of a protocol without choices is a token by itself."""
    choices = document.get("choices")
    if not isinstance(choices, list):
        return "usage" not in document
    for choice in choices:
        delta = choice.get("delta", choice) if isinstance(choice, dict) else None
        if isinstance(delta, dict) and any(delta.get(key) for key in _TEXT_KEYS):
            return True
    return False
