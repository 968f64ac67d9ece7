"""What crosses between the processes arrives as it was sent, however the socket cuts it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxiway.runtimes.hosted.arena import Block
from taxiway.runtimes.hosted.frames import (
    Asked,
    Close,
    FrameSplitter,
    Laid,
    Place,
    Ran,
    Run,
    decode_from_child,
    decode_to_child,
    encode,
)

ASKED = Asked(7, (Laid("FP32", (2, 4), 4096, 32), None), ("y",), "an id", 3, 1000, {"a": 1}, Place("s", True, False))
RUN = Run(1, Block(4096, 1024, 9), 8, 2, (ASKED,))


def test_a_run_arrives_as_it_was_sent() -> None:
    (body,) = FrameSplitter().feed(encode(RUN))
    assert decode_to_child(body) == RUN


def test_what_ran_arrives_as_it_was_sent() -> None:
    ran = Ran(1, None, 1, 2, 3, 4, whole=(Laid("BYTES", (1,), 0, 5), None))
    (body,) = FrameSplitter().feed(encode(ran))
    assert decode_from_child(body) == ran


@given(st.lists(st.integers(1, 50), max_size=40))
def test_frames_are_whole_however_they_are_cut(cuts: list[int]) -> None:
    data = encode(RUN) * 3 + encode(Close())
    splitter, bodies, start = FrameSplitter(), [], 0
    for cut in [*cuts, len(data)]:
        bodies += splitter.feed(data[start : start + cut])
        start += cut
    assert [decode_to_child(body) for body in bodies] == [RUN, RUN, RUN, Close()]


def test_a_frame_that_says_it_is_huge_is_refused() -> None:
    with pytest.raises(ValueError, match="a frame of"):
        FrameSplitter().feed(b"\xff\xff\xff\xff rest")
