"""Static INT8 and A16W8: ONNX Runtime's QDQ writer, given ranges of our own."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.quant_utils import QuantType

from taxiway.optimize.calibrate.calibration import Calibration
from taxiway.optimize.recipes import EVERYTHING, Static

_ACTIVATIONS = {"uint8": QuantType.QUInt8, "int8": QuantType.QInt8, "uint16": QuantType.QUInt16}


def quantize_static(model: onnx.ModelProto, recipe: Static, calibration: Calibration) -> onnx.ModelProto:
    """The model with Q and DQ around what the recipe quantizes."""
    operators = list(recipe.operators or EVERYTHING)
    kept = {*recipe.keep, *recipe.measured}
    nodes = [node.name for node in model.graph.node if node.op_type in operators and node.name not in kept]
    symmetric = recipe.activations == "int8"
    writer = QDQQuantizer(
        model,
        recipe.per_channel,
        False,  # reduce_range: kernels with VNNI do not overflow, and their users are the ones who quantize
        weight_qType=QuantType.QInt8,
        activation_qType=_ACTIVATIONS[recipe.activations],
        tensors_range=_ranges(calibration, recipe, symmetric=symmetric),
        nodes_to_quantize=nodes,
        nodes_to_exclude=[],
        op_types_to_quantize=operators,
        extra_options={
            # It fails on a bias of shape (1, n), and shifts weights that are right as they are.
            "QDQDisableWeightAdjustForInt32Bias": True,
            "ActivationSymmetric": symmetric,
            "WeightSymmetric": True,
        },
    )
    writer.quantize_model()
    made: onnx.ModelProto = writer.model.model
    return made


def _ranges(calibration: Calibration, recipe: Static, *, symmetric: bool) -> TensorsData:
    data: dict[str, Any] = {}
    for name, (low, high) in calibration.ranges(recipe.ranges, symmetric=symmetric).items():
        data[name] = TensorData(lowest=np.array(low, dtype=np.float32), highest=np.array(high, dtype=np.float32))
    return TensorsData(CalibrationMethod.MinMax, data)
