"""POST /v2/models/{model}/generate and /generate_stream, spoken to over a socket."""

from __future__ import annotations

import gzip
import json
import math
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.flow.plain_models import write_plain_models
from tests.flow.serving import Answer, Server, serve

from taxiway.server.wire.generate import GenerateWriter


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_plain_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def strict(models: list[Path]) -> Iterator[Server]:
    with serve(models) as server:
        yield server


@pytest.fixture(scope="module")
def triton(models: list[Path]) -> Iterator[Server]:
    with serve(models, compat="triton") as server:
        yield server


@pytest.fixture(params=["strict", "triton"])
def either(request: pytest.FixtureRequest) -> Server:
    server: Server = request.getfixturevalue(request.param)
    return server


def generate(server: Server, model: str, body: Any, *, verb: str = "generate", **headers: str) -> Answer:
    return server.ask("POST", f"/v2/models/{model}/{verb}", body, headers)


PROMPTED = '{"model_name":"prompt","model_version":"1",%s}'


@pytest.mark.parametrize(
    ("model", "body", "expected"),
    [
        ("prompt", {"text_input": "hi", "temperature": 0.5}, '"temperature_used":0.5,"text_output":"hi"'),
        ("prompt", {"text_input": ["hi"], "temperature": [0.5, 1]}, '"temperature_used":[0.5,1.0],"text_output":"hi"'),
        ("prompt", {"text_input": "a", "temperature": []}, '"temperature_used":[],"text_output":"a"'),
        (
            "prompt",
            {"text_input": [["a"]], "temperature": [[1], [2]]},
            '"temperature_used":[1.0,2.0],"text_output":"a"',
        ),
        (
            "prompt",
            {"text_input": "a", "parameters": {"temperature": 2.0, "top_k": 1}},
            '"temperature_used":2.0,"text_output":"a"',
        ),
        (
            "prompt",
            {"text_input": "a", "temperature": 2, "stop": "x", "parameters": {"triton_x": 1}},
            '"temperature_used":2.0,"text_output":"a"',
        ),
    ],
)
def test_a_flat_object_goes_in_and_comes_out(either: Server, model: str, body: Any, expected: str) -> None:
    answer = generate(either, model, body)
    assert (answer.status, answer.body.decode()) == (200, PROMPTED % expected)
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("model", "body", "outputs"),
    [
        ("doubler", {"x": [1, 2]}, {"y": [2.0, 4.0]}),
        ("doubler", {"x": [1, 2, 3, 4]}, {"y": [2.0, 4.0, 6.0, 8.0]}),
        ("two", {"a": [3, 4], "b": [1, 1]}, {"SUM": [4.0, 5.0], "DIFFERENCE": [2.0, 3.0]}),
        ("grid", {"x": [1, 2, 3, 4, 5, 6]}, {"y": [1, 2, 3, 4, 5, 6]}),
        ("texts", {"x": ["a", "ö"]}, {"y": ["a", "ö"]}),
        ("flag", {"x": True}, {"y": True}),
        ("long", {"x": [1, 2, 3]}, {"y": [1, 2, 3]}),
        ("double", {"x": [[1.5], [2.5]]}, {"y": [1.5, 2.5]}),
    ],
)
def test_shapes_follow_from_the_number_of_elements(either: Server, model: str, body: Any, outputs: Any) -> None:
    answer = generate(either, model, body)
    assert answer.status == 200, answer.body
    assert answer.json() == {"model_name": model, "model_version": "1", **outputs}


def test_members_are_sorted_by_their_bytes(either: Server) -> None:
    answer = generate(either, "two", {"id": "7", "a": [3, 4], "b": [1, 1]})
    assert list(answer.json()) == ["DIFFERENCE", "SUM", "id", "model_name", "model_version"]
    assert answer.json()["id"] == "7"


def test_an_empty_id_is_none(either: Server) -> None:
    assert "id" not in generate(either, "doubler", {"id": "", "x": [1, 2]}).json()


def test_not_a_number_stays_one(either: Server) -> None:
    answer = generate(either, "prompt", b'{"text_input":"a","temperature":[NaN,-Infinity]}')
    used = answer.json()["temperature_used"]
    assert math.isnan(used[0])
    assert used[1] == -math.inf
    one = generate(either, "prompt", b'{"text_input":"a","temperature":NaN}')
    assert b'"temperature_used":NaN,' in one.body


def test_one_version_is_asked_by_number(either: Server) -> None:
    answer = either.ask("POST", "/v2/models/doubler/versions/1/generate", {"x": [1, 2]})
    assert answer.json()["y"] == [2.0, 4.0]


# --- streams


