"""FP8 E4M3 by Q and DQ of our own: the largest magnitude stands at 448.

ONNX Runtime's writer derives its scales from a standard deviation, which leaves a transformer at a cosine of 0.69 to
what it was; with the largest magnitude at 448 it is 0.996 (Micikevicius et al. 2022, arXiv 2209.05433, section 3).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from taxiway.optimize.calibrate.histogram import Histogram
from taxiway.optimize.graph.preparing import OPSET_OF_FLOAT8, raise_opset
from taxiway.optimize.recipes import Float8

LARGEST: Final = 448.0


def quantize_float8(model: onnx.ModelProto, recipe: Float8, histograms: Mapping[str, Histogram]) -> onnx.ModelProto:
    """The model with Q and DQ on both sides of what the recipe quantizes."""
    model = raise_opset(model, OPSET_OF_FLOAT8) or model
    writer = _Writer(model, histograms)
    nodes = list(model.graph.node)
    del model.graph.node[:]
    for node in nodes:
        if node.op_type in recipe.operators and node.name not in recipe.keep:
            writer.quantize(node)
        model.graph.node.append(node)
    _drop_unused(model)
    return model


class _Writer:
    """Appends Q and DQ before the node that needs them, once for each tensor."""

    def __init__(self, model: onnx.ModelProto, histograms: Mapping[str, Histogram]) -> None:
        self._model = model
        self._histograms = histograms
        self._weights = {one.name: one for one in model.graph.initializer if one.data_type == TensorProto.FLOAT}
        self._made: dict[tuple[str, int | None], str] = {}

    def quantize(self, node: onnx.NodeProto) -> None:
        """Both factors; a bias is added in float."""
        for at in (0, 1):
            name = node.input[at]
            weight = self._weights.get(name)
            if weight is not None:
                axis = channel_axis(node, at, len(weight.dims))
                node.input[at] = self._made.get((name, axis)) or self._weight(weight, axis)
            elif (histogram := self._histograms.get(name)) is not None and histogram.total:
                node.input[at] = self._made.get((name, None)) or self._activation(name, histogram)

    def _activation(self, name: str, histogram: Histogram) -> str:
        scale = max(-histogram.low, histogram.high, 1e-12) / LARGEST
        scale_name, zero_name = self._parameters(name, np.array(scale, dtype=np.float32))
        graph = self._model.graph
        graph.node.append(
            helper.make_node("QuantizeLinear", [name, scale_name, zero_name], [f"{name}_fp8"], name=f"{name}_fp8_q")
        )
        return self._dequantized(name, None, f"{name}_fp8", scale_name, zero_name)

    def _weight(self, weight: onnx.TensorProto, axis: int | None) -> str:
        values = numpy_helper.to_array(weight)
        others = tuple(at for at in range(values.ndim) if at != axis)
        largest = np.abs(values).max(axis=None if axis is None else others)
        scale = (np.maximum(largest, 1e-12) / LARGEST).astype(np.float32)
        scale_name, zero_name = self._parameters(weight.name, scale)
        stored = f"{weight.name}_fp8"
        self._model.graph.initializer.append(_float8(values / _along(scale, axis, values.ndim), stored))
        return self._dequantized(weight.name, axis, stored, scale_name, zero_name)

    def _parameters(self, name: str, scale: NDArray[np.float32]) -> tuple[str, str]:
        scale_name, zero_name = f"{name}_fp8_scale", f"{name}_fp8_zero"
        self._model.graph.initializer.extend(
            (numpy_helper.from_array(scale, scale_name), _float8(np.zeros(scale.shape, dtype=np.float32), zero_name))
        )
        return scale_name, zero_name

    def _dequantized(self, name: str, axis: int | None, stored: str, scale: str, zero: str) -> str:
        attributes: dict[str, Any] = {} if axis is None else {"axis": axis}
        output = f"{name}_fp8_dq"
        self._model.graph.node.append(
            helper.make_node("DequantizeLinear", [stored, scale, zero], [output], name=f"{output}_node", **attributes)
        )
        self._made[name, axis] = output
        return output


def channel_axis(node: onnx.NodeProto, at: int, rank: int) -> int | None:
    """The axis of output channels of a weight that stands at input `at`; None: one scale for all of it."""
    if rank < 2:
        return None
    if node.op_type == "Conv":
        return 0
    if node.op_type == "ConvTranspose":
        groups = next((one.i for one in node.attribute if one.name == "group"), 1)
        return 1 if groups == 1 else None
    if node.op_type == "Gemm":
        turned = next((one.i for one in node.attribute if one.name == ("transB" if at else "transA")), 0)
        return (0 if turned else 1) if at else (1 if turned else 0)
    return (1 if at else 0) if rank == 2 else None


def _along(scale: NDArray[np.float32], axis: int | None, rank: int) -> NDArray[np.float32]:
    if axis is None:
        return scale
    return scale.reshape([-1 if at == axis else 1 for at in range(rank)])


def _float8(values: NDArray[Any], name: str) -> onnx.TensorProto:
    """Rounded to nearest; clipped first, as beyond 448 lies NaN."""
    small = np.clip(values, -LARGEST, LARGEST).astype(ml_dtypes.float8_e4m3fn)
    made = onnx.TensorProto(name=name, data_type=TensorProto.FLOAT8E4M3FN, dims=values.shape)
    made.raw_data = small.tobytes()
    return made


def _drop_unused(model: onnx.ModelProto) -> None:
    used = {name for node in model.graph.node for name in node.input} | {one.name for one in model.graph.output}
    kept = [one for one in model.graph.initializer if one.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
