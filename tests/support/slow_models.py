"""Models that take as long, or answer as much, as a test asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from tests.support.onnx_models import save, tensor

_SIDE = 160


def sleeper(path: Path) -> Path:
    """y = x, INT64, rows of 1, after as many matrix products as the largest x says (of the order of 0.1 ms each)."""
    matrix = numpy_helper.from_array(np.full((_SIDE, _SIDE), 1 / _SIDE, np.float32), "matrix")
    zero = numpy_helper.from_array(np.array(0, np.float32), "zero")
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["carried", "matrix"], ["next"]),
            helper.make_node("Identity", ["going"], ["still"]),
        ],
        "work",
        [
            tensor("step", [], TensorProto.INT64),
            tensor("going", [], TensorProto.BOOL),
            tensor("carried", [_SIDE, _SIDE]),
        ],
        [tensor("still", [], TensorProto.BOOL), tensor("next", [_SIDE, _SIDE])],
    )
    nodes: list[Any] = [
        helper.make_node("ReduceMax", ["x"], ["steps"], keepdims=0),
        helper.make_node("Loop", ["steps", "", "matrix"], ["worked"], body=body),
        # The work must count for something, or it is optimized away: its sum times zero.
        helper.make_node("ReduceMax", ["worked"], ["largest"], keepdims=0),
        helper.make_node("Mul", ["largest", "zero"], ["nothing"]),
        helper.make_node("Cast", ["nothing"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Add", ["x", "whole"], ["y"]),
    ]
    rows = ["N", 1]
    kind = TensorProto.INT64
    return save(path, nodes, [tensor("x", rows, kind)], [tensor("y", rows, kind)], [matrix, zero])


def widener(path: Path, width: int = 2_621_440) -> Path:
    """y = x repeated `width` times, FP32, rows of 1: a few bytes in, 10 MiB out."""
    shape = numpy_helper.from_array(np.array([1, width], np.int64), "shape")
    node = helper.make_node("Expand", ["x", "shape"], ["y"])
    return save(path, [node], [tensor("x", ["N", 1])], [tensor("y", ["N", width])], [shape])
