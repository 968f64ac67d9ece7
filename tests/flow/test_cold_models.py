"""Requests for models that were unloaded to make room, over every front door: held, then answered as any other."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc import StatusCode
from tests.flow.serving import Server, serve
from tests.support import numbered_models
from tests.support.grpc_calls import Channel, connected, infer_request, output_of, refused
from tests.support.raw_http import Raw, infer, wait_until

ZERO = ("x", np.zeros((1, 1), np.float32))
TENSOR = {"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [0]}


@pytest.fixture(params=["strict", "triton"])
def server(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Server]:
    """Models a and b, of which one fits."""
    for amount, name in enumerate("ab", start=1):
        numbered_models.adder(numbered_models.version_file(tmp_path, name, 1), amount, padding=100_000)
    with serve(tmp_path, models__memory_bytes=150_000, compat=request.param) as running:
        yield running


@pytest.fixture
def channel(server: Server) -> Iterator[Channel]:
    with connected(server.grpc) as channel:
        yield channel


def test_over_http_in_every_form(server: Server) -> None:
    triton = server.ask("GET", "/v2/models").status == 404
    asked: list[tuple[str, Any]] = [
        ("/v2/models/{}/infer", {"inputs": [TENSOR]}),
        ("/v2/models/{}/versions/1/infer", {"inputs": [TENSOR]}),
        ("/v2/models/{}/generate", {"x": 0}),
        *([] if triton else [("/v1/models/{}:predict", {"instances": [[0]]})]),
    ]
    for path, document in asked:
        for name, amount in (("a", 1.0), ("b", 2.0), ("a", 1.0)):
            answer = server.ask("POST", path.format(name), document)
            assert answer.status == 200, answer.body
            assert str(amount) in answer.body.decode()


def test_packed_bodies_are_unpacked_whenever_that_is(server: Server) -> None:
    packed = gzip.compress(json.dumps({"inputs": [TENSOR]}).encode() + b" " * 2_000_000)
    for name, amount in (("b", 2.0), ("a", 1.0), ("b", 2.0)):
        answer = server.ask("POST", f"/v2/models/{name}/infer", packed, {"Content-Encoding": "gzip"})
        assert answer.status == 200, answer.body
        assert answer.json()["outputs"][0]["data"] == [amount]


def test_a_body_of_allowed_size_fits_while_it_waits(tmp_path: Path) -> None:
    for amount, name in enumerate("ab", start=1):
        numbered_models.adder(numbered_models.version_file(tmp_path, name, 1), amount, padding=100_000)
    padded = json.dumps({"inputs": [TENSOR]}).encode() + b" " * 900_000
    limits = {"limits__max_body_bytes": 1_000_000, "limits__max_buffered_bytes": 1_000_000}
    with serve(tmp_path, models__memory_bytes=150_000, **limits) as server:
        for name, sum_ in (("b", 2.0), ("a", 1.0), ("b", 2.0)):
            answer = server.ask("POST", f"/v2/models/{name}/infer", padded)
            assert answer.status == 200, answer.body
            assert answer.json()["outputs"][0]["data"] == [sum_]
        assert server.plane._admission.bytes == 0


def test_what_is_wrong_with_a_request_is_told_once_its_model_is_back(server: Server) -> None:
    answer = server.ask("POST", "/v2/models/b/infer", {"inputs": [{**TENSOR, "name": "y"}]})
    assert answer.status == 400
    assert "y" in answer.json()["error"]


def test_pipelined_requests_are_answered_in_their_order(server: Server) -> None:
    with Raw(server.address) as connection:
        connection.send(b"".join(infer(name, [[0]], "FP32") for name in "abba"))
        assert [connection.reply().output() for _ in range(4)] == [[1.0], [2.0], [2.0], [1.0]]


def test_a_client_that_hangs_up_is_not_counted_any_more(server: Server) -> None:
    with Raw(server.address) as connection:
        connection.send(infer("b", [[0]], "FP32"))
    wait_until(lambda: "taxiway_http_requests_in_flight 0" in server.scrape(), "it is forgotten")
    wait_until(lambda: "taxiway_http_buffered_bytes 0" in server.scrape(), "its body is forgotten")


def test_over_grpc(server: Server, channel: Channel) -> None:
    for name, amount in (("b", 2.0), ("a", 1.0), ("b", 2.0)):
        assert output_of(channel.call("ModelInfer", infer_request(name, ZERO))) == [[amount]]


def test_over_a_grpc_stream(server: Server, channel: Channel) -> None:
    asked = [infer_request(name, ZERO, id=str(index)) for index, name in enumerate("baabb")]
    answers = list(channel.method("ModelStreamInfer")(iter(asked), timeout=20))
    assert [answer.infer_response.id for answer in answers] == ["0", "1", "2", "3", "4"]
    assert [output_of(answer.infer_response) for answer in answers] == [[[2.0]], [[1.0]], [[1.0]], [[2.0]], [[2.0]]]


def test_a_grpc_deadline_holds_while_it_waits(server: Server, channel: Channel) -> None:
    # Whoever is first says so: the client itself, or the server, which as Triton has another status for it.
    with refused(StatusCode.DEADLINE_EXCEEDED, StatusCode.UNAVAILABLE):
        channel.method("ModelInfer")(infer_request("b", ZERO), timeout=0.0005)
    wait_until(lambda: "taxiway_http_requests_in_flight 0" in server.scrape(), "it is forgotten")


def test_many_at_once_over_both(server: Server, channel: Channel) -> None:
    def over_http(turn: int) -> float:
        answer = server.ask("POST", f"/v2/models/{'ab'[turn % 2]}/infer", {"inputs": [TENSOR]})
        assert answer.status == 200, answer.body
        return float(answer.json()["outputs"][0]["data"][0])

    def over_grpc(turn: int) -> float:
        return float(output_of(channel.call("ModelInfer", infer_request("ab"[turn % 2], ZERO)))[0][0])

    with ThreadPoolExecutor(8) as pool:
        asked = [(turn, pool.submit(way, turn)) for turn in range(30) for way in (over_http, over_grpc)]
        for turn, answer in asked:
            assert answer.result(20) == 1 + turn % 2
    told = server.scrape()
    assert "taxiway_http_requests_in_flight 0" in told
    assert "taxiway_cold_requests_waiting 0" in told
    assert server.ask("GET", "/v2/health/ready").status == 200


def test_metadata_of_a_cold_model_says_why_it_has_none(server: Server) -> None:
    answer = server.ask("GET", "/v2/models/b")
    assert answer.status == 503
    assert "to make room" in answer.json()["error"]
    assert answer.headers["retry-after"] == "1"


def test_what_waits_for_a_model_when_the_server_stops_is_answered(server: Server, channel: Channel) -> None:
    loads = server.plane._models._one_load
    asyncio.run_coroutine_threadsafe(loads.acquire(), server.loop).result(20)
    cold = "b" if server.ask("GET", "/v2/models/b/ready").status != 200 else "a"
    with Raw(server.address) as connection:
        held = channel.method("ModelInfer").future(infer_request(cold, ZERO), timeout=20)
        connection.send(infer(cold, [[0]], "FP32"))
        wait_until(lambda: server.plane._models.statistics.cold_waiting == 2, "both wait")
        server.stop()
        wait_until(lambda: _is_refused(channel), "no call is taken any more")
        server.loop.call_soon_threadsafe(loads.release)
        amount = [[{"a": 1.0, "b": 2.0}[cold]]]
        assert output_of(held.result()) == amount
        assert connection.reply().output() == amount[0]


def _is_refused(channel: Channel) -> bool:
    try:
        channel.call("ModelInfer", infer_request("nobody", ZERO))
    except grpc.RpcError as error:
        return bool(error.code() is StatusCode.UNAVAILABLE)
    return False