def test_a_stream_is_one_event(either: Server) -> None:
    answer = generate(either, "prompt", {"id": "x", "text_input": "hi", "temperature": 1}, verb="generate_stream")
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    expected = '{"id":"x","model_name":"prompt","model_version":"1","temperature_used":1.0,"text_output":"hi"}'
    assert answer.body.decode() == f"data: {expected}\n\n"


def test_a_stream_is_not_compressed(either: Server) -> None:
    headers = {"Accept-Encoding": "gzip"}
    answer = either.ask("POST", "/v2/models/doubler/generate_stream", {"x": [1, 2]}, headers)
    assert "content-encoding" not in answer.headers
    assert answer.body.startswith(b"data: {")


def test_a_stream_that_cannot_begin_is_an_error_with_a_status(either: Server) -> None:
    answer = generate(either, "prompt", {"text_input": "hi"}, verb="generate_stream")
    assert answer.status in (400, 422)
    assert answer.headers["content-type"] == "application/json"
    assert "missing required input(s) ['temperature']" in answer.json()["error"]


# --- errors

BAD = [
    # model, body, status in strict, status in triton, part of the words
    ("prompt", {"text_input": "hi"}, 422, 400, "expected 2 inputs but got 1 inputs"),
    ("prompt", {}, 422, 400, "Got input(s) []"),
    ("prompt", {"text_input": 1, "temperature": 2.0}, 422, 500, "BYTES takes a string"),
    ("prompt", {"text_input": None, "temperature": 2.0}, 422, 500, "BYTES takes a string"),
    ("prompt", {"text_input": {}, "temperature": 2.0}, 422, 500, "BYTES takes a string"),
    ("prompt", {"text_input": "a", "temperature": "2.0"}, 422, 500, "FP32 takes a number"),
    ("prompt", {"text_input": "a", "temperature": True}, 422, 500, "FP32 takes a number"),
    ("prompt", {"text_input": "a", "temperature": 1, "stop": ["x"]}, 422, 400, "parameter 'stop' has invalid type"),
    ("prompt", {"text_input": "a", "temperature": 1, "stop": {}}, 422, 400, "parameter 'stop' has invalid type"),
    ("prompt", {"text_input": "a", "temperature": 1, "stop": None}, 422, 400, "parameter 'stop' has invalid type"),
    ("prompt", {"text_input": ["a", "b"], "temperature": 1}, 422, 400, "can not convert input 'text_input'"),
    ("prompt", {"text_input": [], "temperature": 1}, 422, 400, "can not convert input 'text_input'"),
    ("prompt", {"id": 1, "text_input": "a", "temperature": 1}, 422, 500, "'id' is a number; it must be a string"),
    ("prompt", {"text_input": "a", "temperature": 1, "parameters": []}, 422, 500, "'parameters' must be an object"),
    (
        "prompt",
        {"text_input": "a", "temperature": 1, "parameters": {"temperature": 2}},
        422,
        400,
        "input 'temperature' already exists in request",
    ),
    ("doubler", {"x": [1, 2, 3]}, 422, 400, "can not convert input 'x'"),
    ("doubler", {"x": []}, 422, 400, "no rows"),
    ("grid", {"x": [1] * 12}, 422, 400, "can not convert input 'x'"),
    ("double", {"x": [[1.5, 2.5]]}, 422, 500, "has 2 elements; its shape says 1"),
    ("long", {"x": 1.5}, 422, 500, "INT64 takes an integer"),
    ("byte", {"x": 300}, 422, 500, "UINT8 holds 0 to 255"),
    ("half", {"x": 1.0}, 422, 400, "receiving FP16 data via JSON is not supported"),
    ("prompt", b"", 400, 500, "the body is not JSON"),
    ("prompt", b"{", 400, 500, "the body is not JSON"),
    ("prompt", b'{"text_input":"a","temperature":1}x', 400, 500, "the body is not JSON"),
    ("prompt", b"[]", 422, 500, "attempt to get members for non-object"),
    ("nope", {"x": 1}, 404, 404, "unknown model: 'nope' is not found"),
]


@pytest.mark.parametrize("verb", ["generate", "generate_stream"])
@pytest.mark.parametrize(("model", "body", "status", "as_triton", "words"), BAD)
def test_what_is_wrong_is_said(
    strict: Server, triton: Server, verb: str, model: str, body: Any, status: int, as_triton: int, words: str
) -> None:
    ours, theirs = generate(strict, model, body, verb=verb), generate(triton, model, body, verb=verb)
    assert (ours.status, theirs.status) == (status, as_triton), (ours.body, theirs.body)
    assert words in ours.json()["error"]
    assert words in theirs.json()["error"]
    assert set(theirs.json()) == {"error"}
    assert ours.json()["code"] == {422: "generate-invalid", 400: "malformed-json", 404: "model-not-found"}[status]


def test_an_unknown_version_is_404(either: Server) -> None:
    answer = either.ask("POST", "/v2/models/doubler/versions/4/generate", {"x": [1, 2]})
    assert answer.status == 404


