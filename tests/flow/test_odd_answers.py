"""What Python models answer that was not asked for: other rows, fewer outputs, no dimension; at every front door."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.flow.serving import Server, serve
from tests.support import ensembles, numbered_models
from tests.support.ensembles import graph, step
from tests.support.grpc_calls import connected, infer_request, output_of

ODD = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(int(pb_utils.get_input_tensor_by_name(one, "x").as_numpy()[0, 0])) for one in requests]

    def answer(self, rows):
        array = np.array(7, np.float32) if rows == 0 else np.arange(rows, dtype=np.float32).reshape(rows, 1)
        return pb_utils.InferenceResponse([pb_utils.Tensor("y", array)], parameters={"rows": rows})
"""
"""y has as many rows as the number in x, and no dimension at all for 0; z is left out."""
SENDING = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            rows = int(pb_utils.get_input_tensor_by_name(request, "x").as_numpy()[0, 0])
            y = pb_utils.Tensor("y", np.arange(rows, dtype=np.float32).reshape(rows, 1))
            final = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
            request.get_response_sender().send(pb_utils.InferenceResponse([y]), flags=final)
"""
"""Likewise, decoupled."""
TEXTS = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        y = [pb_utils.Tensor("y", pb_utils.get_input_tensor_by_name(one, "x").as_numpy()) for one in requests]
        return [pb_utils.InferenceResponse([one]) for one in y]
"""
"""y = x; z is left out."""
NUMBERS = """
backend: "python"
max_batch_size: 8
input { name: "x" data_type: TYPE_FP32 dims: [ 1 ] }
output { name: "y" data_type: TYPE_FP32 dims: [ 1 ] }
output { name: "z" data_type: TYPE_FP32 dims: [ 1 ] }
"""


def write(root: Path, name: str, code: str, config: str) -> None:
    file = root / name / "1" / "model.py"
    file.parent.mkdir(parents=True)
    file.write_text(code)
    (root / name / "config.pbtxt").write_text(config)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("models")
    write(root, "odd", ODD, NUMBERS)
    write(root, "sending", SENDING, NUMBERS + "model_transaction_policy { decoupled: true }")
    write(root, "texts", TEXTS, NUMBERS.replace("FP32", "STRING"))
    numbered_models.adder(numbered_models.version_file(root, "add1", 1), 1)
    ensembles.write(root, "last", graph(step("odd", {"x": "x"}, {"y": "y"})))
    ensembles.write(root, "first", graph(step("odd", {"x": "x"}, {"y": "t"}), step("add1", {"x": "t"}, {"y": "y"})))
    with serve(root) as running:
        yield running


def infer(server: Server, model: str, number: float) -> Any:
    tensor = {"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [number]}
    return server.ask("POST", f"/v2/models/{model}/infer", {"inputs": [tensor]})


MODELS = pytest.mark.parametrize("model", ["odd", "sending"])


@MODELS
def test_all_rows_of_an_answer_are_told_whatever_the_protocol(server: Server, model: str) -> None:
    (told,) = infer(server, model, 3).json()["outputs"]
    assert (told["name"], told["shape"], told["data"]) == ("y", [3, 1], [0.0, 1.0, 2.0])
    predicted = server.ask("POST", f"/v1/models/{model}:predict", {"instances": [[3]]})
    assert predicted.json() == {"predictions": [[0.0], [1.0], [2.0]]}
    generated = server.ask("POST", f"/v2/models/{model}/generate", {"x": 3})
    assert generated.json()["y"] == [0.0, 1.0, 2.0]
    streamed = server.ask("POST", f"/v2/models/{model}/generate_stream", {"x": 3})
    assert b'"y":[0.0,1.0,2.0]' in streamed.body
    with connected(server.grpc) as channel:
        answer = channel.call("ModelInfer", infer_request(model, ("x", np.array([[3]], np.float32))))
    assert output_of(answer) == [[0.0], [1.0], [2.0]]


def test_an_output_that_was_left_out_is_left_out(server: Server) -> None:
    answer = server.ask("POST", "/predictions/texts", b"hello")
    assert (answer.status, answer.body) == (200, b"hello")


def test_a_tensor_without_the_dimension_of_rows_is_told_as_it_is(server: Server) -> None:
    (told,) = infer(server, "odd", 0).json()["outputs"]
    assert (told["shape"], told["data"]) == ([], [7.0])
    assert server.ask("POST", "/v1/models/odd:predict", {"inputs": [[0]]}).json() == {"outputs": 7.0}


@pytest.mark.parametrize(("model", "status"), [("first", 400), ("last", 500)])
def test_an_ensemble_says_that_it_cannot_go_on_with_it(server: Server, model: str, status: int) -> None:
    refused = infer(server, model, 0)
    assert refused.status == status, refused.body
    assert infer(server, model, 1).status == 200
