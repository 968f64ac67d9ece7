"""KServe's v1 protocol, spoken to over a socket."""

from __future__ import annotations

import asyncio
import base64
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.flow.plain_models import write_plain_models
from tests.flow.serving import Answer, Server, serve


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_plain_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def server(models: list[Path]) -> Iterator[Server]:
    with serve(models) as running:
        yield running


def predict(server: Server, model: str, body: Any) -> Answer:
    return server.ask("POST", f"/v1/models/{model}:predict", body)


def b64(data: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(data).decode()}


# --- row form


@pytest.mark.parametrize(
    ("model", "instances", "predictions"),
    [
        ("doubler", [[1, 2]], [[2.0, 4.0]]),
        ("doubler", [[1, 2], [3, 4]], [[2.0, 4.0], [6.0, 8.0]]),
        ("doubler", [{"x": [1, 2]}, {"x": [3, 4]}], [[2.0, 4.0], [6.0, 8.0]]),
        (
            "two",
            [{"a": [3, 4], "b": [1, 1]}, {"b": [0, 0], "a": [1, 1]}],
            [{"SUM": [4.0, 5.0], "DIFFERENCE": [2.0, 3.0]}, {"SUM": [1.0, 1.0], "DIFFERENCE": [1.0, 1.0]}],
        ),
        ("texts", ["a", "ö", "null"], [["a"], ["ö"], ["null"]]),
        ("texts", [["a"]], [["a"]]),
        ("texts", [b64(b"a"), "b"], [["a"], ["b"]]),
        ("texts", [{"x": [b64(b"a")]}, {"x": ["b"]}], [["a"], ["b"]]),
        ("flag", [[True, False]], [[True, False]]),
        ("long", [[1], [-(2**63)]], [[1], [-(2**63)]]),
        ("grid", [[[1, 2, 3], [4, 5, 6]]], [[[1, 2, 3], [4, 5, 6]]]),
        ("prompt", [{"text_input": "a", "temperature": [1]}], [{"text_output": ["a"], "temperature_used": [1.0]}]),
    ],
)
def test_instances_give_predictions(server: Server, model: str, instances: Any, predictions: Any) -> None:
    answer = predict(server, model, {"instances": instances})
    assert answer.status == 200, answer.body
    assert answer.json() == {"predictions": predictions}
    assert answer.headers["content-type"] == "application/json"


# --- column form


@pytest.mark.parametrize(
    ("model", "inputs", "outputs"),
    [
        ("doubler", [[1, 2], [3, 4]], [[2.0, 4.0], [6.0, 8.0]]),
        ("doubler", {"x": [[1, 2]]}, [[2.0, 4.0]]),
        ("two", {"a": [[3, 4]], "b": [[1, 1]]}, {"SUM": [[4.0, 5.0]], "DIFFERENCE": [[2.0, 3.0]]}),
        ("grid", [[1, 2, 3], [4, 5, 6]], [[1, 2, 3], [4, 5, 6]]),
        ("texts", [["a"], ["b"]], [["a"], ["b"]]),
        ("texts", ["a", b64(b"b")], [["a"], ["b"]]),
        ("prompt", {"text_input": ["a"], "temperature": []}, {"text_output": ["a"], "temperature_used": []}),
    ],
)
def test_inputs_give_outputs(server: Server, model: str, inputs: Any, outputs: Any) -> None:
    answer = predict(server, model, {"inputs": inputs})
    assert answer.status == 200, answer.body
    assert answer.json() == {"outputs": outputs}


def test_not_a_number_stays_one(server: Server) -> None:
    rows = predict(server, "doubler", b'{"instances": [[NaN, 1.0], [Infinity, 2.0]]}').json()["predictions"]
    assert math.isnan(rows[0][0])
    assert rows[1] == [math.inf, 4.0]


def test_doubles_and_large_integers_are_exact(server: Server) -> None:
    assert predict(server, "double", {"instances": [[0.1, 1e308]]}).json()["predictions"] == [[0.1, 1e308]]
    assert predict(server, "long", {"instances": [[2**63 - 1]]}).json()["predictions"] == [[2**63 - 1]]


