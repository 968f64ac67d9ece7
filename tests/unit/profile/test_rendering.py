"""Requests as bytes, and made-up inputs."""

from __future__ import annotations

import json

import numpy as np
import pytest

from taxiway.core.errors import InvalidArgument
from taxiway.profile.targets.asking import Address
from taxiway.profile.targets.finding import find_target
from taxiway.profile.targets.inputs import made_up
from taxiway.profile.targets.kserve_v1 import instances_of
from taxiway.profile.targets.rendering import binary_body, http_shot, raw_tensor
from taxiway.profile.wishes import Wishes

HERE = Address.parse("http://[::1]:8000/v2/models/x")


def test_a_request_is_a_head_and_a_body() -> None:
    wire = http_shot(HERE, "/p", b"{}", {"X-Tenant": "b"}).wire
    assert wire == b"POST /p HTTP/1.1\r\nHost: [::1]:8000\r\nContent-Length: 2\r\nX-Tenant: b\r\n\r\n{}"


@pytest.mark.parametrize(("name", "value"), [("Content-Length", "0"), ("X", "a\r\nY: b"), ("A\nB", "c")])
def test_a_header_cannot_break_the_request(name: str, value: str) -> None:
    with pytest.raises(InvalidArgument, match="cannot be given"):
        http_shot(HERE, "/p", b"", {name: value})


def test_binary_tensors_follow_their_json() -> None:
    body, length = binary_body(
        [
            {"name": "a", "shape": [2], "datatype": "FP32", "data": [1, 2]},
            {"name": "b", "shape": [1], "datatype": "BYTES", "data": ["hi"]},
        ]
    )
    told = json.loads(body[:length])
    assert [one["parameters"]["binary_data_size"] for one in told["inputs"]] == [8, 6]
    assert body[length:] == np.array([1, 2], "<f4").tobytes() + b"\x02\x00\x00\x00hi"


@pytest.mark.parametrize(
    "tensor",
    [
        {"name": "a", "shape": [3], "datatype": "FP32", "data": [1, 2]},
        {"name": "a", "shape": [1], "datatype": "FP32", "data": ["x"]},
        {"name": "a", "shape": [1], "datatype": "NONE", "data": [1]},
        {"name": "a", "shape": [1], "datatype": "INT64"},
    ],
)
def test_data_that_does_not_fit_is_refused(tensor: dict[str, object]) -> None:
    with pytest.raises(InvalidArgument):
        raw_tensor(tensor)


def test_inputs_are_made_up_in_the_shape_that_is_declared() -> None:
    declared = {
        "inputs": [
            {"name": "x", "datatype": "FP32", "shape": [-1, 4]},
            {"name": "ids", "datatype": "INT64", "shape": [-1, -1]},
            {"name": "t", "datatype": "BYTES", "shape": [1]},
            {"name": "f", "datatype": "BOOL", "shape": []},
        ]
    }
    requests = made_up(declared, {"ids": (2, 8)})
    assert [one["shape"] for one in requests[0]] == [[1, 4], [2, 8], [1], []]
    assert [len(one["data"]) for one in requests[0]] == [4, 16, 1, 1]
    assert requests[0][0]["data"] != requests[1][0]["data"]
    with pytest.raises(InvalidArgument, match="there is no input 'y'"):
        made_up(declared, {"y": (1,)})


def test_rows_of_several_inputs_are_instances() -> None:
    a = {"name": "a", "shape": [2, 1], "datatype": "INT64", "data": [1, 2]}
    b = {"name": "b", "shape": [2], "datatype": "INT64", "data": [3, 4]}
    assert instances_of([a, b]) == [{"a": [1], "b": 3}, {"a": [2], "b": 4}]
    assert instances_of([a]) == [[1], [2]]
    with pytest.raises(InvalidArgument, match="cannot be told as instances"):
        instances_of([a, b | {"shape": [1], "data": [3]}])


@pytest.mark.parametrize("word", ["http://", "http://h:99999999/v2/models/x", "ws://h/v2/models/x", "http://h/v3"])
def test_what_is_no_target_is_refused(word: str) -> None:
    with pytest.raises(InvalidArgument):
        find_target(word, Wishes())
