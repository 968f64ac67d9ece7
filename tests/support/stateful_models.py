"""Stateful ONNX models, built by the test that needs them, each in a directory with its configuration.

ONNX keeps nothing from run to run: what a sequence has so far is an output of one step and an input of the next.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from onnx import TensorProto, helper
from tests.support.onnx_models import save, tensor

INT32, FLOAT, TEXT, BOOL = TensorProto.INT32, TensorProto.FLOAT, TensorProto.STRING, TensorProto.BOOL

STATE = """
  state {
    input_name: "SUM_SO_FAR" output_name: "SUM_NOW" data_type: TYPE_FP32 dims: 1
    initial_state { name: "nothing" data_type: TYPE_FP32 dims: 1 zero_data: true }
  }
"""


def configured(path: Path, config: str) -> Path:
    """The model directory of NAME/1/model.onnx, whose config.pbtxt says this."""
    directory = path.parent.parent
    (directory / "config.pbtxt").write_text(config)
    return directory


def accumulator(
    directory: Path, *, strategy: str = "direct {}", more: str = "", state: str = STATE, max_batch_size: int = 4
) -> Path:
    """SUM = the sum of X over a sequence, rows of [1]; it is the state too. `more` goes into sequence_batching."""
    row: list[Any] = ["N", 1] if max_batch_size else [1]
    nodes = [
        helper.make_node("Add", ["X", "SUM_SO_FAR"], ["SUM_NOW"]),
        helper.make_node("Identity", ["SUM_NOW"], ["SUM"]),
    ]
    inputs, outputs = [tensor("X", row), tensor("SUM_SO_FAR", row)], [tensor("SUM", row), tensor("SUM_NOW", row)]
    path = save(directory / "1/model.onnx", nodes, inputs, outputs)
    return configured(path, f"max_batch_size: {max_batch_size}\nsequence_batching {{ {strategy}\n{state}\n{more} }}\n")


CONTROLS = """
  control_input { name: "START" control { kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] } }
  control_input { name: "READY" control { kind: CONTROL_SEQUENCE_READY fp32_false_true: [ 0, 1 ] } }
  control_input { name: "END" control { kind: CONTROL_SEQUENCE_END bool_false_true: [ false, true ] } }
  control_input { name: "ID" control { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_INT64 } }
"""


def told(directory: Path, *, strategy: str = "direct {}", controls: str = CONTROLS, more: str = "") -> Path:
    """What a row was told, and of its run: WAS = X, START, READY, END and ID as floats, and how many rows there were.

    WAS is [6] for each row: its last element is the number of rows, the one before the sum of READY over all rows.
    """
    row: list[Any] = ["N", 1]
    floats = [helper.make_node("Cast", [name], [f"{name}_F"], to=FLOAT) for name in ("START", "READY", "END", "ID")]
    nodes = [
        *floats,
        helper.make_node("ReduceSum", ["READY_F"], ["ALL_READY"], keepdims=1),
        helper.make_node("Mul", ["X", "ZERO"], ["ZEROS"]),
        helper.make_node("Add", ["ZEROS", "ALL_READY"], ["ALL_READY_ROWS"]),
        helper.make_node("Add", ["ZEROS", "ONE"], ["ONES"]),
        helper.make_node("ReduceSum", ["ONES"], ["ROWS"], keepdims=1),
        helper.make_node("Add", ["ZEROS", "ROWS"], ["ROWS_ROWS"]),
        helper.make_node("Concat", ["X", "START_F", "END_F", "ID_F", "ALL_READY_ROWS", "ROWS_ROWS"], ["WAS"], axis=1),
    ]
    constants = [helper.make_tensor("ZERO", FLOAT, [1], [0.0]), helper.make_tensor("ONE", FLOAT, [1], [1.0])]
    kinds = {"X": FLOAT, "START": INT32, "READY": FLOAT, "END": BOOL, "ID": TensorProto.INT64}
    inputs = [tensor(name, row, kind) for name, kind in kinds.items()]
    path = save(directory / "1/model.onnx", nodes, inputs, [tensor("WAS", ["N", 6])], constants)
    return configured(path, f"max_batch_size: 4\nsequence_batching {{ {strategy}\n{controls}\n{more} }}\n")


def texts(directory: Path) -> Path:
    """Y = all texts X of a sequence in one, rows of [1]; a sequence begins with "Once: ", from a file."""
    row: list[Any] = ["N", 1]
    nodes = [
        helper.make_node("StringConcat", ["BEFORE", "X"], ["Y"]),
        helper.make_node("Identity", ["Y"], ["AFTER"]),
    ]
    inputs, outputs = [[tensor(name, row, TEXT) for name in pair] for pair in (("X", "BEFORE"), ("Y", "AFTER"))]
    path = save(directory / "1/model.onnx", nodes, inputs, outputs, opset=[helper.make_opsetid("", 20)])
    (directory / "initial_state").mkdir()
    (directory / "initial_state/once").write_bytes(len(b"Once: ").to_bytes(4, "little") + b"Once: ")
    state = """state {
        input_name: "BEFORE" output_name: "AFTER" data_type: TYPE_STRING dims: 1
        initial_state { name: "once" data_type: TYPE_STRING dims: 1 data_file: "once" }
    }"""
    return configured(path, f"max_batch_size: 4\nsequence_batching {{ {state} }}\n")


def growing(directory: Path) -> Path:
    """Y = a zero, then all elements X of a sequence, whole numbers: the state grows. One over 999 fails its run."""
    row: list[Any] = ["N", "M"]
    table = helper.make_tensor("TABLE", FLOAT, [1000], [float(number) for number in range(1000)])
    nodes = [
        helper.make_node("Cast", ["X"], ["INDEX"], to=TensorProto.INT64),
        helper.make_node("Gather", ["TABLE", "INDEX"], ["CHECKED"]),
        helper.make_node("Concat", ["BEFORE", "CHECKED"], ["Y"], axis=1),
        helper.make_node("Identity", ["Y"], ["AFTER"]),
    ]
    inputs = [tensor("X", row), tensor("BEFORE", ["N", "B"])]
    outputs = [tensor("Y", ["N", "L"]), tensor("AFTER", ["N", "L"])]
    path = save(directory / "1/model.onnx", nodes, inputs, outputs, [table])
    state = 'state { input_name: "BEFORE" output_name: "AFTER" dims: -1 }'
    return configured(path, f"max_batch_size: 4\nsequence_batching {{ {state} }}\n")


COUNTER = """
import os, signal
import numpy as np