# --- errors

BAD = [
    ("doubler", b"{", 400, "malformed-json", "the body is not JSON"),
    ("doubler", b"", 400, "malformed-json", "the body is not JSON"),
    ("doubler", [], 400, "malformed-request", "either 'instances' (one element per row) or 'inputs'"),
    ("doubler", {}, 400, "malformed-request", "either 'instances'"),
    ("doubler", {"instances": [[1, 2]], "inputs": [[1, 2]]}, 400, "malformed-request", "either 'instances'"),
    ("doubler", {"instances": []}, 400, "malformed-request", "at least one instance"),
    ("doubler", {"instances": {"x": [[1, 2]]}}, 400, "malformed-request", "at least one instance"),
    (
        "doubler",
        {"instances": [[1, 2], [3]]},
        400,
        "wrong-shape",
        "part 0 is an array of 2 and part 1 is an array of 1",
    ),
    ("doubler", {"instances": [[1, 2], 3]}, 400, "wrong-shape", "part 1 is no array"),
    ("doubler", {"instances": [[1, [2]]]}, 400, "wrong-shape", "at depth 2, part 0 is no array"),
    ("doubler", {"instances": [[1, 2, 3]]}, 400, "wrong-shape", "Expected [-1, 2], got [1, 3]"),
    ("doubler", {"instances": [1, 2]}, 400, "wrong-shape", "Expected [-1, 2], got [2]"),
    ("doubler", {"instances": [[1, "2"]]}, 400, "wrong-element-type", "element 1 of input 'x' is \"2\""),
    ("doubler", {"instances": [[1, None]]}, 400, "wrong-element-type", "FP32 takes a number"),
    ("doubler", {"instances": [[1, True]]}, 400, "wrong-element-type", "FP32 takes a number"),
    ("doubler", {"instances": [b64(b"12345678")]}, 400, "wrong-element-type", "FP32 takes a number"),
    ("doubler", {"instances": [{"z": [1, 2]}]}, 400, "unknown-tensor", "unexpected inference input 'z'"),
    (
        "doubler",
        {"instances": [{"x": [1, 2]}, {"z": [1, 2]}]},
        400,
        "unknown-tensor",
        "instance 1 has the inputs ['z']",
    ),
    ("doubler", {"instances": [{}]}, 400, "unknown-tensor", "missing required input(s) ['x']"),
    (
        "two",
        {"instances": [[1, 2]]},
        400,
        "malformed-request",
        "instance 0 must be an object, since 'two' has 2 inputs",
    ),
    (
        "two",
        {"inputs": [[1, 2]]},
        400,
        "malformed-request",
        "'inputs' must be an object, since 'two' has 2 inputs: a, b",
    ),
    ("two", {"inputs": {"a": [[1, 2]]}}, 400, "unknown-tensor", "missing required input(s) ['b']"),
    ("two", {"inputs": {"a": [[1, 2]], "b": [[1, 2]] * 2}}, 400, "wrong-shape", "batch size does not match"),
    ("two", {"instances": [{"a": [1, 2], "b": [1]}]}, 400, "wrong-shape", "unexpected shape for input 'b'"),
    ("grid", {"instances": [[[1, 2, 3], [4, 5, 6]]] * 2}, 400, "wrong-shape", "does not batch"),
    ("grid", {"inputs": [[1, 2], [3, 4]]}, 400, "wrong-shape", "Expected [2, 3], got [2, 2]"),
    ("long", {"instances": [[1.5]]}, 400, "wrong-element-type", "INT64 takes an integer"),
    ("long", {"instances": [[2**63]]}, 400, "value-out-of-range", "INT64 holds"),
    ("byte", {"instances": [[300]]}, 400, "value-out-of-range", "UINT8 holds 0 to 255"),
    ("half", {"instances": [[1.0]]}, 400, "invalid-argument", "receiving FP16 data via JSON is not supported"),
    ("texts", {"instances": [{"b64": "?"}]}, 400, "wrong-element-type", "element 0 of input 'x' is not base64"),
    ("texts", {"instances": [b64(b"a"), 1]}, 400, "wrong-element-type", "element 1 of input 'x' is 1"),
    ("texts", {"instances": [{"b64": 1}]}, 400, "unknown-tensor", "unexpected inference input 'b64'"),
    ("doubler", {"inputs": 1}, 400, "wrong-shape", "has no shape"),
    ("doubler", {"inputs": []}, 400, "wrong-shape", "no rows"),
    ("nope", {"instances": [[1]]}, 404, "model-not-found", "unknown model: 'nope' is not found"),
    ("poisonable", {"instances": [99]}, 500, "model-failed", ""),
]


