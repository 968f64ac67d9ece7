"""Small ONNX models, built by the test that needs them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = [helper.make_opsetid("", 17)]


def save(
    path: Path,
    nodes: list[Any],
    inputs: list[Any],
    outputs: list[Any],
    constants: list[Any] = (),  # type: ignore[assignment]
    opset: list[Any] = OPSET,
) -> Path:
    """Write a graph of these parts to `path`."""
    graph = helper.make_graph(nodes, path.stem, inputs, outputs, list(constants))
    model = helper.make_model(graph, opset_imports=opset, ir_version=10)
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path))
    return path


def cached(path: Path, more: str = "") -> Path:
    """The model directory of NAME/1/model.onnx, whose new configuration enables the response cache."""
    directory = path.parent.parent
    (directory / "config.pbtxt").write_text(f"response_cache {{ enable: true }}\n{more}")
    return directory


def tensor(name: str, shape: list[Any], kind: int = TensorProto.FLOAT) -> Any:
    """A declared input or output; a dimension given as text is free."""
    return helper.make_tensor_value_info(name, kind, shape)


def doubler(path: Path, width: int = 2) -> Path:
    """y = x + x, FP32, rows of `width`."""
    node = helper.make_node("Add", ["x", "x"], ["y"])
    return save(path, [node], [tensor("x", ["N", width])], [tensor("y", ["N", width])])


def poisonable(path: Path) -> Path:
    """y = table[x] for INT64 x of rows [1]: an index of 10 or more makes the whole run fail."""
    table = numpy_helper.from_array(np.arange(10, dtype=np.float32) * 10, "table")
    node = helper.make_node("Gather", ["table", "x"], ["y"])
    return save(path, [node], [tensor("x", ["N", 1], TensorProto.INT64)], [tensor("y", ["N", 1])], [table])


def row_eater(path: Path) -> Path:
    """Gives one row whatever goes in: a model that pretends to batch."""
    node = helper.make_node("ReduceSum", ["x"], ["y"], keepdims=1)
    return save(path, [node], [tensor("x", ["N", 2])], [tensor("y", ["M", 1])])


def two_outputs(path: Path) -> Path:
    """SUM = a + b and DIFFERENCE = a - b, FP32, rows of 2."""
    nodes = [helper.make_node("Add", ["a", "b"], ["SUM"]), helper.make_node("Sub", ["a", "b"], ["DIFFERENCE"])]
    row = ["N", 2]
    return save(path, nodes, [tensor("a", row), tensor("b", row)], [tensor("SUM", row), tensor("DIFFERENCE", row)])


def echo_texts(path: Path) -> Path:
    """y = x, texts, rows of 1."""
    node = helper.make_node("Identity", ["x"], ["y"])
    kind = TensorProto.STRING
    return save(path, [node], [tensor("x", ["N", 1], kind)], [tensor("y", ["N", 1], kind)])


def softmax_of_rows(path: Path) -> Path:
    """y = softmax over the first axis: a free first dimension that is no batch."""
    node = helper.make_node("Softmax", ["x"], ["y"], axis=0)
    return save(path, [node], [tensor("x", ["N", 2])], [tensor("y", ["N", 2])])


def running_sum(path: Path) -> Path:
    """y = the sum of x up to each step, time-major: [T, N, 3]."""
    axis = numpy_helper.from_array(np.asarray(0, np.int64), "axis")
    node = helper.make_node("CumSum", ["x", "axis"], ["y"])
    return save(path, [node], [tensor("x", ["T", "N", 3])], [tensor("y", ["T", "N", 3])], [axis])


def noise(path: Path) -> Path:
    """y = x + noise, another one in each run."""
    nodes = [helper.make_node("RandomNormalLike", ["x"], ["r"]), helper.make_node("Add", ["x", "r"], ["y"])]
    return save(path, nodes, [tensor("x", ["N", 4])], [tensor("y", ["N", 4])])


def embedding(path: Path, size: int) -> Path:
    """y = table[x], INT64 rows of 3, a table of `size` entries."""
    table = numpy_helper.from_array(np.arange(size, dtype=np.float32), "table")
    node = helper.make_node("Gather", ["table", "x"], ["y"])
    return save(path, [node], [tensor("x", ["N", 3], TensorProto.INT64)], [tensor("y", ["N", 3])], [table])


def no_number(path: Path) -> Path:
    """y = the logarithm of something negative: NaN, whatever goes in."""
    nodes = [
        helper.make_node("Exp", ["x"], ["positive"]),
        helper.make_node("Neg", ["positive"], ["negative"]),
        helper.make_node("Log", ["negative"], ["y"]),
    ]
    return save(path, nodes, [tensor("x", ["N", 2])], [tensor("y", ["N", 2])])
