"""Which trace a request belongs to, as its caller says: W3C Trace Context (w3.org/TR/trace-context). Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_MAX_BYTES = 512
"""Of either header; a longer one is ignored, as the standard allows."""
HEADERS = ("traceparent", "tracestate")


@dataclass(frozen=True, slots=True)
class ParentContext:
    """The span that a request continues.

    Attributes:
        is_sampled: whether its caller records the trace.
        state: what systems on the way want to find again, as it came.
    """

    trace_id: int
    span_id: int
    is_sampled: bool
    state: str = ""


def read_parent(headers: Mapping[str, str]) -> ParentContext | None:
    """The parent that headers (by lower-case name) tell of; None if there is none, or not in the standard's form."""
    text = headers.get("traceparent", "").strip()
    found = _TRACEPARENT.fullmatch(text) if len(text) <= _MAX_BYTES else None
    if found is None:
        return None
    version, trace_id, span_id, flags, rest = found.groups()
    if version == "ff" or (version == "00" and rest) or not int(trace_id, 16) or not int(span_id, 16):
        return None
    state = headers.get("tracestate", "")
    return ParentContext(
        int(trace_id, 16), int(span_id, 16), bool(int(flags, 16) & 1), state if len(state) <= _MAX_BYTES else ""
    )