@pytest.mark.parametrize(("model", "body", "status", "code", "words"), BAD)
def test_what_is_wrong_is_said(server: Server, model: str, body: Any, status: int, code: str, words: str) -> None:
    answer = predict(server, model, body)
    assert (answer.status, answer.json()["code"]) == (status, code), answer.body
    assert words in answer.json()["error"]


def test_nesting_is_bounded(models: list[Path]) -> None:
    with serve(models, limits__max_json_depth=4) as server:
        answer = predict(server, "doubler", {"inputs": [[[[[1, 2]]]]]})
        assert (answer.status, answer.json()["code"]) == (413, "too-large")


def test_more_rows_than_allowed_are_refused(models: list[Path]) -> None:
    with serve(models, batching__max_batch_size=2) as server:
        answer = predict(server, "doubler", {"instances": [[1, 2]] * 3})
        assert (answer.status, answer.json()["code"]) == (400, "wrong-shape")
        assert "batch-size must be <= 2" in answer.json()["error"]


# --- models


def test_models_are_listed_and_tell_whether_they_are_ready(server: Server) -> None:
    names = server.ask("GET", "/v1/models").json()["models"]
    assert {"doubler", "two", "grid"} <= set(names)
    answer = server.ask("GET", "/v1/models/doubler")
    assert (answer.status, answer.json()) == (200, {"name": "doubler", "ready": True})
    assert server.ask("GET", "/v1/models/nope").status == 404


def test_a_model_that_is_not_ready_is_503(models: list[Path]) -> None:
    with serve(models) as server:

        async def turn(*, on: bool) -> None:
            server.plane._accepting = on

        asyncio.run_coroutine_threadsafe(turn(on=False), server.loop).result(5)
        answer = server.ask("GET", "/v1/models/doubler")
        assert (answer.status, answer.json()) == (503, {"name": "doubler", "ready": False})


def test_only_its_own_methods_are_taken(server: Server) -> None:
    assert server.ask("POST", "/v1/models").status == 405
    assert server.ask("POST", "/v1/models/doubler").status == 405
    assert server.ask("POST", "/v1/models/doubler:explain", {}).status == 405
    assert server.ask("GET", "/v1/models/doubler:predict").status in (404, 405)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/models"),
        ("GET", "/v1/models/doubler"),
        ("POST", "/v1/models/doubler:predict"),
        ("GET", "/v2/models"),
        ("GET", "/v2/"),
        ("GET", "/v2/openapi.json"),
    ],
)
def test_triton_has_none_of_it(triton: Server, method: str, path: str) -> None:
    answer = triton.ask(method, path, None)
    assert (answer.status, answer.json()) == (404, {"error": "Not Found"})


@pytest.fixture(scope="module")
def triton(models: list[Path]) -> Iterator[Server]:
    with serve(models, compat="triton") as running:
        yield running


def test_requests_are_counted_like_any_other(models: list[Path]) -> None:
    with serve(models) as server:
        predict(server, "doubler", {"instances": [[1, 2]] * 5})
        predict(server, "doubler", {"instances": [[1, 2, 3]]})
        (entry,) = server.ask("GET", "/v2/models/doubler/stats").json()["model_stats"]
        assert (entry["inference_count"], entry["inference_stats"]["success"]["count"]) == (5, 1)
        assert server.plane._admission.requests == 0
        assert 'code="wrong-shape"' in server.scrape()
