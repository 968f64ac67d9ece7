"""The faster graph is kept; of equally fast ones the smaller."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from taxiway.convert.choosing import TIE, choose
from taxiway.convert.outcome import Candidate

CANDIDATES = st.lists(
    st.builds(
        Candidate,
        exporter=st.sampled_from(["one", "other"]),
        size_bytes=st.integers(1, 10**9),
        cpu_ms=st.floats(1e-3, 1e4),
    ),
    min_size=1,
    max_size=4,
)


@given(CANDIDATES)
def test_nobody_is_faster_by_more_than_a_tie(candidates: list[Candidate]) -> None:
    kept = choose(candidates)
    assert kept.cpu_ms <= min(one.cpu_ms for one in candidates) * (1 + TIE)
    fast = [one for one in candidates if one.cpu_ms <= min(c.cpu_ms for c in candidates) * (1 + TIE)]
    assert kept.size_bytes == min(one.size_bytes for one in fast)
