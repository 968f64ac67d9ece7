"""Published traces: their times and tokens, and rows that are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from taxiway.core.errors import InvalidWorkload, NotFound
from taxiway.profile.arrivals import Replay
from taxiway.profile.traces import read_trace
from taxiway.profile.workload import Limits, Request, read_workload, write_workload

AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:17:03.9799600,4808,10
2023-11-16 18:17:04.0319600,3180,8
2023-11-16 18:17:04.0781490,110,27
2023-11-16 18:17:10,7,0
"""
AZURE_2024 = """TIMESTAMP,ContextTokens,GeneratedTokens
2024-05-10 00:00:00.009930+00:00,2162,5
2024-05-10 00:00:00.017335+00:00,2399,6
"""
BURST_GPT = """Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type
45,a,2.5,ChatGPT,472,18,490,Conversation log
5,,1.0,GPT-4,1087,230,1317,API log
118,b,0.0,ChatGPT,417,0,417,Conversation log
"""


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_azure_to_the_tenth_of_a_microsecond(tmp_path: Path) -> None:
    workload = read_trace(write(tmp_path / "code.csv", AZURE))
    assert workload.source == "Azure LLM inference trace code.csv"
    times = workload.times_s()
    assert times is not None
    assert times == pytest.approx([0, 0.052, 0.098189, 6.02004], abs=5e-7)
    assert [(one.input_tokens, one.output_tokens) for one in workload.requests] == [
        (4808, 10),
        (3180, 8),
        (110, 27),
        (7, 1),
    ]


def test_azure_of_2024_has_a_zone(tmp_path: Path) -> None:
    times = read_trace(write(tmp_path / "t.csv", AZURE_2024)).times_s()
    assert times == pytest.approx([0, 0.007405], abs=5e-7)


def test_burst_gpt_is_sorted_by_its_times(tmp_path: Path) -> None:
    workload = read_trace(write(tmp_path / "BurstGPT_1.csv", BURST_GPT))
    assert workload.requests == [
        Request(0, input_tokens=1087, output_tokens=230),
        Request(40, input_tokens=472, output_tokens=18),
        Request(113, input_tokens=417, output_tokens=1),
    ]


def test_a_trace_becomes_a_workload_and_is_replayed_at_its_pace(tmp_path: Path) -> None:
    workload = read_trace(write(tmp_path / "code.csv", AZURE))
    write_workload(tmp_path / "w.jsonl", workload)
    again = read_workload(tmp_path / "w.jsonl")
    assert again == workload
    times = again.times_s()
    assert times is not None
    sent = Replay(times, scale=0.1).offsets(np.random.default_rng(0), 1.0, 10.0)
    assert sent == pytest.approx(times / 10)


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("a,b\n1,2\n", ["line 1: its columns are a, b; known are Azure"]),
        ("", ["line 1: its columns are none"]),
        (AZURE.splitlines()[0], ["line 2: the trace has no request"]),
        (
            AZURE + "today,x,3\n2023-11-16 18:17:11.5,3\n",
            [
                "line 6, TIMESTAMP: is 'today', not a moment",
                "line 6, ContextTokens: is 'x', not a number of tokens",
                "line 7: has 2 columns, the first line has 3",
            ],
        ),
        (BURST_GPT + "-3,a,1,GPT-4,1,1,2,API log\n", ["line 5, Timestamp: is '-3', not a number of seconds"]),
        (BURST_GPT + "nan,a,1,GPT-4,1,1,2,API log\n", ["line 5, Timestamp: is 'nan', not a number of seconds"]),
    ],
)
def test_rows_that_are_none_are_told_at_once(tmp_path: Path, text: str, problems: list[str]) -> None:
    with pytest.raises(InvalidWorkload) as refused:
        read_trace(write(tmp_path / "t.csv", text))
    told = refused.value.facts["problems"]
    assert len(told) == len(problems)
    assert all(one.startswith(start) for one, start in zip(told, problems, strict=True))


def test_limits_hold(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", AZURE)
    with pytest.raises(InvalidWorkload, match="is request 3, at most 2"):
        read_trace(path, Limits(max_requests=2))
    with pytest.raises(InvalidWorkload, match="more than 9 bytes"):
        read_trace(path, Limits(max_bytes=9))
    with pytest.raises(NotFound):
        read_trace(tmp_path / "none.csv")
