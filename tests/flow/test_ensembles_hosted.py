"""Ensembles of Python models in processes of their own, one of which answers in parts, and of models of other kinds."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest
from tests.flow.serving import Server, serve
from tests.support import ensembles, numbered_models
from tests.support.ensembles import graph, step
from tests.support.grpc_calls import connected, infer_request, output_of

COUNTING = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            last = int(pb_utils.get_input_tensor_by_name(request, "x").as_numpy()[0, 0])
            for number in range(last):
                array = np.array([[number]], np.float32)
                sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("y", array)]))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""
DOUBLING = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [
            pb_utils.InferenceResponse(
                [pb_utils.Tensor("y", pb_utils.get_input_tensor_by_name(request, "x").as_numpy() * 2)]
            )
            for request in requests
        ]
"""
CONFIG = """
backend: "python"
max_batch_size: 8
input { name: "x" data_type: TYPE_FP32 dims: [ 1 ] }
output { name: "y" data_type: TYPE_FP32 dims: [ 1 ] }
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("models")
    for name, code, more in (
        ("counting", COUNTING, "model_transaction_policy { decoupled: true }"),
        ("doubling", DOUBLING, ""),
    ):
        file = root / name / "1" / "model.py"
        file.parent.mkdir(parents=True)
        file.write_text(code)
        (root / name / "config.pbtxt").write_text(CONFIG + more)
    numbered_models.adder(numbered_models.version_file(root, "add1", 1), 1)
    once = (step("doubling", {"x": "x"}, {"y": "twice"}), step("add1", {"x": "twice"}, {"y": "y"}))
    ensembles.write(root, "once", graph(*once))
    parts = (
        step("add1", {"x": "x"}, {"y": "last"}),
        step("counting", {"x": "last"}, {"y": "number"}),
        step("doubling", {"x": "number"}, {"y": "y"}),
    )
    ensembles.write(root, "parts", graph(*parts))
    with serve(root) as running:
        yield running


def body(value: float) -> dict[str, object]:
    return {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [value]}]}


def test_models_of_different_kinds_follow_each_other(server: Server) -> None:
    answer = server.ask("POST", "/v2/models/once/infer", body(5))
    assert answer.status == 200, answer.body
    assert answer.json()["outputs"][0]["data"] == [11.0]


def test_answers_in_parts_go_through_the_steps_behind_and_keep_their_order(server: Server) -> None:
    headers = {"Accept": "application/x-ndjson"}
    answer = server.ask("POST", "/v2/models/parts/infer_stream", body(5), headers)
    assert answer.status == 200, answer.body
    lines = [json.loads(line) for line in answer.body.splitlines()]
    assert [line["outputs"][0]["data"] for line in lines if "outputs" in line] == [[2.0 * n] for n in range(6)]


def test_they_come_on_a_grpc_stream(server: Server) -> None:
    with connected(server.grpc) as channel:
        request = infer_request("parts", ("x", np.asarray([[3]], np.float32)), id="q")
        answers = list(channel.method("ModelStreamInfer")(iter([request]), timeout=20))
    assert [answer.error_message for answer in answers] == [""] * len(answers)
    told = [answer.infer_response for answer in answers if answer.infer_response.outputs]
    assert [output_of(one) for one in told] == [[[2.0 * n]] for n in range(4)]


def test_the_statistics_count_the_answers_of_one_that_comes_in_parts(server: Server) -> None:
    before = server.ask("GET", "/v2/models/parts/stats").json()["model_stats"][0]
    server.ask("POST", "/v2/models/parts/infer_stream", body(1))
    after = server.ask("GET", "/v2/models/parts/stats").json()["model_stats"][0]
    assert after["inference_stats"]["success"]["count"] == before["inference_stats"]["success"]["count"] + 1
    assert after["response_stats"]


def test_it_says_that_it_is_decoupled(server: Server) -> None:
    assert server.ask("GET", "/v2/models/parts/config").json()["model_transaction_policy"] == {"decoupled": True}
