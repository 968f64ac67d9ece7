"""What model processes print: cut into lines, and bounded."""

from __future__ import annotations

import subprocess
import sys
import threading

from hypothesis import given
from hypothesis import strategies as st

from taxiway.server.execution.processes.output import LineBudget, LineCutter, Output

_S = 1_000_000_000


@given(st.lists(st.binary(max_size=40)), st.integers(1, 8))
def test_lines_are_whole_and_short_however_they_come(chunks: list[bytes], longest: int) -> None:
    cutter = LineCutter(longest)
    lines = [line for chunk in chunks for line in cutter.feed(chunk)] + cutter.end()
    assert all(len(line) <= longest for line in lines)
    assert b"".join(lines) == b"".join(chunks).replace(b"\n", b"")
    whole = LineCutter(1 << 20)
    expected = whole.feed(b"".join(chunks)) + whole.end()
    if all(len(line) <= longest for line in expected):
        assert lines == expected


def test_what_is_too_much_is_counted_and_told_when_its_window_is_over() -> None:
    budget = LineBudget(lines=10, window_s=1.0)
    assert budget.take(7, 0) == (7, 0)
    assert budget.take(7, 1) == (3, 0)
    assert budget.take(1, 2) == (0, 0)
    assert budget.take(1, _S) == (1, 5)
    assert budget.take(1, 3 * _S) == (1, 0)


def _output(code: str) -> tuple[Output, list[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    told: list[bytes] = []
    output = Output(process, "test", told.extend)
    assert output.ended.wait(30)
    process.wait()
    return output, told


def test_the_end_is_seen_though_a_child_of_it_goes_on_and_holds_the_pipe() -> None:
    output, told = _output("import os, time; print('x', flush=True)\nif not os.fork(): time.sleep(2)\nos._exit(0)")
    assert told == [b"x"]
    assert output.last_line() == "x"


def test_everything_printed_before_the_end_is_read() -> None:
    _, told = _output("print('a' * 100_000); print('b')")
    assert sum(map(len, told)) == 100_001
    assert told[-1] == b"b"


def test_of_a_long_last_line_the_beginning_is_told() -> None:
    """It becomes part of the reason that the index, the log and readiness tell."""
    output, told = _output("print('a' * 4000)")
    assert told == [b"a" * 4000]
    assert output.last_line() == "a" * 300 + "..."


def test_who_closes_the_pipe_is_still_seen_to_end() -> None:
    output, _ = _output("import os; os.close(1); os.close(2); os._exit(0)")
    called = threading.Event()
    output.call_at_end(called.set)
    assert called.is_set()
