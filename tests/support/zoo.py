"""Small models of every kind that is served, side by side in one repository, and what each must answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from tests.support import ensembles, numbered_models, stateful_models
from tests.support.ensembles import graph, step
from tests.support.onnx_models import cached

_ROWS = """
backend: "python"
max_batch_size: 8
input { name: "x" data_type: TYPE_FP32 dims: [ 1 ] }
output { name: "y" data_type: TYPE_FP32 dims: [ 1 ] }
"""
_HEAD = """
import threading
import time
import numpy as np
import triton_python_backend_utils as pb_utils

def x_of(request):
    return pb_utils.get_input_tensor_by_name(request, "x").as_numpy()

def answer(array):
    return pb_utils.InferenceResponse([pb_utils.Tensor("y", array.astype(np.float32))])

class TritonPythonModel:
    def execute(self, requests):
"""
_DOUBLING = """
        time.sleep(0.001)
        return [answer(2 * x_of(request)) for request in requests]
"""
_ASKING = """
        return [answer(10 * self.ask(x_of(request))) for request in requests]

    def ask(self, x):
        call = pb_utils.InferenceRequest(
            model_name="add1", requested_output_names=["y"], inputs=[pb_utils.Tensor("x", x)]
        )
        response = call.exec()
        if response.has_error():
            raise pb_utils.TritonModelException(response.error().message())
        return pb_utils.get_output_tensor_by_name(response, "y").as_numpy()
"""
_COUNTING = """
        for request in requests:
            threading.Thread(target=self.count, args=(request, request.get_response_sender())).start()

    def count(self, request, sender):
        for number in range(int(x_of(request)[0, 0])):
            if request.is_cancelled():
                break
            sender.send(answer(np.array([[number]])))
            time.sleep(0.001)
        sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""
IDLE_S = 3
"""How long a sequence of `total` and `tally` may be idle."""
_IDLE = f"max_sequence_idle_microseconds: {IDLE_S}000000"
_PLACES = "oldest { max_candidate_sequences: 64 }"

ONCE: Mapping[str, Callable[[float], float]] = {
    "add1": lambda x: x + 1,
    "kept": lambda x: x + 5,
    "doubling": lambda x: 2 * x,
    "asking": lambda x: 10 * (x + 1),
    "once": lambda x: 2 * x + 1,
    "deep": lambda x: 10 * (2 * x + 2),
}
"""Models that answer once, x to y: ONNX, the same behind the cache, Python, Python that asks ONNX, and ensembles."""
PARTS: Mapping[str, Callable[[float], list[float]]] = {
    "counting": lambda x: [float(number) for number in range(int(x))],
    "parts": lambda x: [2.0 * number for number in range(int(x) + 1)],
}
"""Models that answer in parts: Python, and an ensemble with that in its midst."""
SUMS: Mapping[str, tuple[str, str, float]] = {
    "total": ("X", "SUM", 0),
    "tally": ("X", "SUM", 0),
    "summed": ("x", "y", 1),
}
"""Stateful models: their input and their output, which is the sum over a sequence of the input and this."""
GUEST = "guest"
"""Answers x + 100."""


def write(root: Path) -> Path:
    """The repository."""
    for name, amount in (("add1", 1), ("kept", 5), (GUEST, 100)):
        numbered_models.adder(numbered_models.version_file(root, name, 1), amount)
    cached(numbered_models.version_file(root, "kept", 1))
    _python(root, "doubling", _DOUBLING, "instance_group { count: 2 }")
    _python(root, "asking", _ASKING, "")
    _python(root, "counting", _COUNTING, "model_transaction_policy { decoupled: true }")
    stateful_models.accumulator(root / "total", strategy=_PLACES, more=_IDLE)
    config = stateful_models.counter(root / "tally", strategy=_PLACES) / "config.pbtxt"
    config.write_text(config.read_text().replace("max_sequence_idle_microseconds: 60000000", _IDLE))
    asked_twice = (step("doubling", {"x": "x"}, {"y": "t"}), step("add1", {"x": "t"}, {"y": "y"}))
    ensembles.write(root, "once", graph(*asked_twice))
    ensembles.write(root, "deep", graph(step("once", {"x": "x"}, {"y": "t"}), step("asking", {"x": "t"}, {"y": "y"})))
    ensembles.write(
        root,
        "parts",
        graph(
            step("add1", {"x": "x"}, {"y": "last"}),
            step("counting", {"x": "last"}, {"y": "number"}),
            step("doubling", {"x": "number"}, {"y": "y"}),
        ),
    )
    ensembles.write(
        root, "summed", graph(step("add1", {"x": "x"}, {"y": "t"}), step("total", {"X": "t"}, {"SUM": "y"}))
    )
    return root


def _python(root: Path, name: str, code: str, more: str) -> None:
    file = root / name / "1" / "model.py"
    file.parent.mkdir(parents=True)
    file.write_text(_HEAD + code)
    (root / name / "config.pbtxt").write_text(_ROWS + more)