class Model:
    def __init__(self):
        self.sums = {}

    def predict(self, X, ID, START, READY, END):
        sums = []
        for x, id, start, ready, end in zip(X[:, 0], ID[:, 0], START[:, 0], READY[:, 0], END[:, 0]):
            if not ready:
                sums.append([0.0])
                continue
            if x == 666:
                os.kill(os.getpid(), signal.SIGKILL)
            if x == 13:
                raise ValueError("no thirteens")
            if start:
                self.sums[id] = 0
            self.sums[id] += x
            sums.append([self.sums[id]])
            if end:
                del self.sums[id]
        return {"SUM": np.array(sums, np.float32)}
"""
"""A class that keeps its own state, by id: SUM = the sum of X over a sequence. 666 kills its process, 13 fails."""


def counter(directory: Path, *, strategy: str = "direct {}", instances: int = 1) -> Path:
    """The model directory of `COUNTER`."""
    return _hosted(directory, "class", "predictor.py", COUNTER, f"instance_group {{ count: {instances} }}", strategy)


TRITON_COUNTER = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.sums = {}

    def execute(self, requests):
        return [self.step(request) for request in requests]

    def step(self, request):
        told = {name: pb_utils.get_input_tensor_by_name(request, name).as_numpy().item()
                for name in ("X", "ID", "START", "READY", "END")}
        if told["READY"]:
            if told["START"]:
                self.sums[told["ID"]] = 0
            self.sums[told["ID"]] += told["X"]
        sum = self.sums.pop(told["ID"], 0) if told["END"] else self.sums.get(told["ID"], 0)
        return pb_utils.InferenceResponse([pb_utils.Tensor("SUM", np.array([[sum]], np.float32))])
"""
"""The same as a model.py of Triton."""


def triton_counter(directory: Path, *, strategy: str = "direct {}") -> Path:
    """The model directory of `TRITON_COUNTER`."""
    return _hosted(directory, "python", "model.py", TRITON_COUNTER, "", strategy)


def _hosted(directory: Path, backend: str, filename: str, code: str, more: str, strategy: str) -> Path:
    file = directory / "1" / filename
    file.parent.mkdir(parents=True)
    file.write_text(code)
    return configured(
        file,
        f"""
        backend: "{backend}" max_batch_size: 4 {more}
        input {{ name: "X" data_type: TYPE_FP32 dims: 1 }}
        output {{ name: "SUM" data_type: TYPE_FP32 dims: 1 }}
        sequence_batching {{ {strategy} {CONTROLS} max_sequence_idle_microseconds: 60000000 }}
        """,
    )
