"""Graphs are rewritten only into what answers the same, and FP8 is what the paper says."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from taxiway.optimize.build.float8 import LARGEST, quantize_float8
from taxiway.optimize.calibrate.histogram import Histogram
from taxiway.optimize.graph.classes import node_classes
from taxiway.optimize.graph.folding import fold_constants_into_convolutions
from taxiway.optimize.graph.preparing import named, opset_of
from taxiway.optimize.recipes import Float8

RNG = np.random.default_rng(0)
Array = NDArray[Any]


def model(
    nodes: list[onnx.NodeProto], constants: dict[str, Array], shape: list[Any], opset: int = 17
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    named(made)
    return made


def run(made: onnx.ModelProto, x: Array) -> Array:
    answer: Array = ort.InferenceSession(made.SerializeToString()).run(None, {"x": x})[0]
    return answer


def number(value: float) -> Array:
    return np.array([value], dtype=np.float32)


def chain(pads: list[int]) -> onnx.ModelProto:
    """Conv, a scale and a shift, a hard swish in four operators, a scale and a shift, a Conv."""
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1]),
        node("Mul", ["s1", "c1"], ["m1"]),
        node("Add", ["m1", "t1"], ["a1"]),
        node("Add", ["a1", "three"], ["p"]),
        node("Clip", ["p", "zero", "six"], ["k"]),
        node("Mul", ["a1", "k"], ["h"]),
        node("Div", ["h", "six"], ["hs"]),
        node("Mul", ["s2", "hs"], ["m2"]),
        node("Add", ["m2", "t2"], ["a2"]),
        node("Conv", ["a2", "w2"], ["y"], pads=pads, group=4),
    ]
    constants = {
        "w1": RNG.normal(0, 1, (4, 3, 3, 3)).astype(np.float32),
        "b1": RNG.normal(0, 1, 4).astype(np.float32),
        "w2": RNG.normal(0, 1, (4, 1, 3, 3)).astype(np.float32),
        "s1": number(1.7), "t1": number(-0.4), "s2": number(0.3), "t2": number(0.9), "three": number(3.0),
        "zero": np.array(0.0, dtype=np.float32), "six": np.array(6.0, dtype=np.float32),
    }  # fmt: skip
    return model(nodes, constants, ["N", 3, 8, 8])


@pytest.mark.parametrize(
    ("pads", "left"),
    [
        ([0, 0, 0, 0], {"Conv": 2, "HardSigmoid": 1, "Mul": 1}),
        ([1, 1, 1, 1], {"Conv": 2, "HardSigmoid": 1, "Mul": 1, "Add": 1}),
    ],
)
def test_constants_go_into_the_convolutions_and_the_answer_stays(pads: list[int], left: dict[str, int]) -> None:
    x = RNG.normal(0, 1, (2, 3, 8, 8)).astype(np.float32)
    made = chain(pads)
    before = run(made, x)
    folded = fold_constants_into_convolutions(made)
    assert folded is not None
    counted: dict[str, int] = {}
    for node in folded.graph.node:
        counted[node.op_type] = counted.get(node.op_type, 0) + 1
    assert counted == left
    np.testing.assert_allclose(run(folded, x), before, rtol=2e-4, atol=2e-4)


def test_what_somebody_else_reads_is_left_alone() -> None:
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w"], ["c"]),
        node("Mul", ["c", "s"], ["m"]),
        node("Add", ["c", "m"], ["y"]),
    ]
    made = model(nodes, {"w": RNG.normal(0, 1, (2, 3, 1, 1)).astype(np.float32), "s": number(2.0)}, ["N", 3, 4, 4])
    assert fold_constants_into_convolutions(made) is None


def test_nodes_of_one_operator_and_weight_are_a_class() -> None:
    node = helper.make_node
    nodes = [
        node("MatMul", ["x", "a"], ["1"]),
        node("MatMul", ["1", "b"], ["2"]),
        node("MatMul", ["2", "c"], ["3"]),
        node("MatMul", ["3", "3"], ["y"]),
    ]
    square = RNG.normal(0, 1, (4, 4)).astype(np.float32)
    made = model(nodes, {"a": square, "b": square, "c": RNG.normal(0, 1, (4, 4)).astype(np.float32)}, [4, 4])
    found = node_classes(made, ["MatMul"])
    assert [(one.name, len(one.nodes), one.weight) for one in found] == [
        ("MatMul 4x4", 3, 16),
        ("MatMul of activations", 1, 0),
    ]


def test_the_largest_magnitude_stands_at_448_in_each_channel_of_a_weight() -> None:
    weight = RNG.normal(0, 1, (16, 8)).astype(np.float32) * np.logspace(-2, 2, 8, dtype=np.float32)
    x = RNG.normal(0, 3, (32, 16)).astype(np.float32)
    histogram = Histogram()
    histogram.add(x)
    made = quantize_float8(
        model([helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": weight}, ["N", 16]), Float8(), {"x": histogram}
    )
    constants = {one.name: one for one in made.graph.initializer}
    assert opset_of(made) == 19
    scale = numpy_helper.to_array(constants["w_fp8_scale"])
    np.testing.assert_allclose(scale, np.abs(weight).max(axis=0) / LARGEST, rtol=1e-6)
    assert float(numpy_helper.to_array(constants["x_fp8_scale"])) == pytest.approx(float(np.abs(x).max()) / LARGEST)

    def rounded(values: Array, by: Array) -> Array:
        return np.asarray((values / by).astype(ml_dtypes.float8_e4m3fn).astype(np.float32) * by)

    expected = rounded(x, numpy_helper.to_array(constants["x_fp8_scale"])) @ rounded(weight, scale)
    np.testing.assert_allclose(run(made, x), expected, rtol=1e-4, atol=1e-3)