def test_only_post_is_taken(either: Server) -> None:
    for verb in ("generate", "generate_stream"):
        assert either.ask("GET", f"/v2/models/doubler/{verb}").status == 405


def test_a_model_that_fails_is_500(strict: Server) -> None:
    for verb in ("generate", "generate_stream"):
        answer = generate(strict, "poisonable", {"x": 99}, verb=verb)
        assert answer.status == 500
        assert answer.headers["content-type"] == "application/json"
        assert answer.json()["code"] == "model-failed"


def test_a_model_that_fails_is_400_in_triton(triton: Server) -> None:
    whole = generate(triton, "poisonable", {"x": 99})
    assert whole.status == 400
    assert set(whole.json()) == {"error"}
    stream = generate(triton, "poisonable", {"x": 99}, verb="generate_stream")
    assert stream.status == 400
    assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert stream.body.startswith(b"data: ")
    assert set(json.loads(stream.body[6:])) == {"error"}


def test_a_defect_of_ours_is_answered_too(models: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> bytes:
        raise RuntimeError("a defect")

    with serve(models) as server:
        assert generate(server, "doubler", {"x": [1, 2]}).status == 200
        monkeypatch.setattr(GenerateWriter, "write", fail)
        answer = generate(server, "doubler", {"x": [1, 2]})
        assert answer.status == 500
        assert answer.json()["code"] == "internal"
        assert "taxiway_http_requests_in_flight 0" in server.scrape()


def test_more_elements_than_allowed_are_413(models: list[Path]) -> None:
    with serve(models, limits__max_elements=4) as server:
        answer = generate(server, "doubler", {"x": [1.0] * 6})
        assert (answer.status, answer.json()["code"]) == (413, "too-large")


# --- codings, deadlines, statistics


def test_compressed_requests_are_taken_but_not_by_triton(strict: Server, triton: Server) -> None:
    body = gzip.compress(b'{"x": [1, 2]}')
    path, headers = "/v2/models/doubler/generate", {"Content-Encoding": "gzip"}
    assert strict.ask("POST", path, body, headers).json()["y"] == [2.0, 4.0]
    refused = triton.ask("POST", path, body, headers)
    assert refused.status == 400
    assert refused.json()["error"] == "Unsupported content-encoding, only 'identity' is supported."
    assert strict.ask("POST", path, body, {"Content-Encoding": "br"}).status == 501
    assert triton.ask("POST", path, b'{"x": [1, 2]}', {"Content-Encoding": "identity"}).status == 200


def test_answers_are_compressed_but_not_by_triton(strict: Server, triton: Server) -> None:
    headers = {"Accept-Encoding": "gzip"}
    ours = strict.ask("POST", "/v2/models/doubler/generate", {"x": [1, 2]}, headers)
    assert json.loads(gzip.decompress(ours.body))["y"] == [2.0, 4.0]
    theirs = triton.ask("POST", "/v2/models/doubler/generate", {"x": [1, 2]}, headers)
    assert "content-encoding" not in theirs.headers


def test_a_deadline_that_is_over_is_504(models: list[Path]) -> None:
    with serve(models) as server:
        answer = server.ask("POST", "/v2/models/doubler/generate", {"x": [1, 2]}, {"Request-Timeout": "0.000000001"})
        assert (answer.status, answer.json()["code"]) == (504, "deadline-exceeded")


def test_requests_are_counted_like_any_other(models: list[Path]) -> None:
    with serve(models) as server:
        for _ in range(3):
            assert generate(server, "doubler", {"x": [1, 2, 3, 4]}).status == 200
        generate(server, "doubler", {"x": [1]})
        (entry,) = server.ask("GET", "/v2/models/doubler/stats").json()["model_stats"]
        assert (entry["inference_count"], entry["inference_stats"]["success"]["count"]) == (6, 3)
        assert server.plane._admission.requests == 0
        assert 'code="wrong-shape"' in server.scrape()


def test_a_client_that_hangs_up_costs_nothing(models: list[Path]) -> None:
    with serve(models, batching__max_delay_ms=60_000) as server:
        with socket.create_connection(server.address) as client:
            body = b'{"x": [1, 2]}'
            head = f"POST /v2/models/doubler/generate HTTP/1.1\r\nHost: t\r\nContent-Length: {len(body)}\r\n\r\n"
            client.sendall(head.encode() + body)
            _wait_for(lambda: server.plane._admission.requests == 1)
        _wait_for(lambda: server.plane._admission.requests == 0)
        (entry,) = server.ask("GET", "/v2/models/doubler/stats").json()["model_stats"]
        assert entry["execution_count"] == 0


def _wait_for(holds: Callable[[], bool], timeout_s: float = 5.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)
