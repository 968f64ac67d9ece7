"""Copies of requests for whoever watches: what is kept, at what share, and that nobody waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import tritonclient.grpc
from onnx import helper
from tests.flow.serving import Server, serve
from tests.support.onnx_models import doubler, save, tensor

from taxiway.core.samples import SampledRows, SampledTensor


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serve(doubler(tmp_path / "doubler.onnx"), monitoring__sampling__max_bytes=100_000) as one:
        yield one


def infer(server: Server, rows: list[list[float]], request_id: str = "") -> list[float]:
    described = server.ask("GET", "/v2/models/doubler").json()["inputs"][0]
    flat = [value for row in rows for value in row]
    given = {"name": described["name"], "datatype": "FP32", "shape": [len(rows), len(rows[0])], "data": flat}
    answer = server.ask("POST", "/v2/models/doubler/infer", {"inputs": [given], "id": request_id})
    assert answer.status == 200, answer.body
    told: list[float] = answer.json()["outputs"][0]["data"]
    return told


def fetch(server: Server, **rows_per_s: float) -> list[SampledRows]:
    fleet = server.plane.traffic.fleet
    assert fleet is not None
    asked: Any = fleet.ask("samples_fetch", {"rows_per_s": rows_per_s})
    (told,) = asyncio.run_coroutine_threadsafe(asked, server.loop).result(10)
    return [msgspec.convert(one, SampledRows) for one in told]


def numbers(tensor: SampledTensor) -> Any:
    return np.frombuffer(tensor.data, np.float32).reshape(tensor.shape)


def test_nothing_is_kept_before_somebody_asks(server: Server) -> None:
    infer(server, [[1, 2]])
    (first,) = fetch(server, doubler=1000)
    assert (first.seen, first.rows) == (1, 0)


def test_rows_and_answers_are_kept_together_with_the_ids(server: Server) -> None:
    fetch(server, doubler=1000)
    infer(server, [[1, 2], [3, 4]], "one")
    infer(server, [[5, 6]], "two")
    (told,) = fetch(server, doubler=1000)
    assert (told.model, told.version, told.seen, told.dropped) == ("doubler", 1, 2, 0)
    assert (told.ids, told.counts) == (("one", "two"), (2, 1))
    assert told.began_ns <= told.times_ns[0] <= told.times_ns[1] <= told.ended_ns
    (given,), (answered,) = told.inputs.values(), told.outputs.values()
    np.testing.assert_array_equal(numbers(given), [[1, 2], [3, 4], [5, 6]])
    np.testing.assert_array_equal(numbers(answered), 2 * numbers(given))
    assert fetch(server, doubler=1000) == []


def test_requests_of_other_shapes_are_told_apart(tmp_path: Path) -> None:
    node = helper.make_node("Add", ["x", "x"], ["y"])
    file = save(tmp_path / "doubler.onnx", [node], [tensor("x", ["N", "W"])], [tensor("y", ["N", "W"])])
    with serve(file) as server:
        fetch(server, doubler=1000)
        infer(server, [[1, 2]])
        infer(server, [[1, 2, 3]])
        one, other = fetch(server, doubler=1000)
    assert {next(iter(told.inputs.values())).shape for told in (one, other)} == {(1, 2), (1, 3)}
    assert (one.seen, other.seen) == (2, 0)


def test_what_has_no_room_is_dropped_and_counted(server: Server) -> None:
    fetch(server, doubler=1000)
    for _ in range(4):
        infer(server, [[1.0, 2.0]] * 4000)
    (told,) = fetch(server, doubler=1000)
    assert (told.rows, told.seen, told.dropped) == (4000, 4, 3)


def test_a_model_that_nobody_wants_rests(server: Server) -> None:
    fetch(server, doubler=1000)
    assert fetch(server) == []
    infer(server, [[1, 2]])
    (told,) = fetch(server, doubler=1000)
    assert told.rows == 0


def test_requests_that_are_answered_at_once_are_sampled_too(server: Server) -> None:
    fetch(server, doubler=1000)
    described = server.ask("GET", "/v2/models/doubler").json()["inputs"][0]
    with tritonclient.grpc.InferenceServerClient(server.grpc) as client:
        given = tritonclient.grpc.InferInput(described["name"], [1, 2], "FP32")
        given.set_data_from_numpy(np.array([[7, 8]], np.float32))
        client.infer("doubler", [given], request_id="g")
    (told,) = fetch(server, doubler=1000)
    assert (told.ids, told.seen) == (("g",), 1)


def test_a_share_follows_the_traffic(server: Server) -> None:
    """More than is wanted is thinned out, and what is passed over is counted all the same."""
    fetch(server, doubler=0.001)
    for _ in range(20):
        infer(server, [[1, 2]])
    assert fetch(server, doubler=0.001)[0].rows == 20
    for _ in range(50):
        infer(server, [[1, 2]])
    (told,) = fetch(server, doubler=0.001)
    assert told.seen == 50
    assert told.rows < 10


def test_sampling_may_be_off(tmp_path: Path) -> None:
    with serve(doubler(tmp_path / "doubler.onnx"), monitoring__sampling__enabled=False) as server:
        fleet = server.plane.traffic.fleet
        assert fleet is not None
        asked: Any = fleet.ask("samples_fetch", {"rows_per_s": {}})
        with pytest.raises(KeyError):
            asyncio.run_coroutine_threadsafe(asked, server.loop).result(10)
        assert infer(server, [[1, 2]]) == [2, 4]
