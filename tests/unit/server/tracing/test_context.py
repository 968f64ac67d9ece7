"""W3C Trace Context, as requests bring it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxiway.server.tracing.context import ParentContext, read_parent

TRACE_ID, SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.integers(0, 255), st.text(max_size=20))
def test_what_the_standard_writes_is_read(trace_id: int, span_id: int, flags: int, state: str) -> None:
    headers = {"traceparent": f"00-{trace_id:032x}-{span_id:016x}-{flags:02x}", "tracestate": state}

    assert read_parent(headers) == ParentContext(trace_id, span_id, bool(flags & 1), state)


@given(st.text(max_size=600))
def test_anything_else_is_no_parent(text: str) -> None:
    assert read_parent({"traceparent": text}) is None


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        (f"00-{TRACE_ID}-{SPAN_ID}-01", True),
        (f" 00-{TRACE_ID}-{SPAN_ID}-01 ", True),
        (f"01-{TRACE_ID}-{SPAN_ID}-01", True),
        (f"01-{TRACE_ID}-{SPAN_ID}-01-more", True),
        (f"01-{TRACE_ID}-{SPAN_ID}-01-{'x' * 600}", False),
        (f"00-{TRACE_ID}-{SPAN_ID}-01-more", False),
        (f"ff-{TRACE_ID}-{SPAN_ID}-01", False),
        (f"00-{TRACE_ID.upper()}-{SPAN_ID}-01", False),
        (f"00-{'0' * 32}-{SPAN_ID}-01", False),
        (f"00-{TRACE_ID}-{'0' * 16}-01", False),
        (f"00-{TRACE_ID}-{SPAN_ID}-01, 00-{TRACE_ID}-{SPAN_ID}-01", False),
        ("", False),
    ],
)
def test_the_standards_cases(text: str, taken: bool) -> None:
    assert (read_parent({"traceparent": text}) is not None) is taken


def test_a_long_state_is_left_behind() -> None:
    parent = read_parent({"traceparent": f"00-{TRACE_ID}-{SPAN_ID}-01", "tracestate": "a=" + "x" * 600})

    assert parent is not None
    assert not parent.state
