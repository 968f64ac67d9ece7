"""Small ONNX models, built by the test that needs them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = [helper.make_opsetid("", 17)]


def save(path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any], constants: list[Any] = ()) -> Path:  # type: ignore[assignment]
    """Write a graph of these parts to `path`."""
    graph = helper.make_graph(nodes, path.stem, inputs, outputs, list(constants))
    model = helper.make_model(graph, opset_imports=OPSET, ir_version=10)
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path))
    return path


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
