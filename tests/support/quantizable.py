"""A network worth optimizing, with data: handwritten digits read by fixed random convolutions and a trained layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

Array = NDArray[Any]
CHANNELS = 64


def digits() -> tuple[Array, Array]:
    """Pictures [3594, 1, 8, 8], the second half with noise, and their labels."""
    found = load_digits()
    pictures = (found.data.reshape(-1, 1, 8, 8) / 16.0).astype(np.float32)
    noise = np.random.default_rng(1).normal(0, 0.05, pictures.shape).astype(np.float32)
    return np.concatenate([pictures, pictures + noise]), np.concatenate([found.target] * 2).astype(np.int64)


def write_digits_model(path: Path) -> Path:
    """An ONNX file that scores digits: x [N, 1, 8, 8] to scores [N, 10], right for 98 of 100."""
    pictures, labels = digits()
    rng = np.random.default_rng(0)
    shapes = {"w1": (CHANNELS, 1, 3, 3), "w2": (2 * CHANNELS, CHANNELS, 3, 3)}
    constants = {name: rng.normal(0, np.prod(shape[1:]) ** -0.5, shape) for name, shape in shapes.items()}
    features = ort.InferenceSession(_model(constants, "features").SerializeToString()).run(None, {"x": pictures})[0]
    head = LogisticRegression(max_iter=200, C=0.3).fit(features[::3], labels[::3])
    onnx.save(_model(constants | {"hw": head.coef_.T, "hb": head.intercept_}, "scores"), path)
    return path


def write_digits(path: Path, first: int = 0, count: int = 2000) -> Path:
    """Some of the digits, shuffled, as `--data` takes them."""
    pictures, labels = digits()
    chosen = np.random.default_rng(2).permutation(len(labels))[first : first + count]
    np.savez(path, allow_pickle=False, x=pictures[chosen], label=labels[chosen])
    return path


def _model(constants: dict[str, Array], output: str) -> onnx.ModelProto:
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w1"], ["c1"], pads=[1, 1, 1, 1], name="first"),
        node("Relu", ["c1"], ["r1"], name="relu1"),
        node("Conv", ["r1", "w2"], ["c2"], pads=[1, 1, 1, 1], name="second"),
        node("Relu", ["c2"], ["r2"], name="relu2"),
        node("MaxPool", ["r2"], ["p"], kernel_shape=[2, 2], strides=[2, 2], name="pool"),
        node("Flatten", ["p"], ["features"], name="flat"),
    ]
    if output == "scores":
        nodes.append(node("Gemm", ["features", "hw", "hb"], ["scores"], name="head"))
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, 8, 8])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["N", None])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
