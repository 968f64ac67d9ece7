"""A candidate from a recipe: which writer makes it. What comes out is not believed until it is loaded and compared."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic

from taxiway.core.errors import InvalidModel
from taxiway.optimize.build.float8 import quantize_float8
from taxiway.optimize.build.static import quantize_static
from taxiway.optimize.calibrate.calibration import Calibration
from taxiway.optimize.graph.preparing import declared_as, load, named, without_shapes
from taxiway.optimize.recipes import Dynamic, Float8, Fused, Half, Plain, Recipe, Static, WeightOnly

_TENSOR_TYPE = {"DefaultTensorType": int(onnx.TensorProto.FLOAT)}
"""What a tensor is whose datatype was not inferred: behind an operator of another domain."""

for _noisy in ("root", "onnxruntime.quantization", "onnxruntime.transformers"):
    logging.getLogger(None if _noisy == "root" else _noisy).setLevel(logging.ERROR)


def make(recipe: Recipe, prepared: Path, target: Path, calibration: Calibration, *, keep_shapes: bool) -> None:
    """Write what `recipe` makes of the prepared model to `target`.

    Args:
        recipe: how.
        prepared: the model; only read.
        target: the candidate's file.
        calibration: of the prepared model; empty where the recipe needs none.
        keep_shapes: TensorRT wants the shapes of inner tensors written down; ONNX Runtime's CPU is slower with them.
    """
    model = _made(recipe, prepared, target, calibration)
    if not isinstance(recipe, (Plain, Fused)) and _operators(model) == _operators(load(prepared)):
        raise InvalidModel(
            f"{recipe.name}: there is nothing in the graph that it changes", hint="it has other operators"
        )
    declared_as(model, load(prepared))
    onnx.save(model if keep_shapes else without_shapes(model), target)


def _made(recipe: Recipe, prepared: Path, target: Path, calibration: Calibration) -> onnx.ModelProto:
    match recipe:
        case Plain():
            return load(prepared)
        case Fused(transformer=transformer):
            return _fused(prepared) if transformer else load(prepared)
        case Half(transformer=transformer):
            return _half(_fused(prepared) if transformer else load(prepared))
        case Dynamic(operators=operators, keep=keep):
            return _dynamic(load(prepared), target, operators, _nodes(load(prepared), operators, keep))
        case Static():
            return _static(recipe, prepared, target, calibration)
        case Float8():
            return quantize_float8(load(prepared), recipe, calibration.histograms)
        case WeightOnly(bits=bits, block=block):
            return _weight_only(prepared, bits, block)


def _operators(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def _nodes(model: onnx.ModelProto, operators: Sequence[str], keep: Sequence[str]) -> list[str]:
    return [node.name for node in model.graph.node if node.op_type in operators and node.name not in keep]


def _static(recipe: Static, prepared: Path, target: Path, calibration: Calibration) -> onnx.ModelProto:
    original = load(prepared)
    made = quantize_static(load(prepared), recipe, calibration)
    measured = list(recipe.measured)
    if recipe.embeddings and recipe.operators:
        weights = {one.name for one in original.graph.initializer}
        measured += [node.name for node in original.graph.node if node.op_type == "Gather" and node.input[0] in weights]
    return _dynamic(made, target, ("Gather", "MatMul"), measured) if measured else made


def _dynamic(model: onnx.ModelProto, target: Path, operators: Sequence[str], nodes: Sequence[str]) -> onnx.ModelProto:
    quantize_dynamic(
        model,
        target,
        op_types_to_quantize=list(operators),
        nodes_to_quantize=list(nodes),
        per_channel=True,
        weight_type=QuantType.QInt8,
        extra_options=_TENSOR_TYPE,
    )
    return load(target)


def _half(model: onnx.ModelProto) -> onnx.ModelProto:
    from onnxruntime.transformers.float16 import convert_float_to_float16  # noqa: PLC0415 - slow to import

    half: onnx.ModelProto = convert_float_to_float16(model, keep_io_types=True, disable_shape_infer=True)
    return half


def _weight_only(prepared: Path, bits: int, block: int) -> onnx.ModelProto:
    from onnxruntime.quantization import matmul_nbits_quantizer as nbits  # noqa: PLC0415 - asks for onnx_ir

    config = nbits.DefaultWeightOnlyQuantConfig(block_size=block, is_symmetric=True, accuracy_level=4, bits=bits)
    writer = nbits.MatMulNBitsQuantizer(load(prepared), algo_config=config)
    writer.process()
    made: onnx.ModelProto = writer.model.model
    return made


def _fused(prepared: Path) -> onnx.ModelProto:
    """Attention and its kin as one operator each; the sizes are read from the graph."""
    from onnxruntime.transformers import optimizer  # noqa: PLC0415 - slow to import

    found = optimizer.optimize_model(str(prepared), model_type="bert", num_heads=0, hidden_size=0, opt_level=0)
    made: onnx.ModelProto = found.model
    named(made)
    return made
