"""Workloads: what is written is read again, and what is wrong is told with line, field, rule and next step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxiway.core.errors import InvalidArgument, InvalidWorkload, NotFound
from taxiway.core.tensors import Datatype, count_elements
from taxiway.profile.filling import fill_inputs
from taxiway.profile.workload import Limits, Request, Workload, read_workload, workload_lines, write_workload

TENSOR: dict[str, Any] = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0]}
STANDARD = Limits()
NUMBERS = st.floats(0, 1e9) | st.integers(0, 10**9)
REQUESTS = st.builds(
    Request,
    inputs=st.just([TENSOR]),
    headers=st.dictionaries(
        st.from_regex(r"[A-Za-z-]+", fullmatch=True), st.from_regex(r"[ -~]*", fullmatch=True), max_size=3
    ),
    output_tokens=st.none() | st.integers(0, 10**6),
    weight=st.floats(1e-6, 1e6),
) | st.builds(Request, body=st.just({"prompt": "Hello"}), input_tokens=st.none() | st.integers(0, 10**6))


def written(path: Path, *lines: Any) -> Path:
    path.write_bytes(b"".join((line if isinstance(line, bytes) else orjson.dumps(line)) + b"\n" for line in lines))
    return path


def refused(path: Path, *lines: Any, limits: Limits = STANDARD) -> list[str]:
    with pytest.raises(InvalidWorkload) as caught:
        read_workload(written(path, *lines), limits)
    assert caught.value.hint
    problems: list[str] = caught.value.facts["problems"]
    assert all(problem in caught.value.message for problem in problems)
    return problems


@given(st.lists(REQUESTS, min_size=1, max_size=5), st.lists(NUMBERS, min_size=5, max_size=5), st.booleans())
def test_what_is_written_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, requests: list[Request], times: list[float], timed: bool
) -> None:
    if timed:
        made = zip(sorted(times), requests, strict=False)
        requests = [Request(at, one.inputs, one.body, one.headers, weight=one.weight) for at, one in made]
    path = tmp_path_factory.mktemp("workload") / "requests.jsonl"
    write_workload(path, Workload(requests, "made up"))
    found = read_workload(path)
    assert found == Workload(requests, "made up")
    assert (found.times_s() is not None) == timed
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_arrays_of_numpy_are_written_as_data() -> None:
    request = Request(inputs=[{**TENSOR, "data": np.ones((1, 2), np.float32)}])
    assert orjson.loads(list(workload_lines([request], "here"))[1])["inputs"][0]["data"] == [[1.0, 1.0]]


def test_a_file_without_a_head_is_named_by_its_path(tmp_path: Path) -> None:
    path = written(tmp_path / "w.jsonl", {"inputs": [TENSOR]}, b"", {"input_tokens": 5, "at_s": None})
    assert read_workload(path) == Workload([Request(inputs=[TENSOR]), Request(input_tokens=5)], str(path))


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"{", "line 1: is no JSON"),
        ([1], "line 1: is an array, not an object"),
        ({}, "line 1, inputs: is missing, as are body and input_tokens"),
        ({"format": "workload/9"}, "line 1, format: is 'workload/9'"),
        ({"inputs": [TENSOR], "body": {}}, "line 1, body: stands beside inputs"),
        ({"inputs": [TENSOR], "colour": 1}, "line 1, colour: is not known"),
        ({"inputs": []}, "line 1, inputs: is empty"),
        ({"inputs": [3]}, "line 1, inputs[0]: is a number, not a tensor"),
        ({"inputs": [{**TENSOR, "name": 3}]}, "line 1, inputs[0].name: is 3"),
        ({"inputs": [{**TENSOR, "datatype": "FLOAT"}]}, "line 1, inputs[0].datatype: is 'FLOAT'"),
        ({"inputs": [{**TENSOR, "shape": [1, -1]}]}, "line 1, inputs[0].shape: is [1,-1]"),
        ({"inputs": [{**TENSOR, "shape": [True, 2]}]}, "line 1, inputs[0].shape: is [true,2]"),
        ({"inputs": [{**TENSOR, "data": [1, 2, 3]}]}, "line 1, inputs[0].data: has 3 elements, its shape has 2"),
        ({"inputs": [{**TENSOR, "data": [[1], [None]]}]}, "line 1, inputs[0].data: is an array, not"),
        ({"inputs": [{**TENSOR, "data": "AAAA"}]}, "line 1, inputs[0].data: is a text, not"),
        ({"body": "x"}, "line 1, body: is a text, not an object"),
        ({"input_tokens": -1}, "line 1, input_tokens: is -1"),
        ({"input_tokens": 1, "output_tokens": 1.5}, "line 1, output_tokens: is 1.5"),
        ({"input_tokens": 1, "at_s": "now"}, "line 1, at_s: is 'now', not a number"),
        ({"input_tokens": 1, "at_s": -1}, "line 1, at_s: is -1, not within"),
        ({"input_tokens": 1, "weight": 0}, "line 1, weight: is 0, not within"),
        ({"input_tokens": 1, "weight": True}, "line 1, weight: is true, not a number"),
        ({"input_tokens": 1, "headers": ["a"]}, "line 1, headers: is an array"),
        ({"input_tokens": 1, "headers": {"a": "b\r\nc: d"}}, "line 1, headers.'a': is "),
    ],
)
def test_a_line_that_breaks_a_rule_is_told(tmp_path: Path, line: Any, problem: str) -> None:
    problems = refused(tmp_path / "w.jsonl", line)
    assert len(problems) == 1
    assert problems[0].startswith(problem)
    assert "; " in problems[0]


def test_every_bad_line_is_told_at_once_up_to_a_limit(tmp_path: Path) -> None:
    good, bad = {"input_tokens": 1}, {"input_tokens": "many", "weight": -1}
    problems = refused(tmp_path / "w.jsonl", good, bad, good, b"?", bad)
    assert [problem.split(":")[0] for problem in problems] == [
        "line 2, input_tokens",
        "line 2, weight",
        "line 4",
        "line 5, input_tokens",
        "line 5, weight",
    ]
    assert len(refused(tmp_path / "w.jsonl", *[bad] * 9, limits=Limits(max_problems=3))) == 3


def test_times_out_of_order_are_told(tmp_path: Path) -> None:
    lines = [{"input_tokens": 1, "at_s": at} for at in (0, 2, 1, 1)]
    assert refused(tmp_path / "w.jsonl", *lines) == ["line 3, at_s: is 1, before the 2 of line 2; sort the lines by it"]


def test_limits_hold(tmp_path: Path) -> None:
    path, line = tmp_path / "w.jsonl", {"input_tokens": 1}
    assert "has 57 bytes, at most 56" in refused(path, *[line] * 3, limits=Limits(max_bytes=56))[0]
    assert "line 2: is longer than 30 bytes" in refused(path, line, b"x" * 31, limits=Limits(max_line_bytes=30))[0]
    assert "line 3: is request 3, at most 2" in refused(path, *[line] * 9, limits=Limits(max_requests=2))[0]
    assert "has no request" in refused(path, b"")[0]


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"there is no workload .*none\.jsonl"):
        read_workload(tmp_path / "none.jsonl")
    with pytest.raises(InvalidWorkload, match="cannot be read"):
        read_workload(tmp_path)


@given(st.sampled_from(list(Datatype)), st.lists(st.integers(0, 4), max_size=3), st.integers(0, 99))
def test_tensors_without_data_are_filled_to_their_shape(datatype: Datatype, shape: list[int], seed: int) -> None:
    tensor = {"name": "x", "datatype": datatype.wire_name, "shape": shape}
    full = fill_inputs([tensor, TENSOR], np.random.default_rng(seed))
    assert len(full[0]["data"]) == count_elements(tuple(shape))
    assert full[1] == TENSOR
    assert "data" not in tensor
    orjson.dumps(full)


def test_tensors_beyond_reason_are_not_filled() -> None:
    with pytest.raises(InvalidArgument, match="cannot be made up"):
        fill_inputs([{"name": "x", "datatype": "FP32", "shape": [1 << 14, 1 << 14]}], np.random.default_rng(0))
