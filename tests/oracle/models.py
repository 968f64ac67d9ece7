"""The models both servers serve: each is defined once and written into two Triton repositories.

`onnx/` is what taxiway reads: backend `onnxruntime`, NAME/V/model.onnx. `python/` is what real Triton reads:
the same `config.pbtxt` except for the backend, and a `model.py` that runs the very same ONNX file, because the
Triton that can be had here carries no ONNX Runtime backend.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import numpy as np
import onnx
from onnx import TensorProto, helper

IR_VERSION: Final = 10
OPSET: Final = 17

ONNX_TYPES: Final[Mapping[str, int]] = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}
"""Wire datatype -> ONNX element type: every datatype of the protocol that numpy can hold, so not BF16."""


@dataclasses.dataclass(frozen=True)
class Tensor:
    """One input or output as `config.pbtxt` declares it: `dims` excludes the batch dimension."""

    name: str
    datatype: str
    dims: tuple[int, ...]


Graph = Callable[["Model"], onnx.ModelProto]


@dataclasses.dataclass(frozen=True)
class Model:
    """One model of the suite; `graphs` maps each version to what builds it."""

    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    graphs: Mapping[int, Graph]
    max_batch_size: int = 0
    labels: tuple[str, ...] = ()
    extra_config: str = ""
    exact: bool = True
    """Whether outputs must agree bit for bit; False where sums may be reordered (see compare.py)."""


def _value(tensor: Tensor, model: Model) -> onnx.ValueInfoProto:
    """An ONNX graph value: batching models lead with a symbolic dimension, each -1 is a symbol of its own."""
    dims: list[int | str] = [f"{tensor.name}_d{i}" if d < 0 else d for i, d in enumerate(tensor.dims)]
    shape = ["batch", *dims] if model.max_batch_size else dims
    return helper.make_tensor_value_info(tensor.name, ONNX_TYPES[tensor.datatype], shape)


def _graph(model: Model, nodes: list[onnx.NodeProto], constants: Mapping[str, np.ndarray]) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        model.name,
        [_value(tensor, model) for tensor in model.inputs],
        [_value(tensor, model) for tensor in model.outputs],
        [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(proto)
    return proto


def _echo(model: Model) -> onnx.ModelProto:
    """Every output is the input of the same position."""
    pairs = zip(model.inputs, model.outputs, strict=True)
    return _graph(model, [helper.make_node("Identity", [i.name], [o.name]) for i, o in pairs], {})


def _add_sub(model: Model) -> onnx.ModelProto:
    names = [tensor.name for tensor in model.inputs]
    total, difference = (tensor.name for tensor in model.outputs)
    nodes = [helper.make_node("Add", names, [total]), helper.make_node("Sub", names, [difference])]
    return _graph(model, nodes, {})


def _mlp(model: Model) -> onnx.ModelProto:
    """Four features through one hidden layer to three class probabilities; a seed fixes the weights."""
    seed = np.random.default_rng(20240101)
    constants = {
        "w1": seed.normal(size=(4, 16)).astype(np.float32),
        "b1": seed.normal(size=(16,)).astype(np.float32),
        "w2": seed.normal(size=(16, 3)).astype(np.float32),
    }
    nodes = [
        helper.make_node("MatMul", [model.inputs[0].name, "w1"], ["h1"]),
        helper.make_node("Add", ["h1", "b1"], ["h2"]),
        helper.make_node("Relu", ["h2"], ["h3"]),
        helper.make_node("MatMul", ["h3", "w2"], ["logits"]),
        helper.make_node("Softmax", ["logits"], [model.outputs[0].name], axis=-1),
    ]
    return _graph(model, nodes, constants)


def affine(scale: float, offset: float) -> Graph:
    """Y = scale * X + offset: versions that can be told apart."""

    def build(model: Model) -> onnx.ModelProto:
        nodes = [
            helper.make_node("Mul", [model.inputs[0].name, "scale"], ["scaled"]),
            helper.make_node("Add", ["scaled", "offset"], [model.outputs[0].name]),
        ]
        return _graph(model, nodes, {"scale": np.array(scale, np.float32), "offset": np.array(offset, np.float32)})

    return build


def _identity(datatype: str) -> Model:
    return Model(
        name=f"identity_{datatype.lower()}",
        inputs=(Tensor("INPUT0", datatype, (-1,)),),
        outputs=(Tensor("OUTPUT0", datatype, (-1,)),),
        graphs={1: _echo},
        max_batch_size=8,
    )


MODELS: Final[tuple[Model, ...]] = (
    Model(
        name="add_sub",
        inputs=(Tensor("INPUT0", "FP32", (4,)), Tensor("INPUT1", "FP32", (4,))),
        outputs=(Tensor("OUTPUT0", "FP32", (4,)), Tensor("OUTPUT1", "FP32", (4,))),
        graphs={1: _add_sub},
        max_batch_size=8,
    ),
    Model(
        name="mlp",
        inputs=(Tensor("X", "FP32", (4,)),),
        outputs=(Tensor("Y", "FP32", (3,)),),
        graphs={1: _mlp},
        max_batch_size=8,
        labels=("setosa", "versicolor", "virginica"),
        exact=False,
    ),
    *(_identity(datatype) for datatype in ONNX_TYPES),
    Model(
        name="matrix",
        inputs=(Tensor("M", "FP32", (-1, -1)),),
        outputs=(Tensor("M_OUT", "FP32", (-1, -1)),),
        graphs={1: _echo},
    ),
    Model(
        name="int_add",
        inputs=(Tensor("A", "INT32", (-1,)), Tensor("B", "INT32", (-1,))),
        outputs=(Tensor("SUM", "INT32", (-1,)), Tensor("DIFFERENCE", "INT32", (-1,))),
        graphs={1: _add_sub},
        max_batch_size=4,
        extra_config="dynamic_batching { max_queue_delay_microseconds: 100 }\n",
    ),
    Model(
        name="no_batch",
        inputs=(Tensor("INPUT0", "INT64", (2, 3)),),
        outputs=(Tensor("OUTPUT0", "INT64", (2, 3)),),
        graphs={1: _echo},
    ),
    Model(
        name="versions",
        inputs=(Tensor("X", "FP32", (2,)),),
        outputs=(Tensor("Y", "FP32", (2,)),),
        graphs={1: affine(1.0, 1.0), 3: affine(2.0, 0.0)},
        max_batch_size=2,
        extra_config="version_policy { all { } }\n",
    ),
    Model(
        name="mixed",
        inputs=(
            Tensor("FLOATS", "FP32", (2,)),
            Tensor("INTS", "INT64", (-1,)),
            Tensor("TEXTS", "BYTES", (-1,)),
            Tensor("FLAG", "BOOL", (1,)),
        ),
        outputs=(
            Tensor("FLOATS_OUT", "FP32", (2,)),
            Tensor("INTS_OUT", "INT64", (-1,)),
            Tensor("TEXTS_OUT", "BYTES", (-1,)),
            Tensor("FLAG_OUT", "BOOL", (1,)),
        ),
        graphs={1: _echo},
    ),
    Model(
        name="text",
        inputs=(Tensor("TEXT", "BYTES", (1,)),),
        outputs=(Tensor("TEXT_OUT", "BYTES", (1,)),),
        graphs={1: _echo},
        max_batch_size=4,
    ),
    Model(
        name="generate",
        inputs=(Tensor("text_input", "BYTES", (1,)), Tensor("temperature", "FP32", (-1,))),
        outputs=(Tensor("text_output", "BYTES", (1,)), Tensor("temperature_used", "FP32", (-1,))),
        graphs={1: _echo},
    ),
)

BY_NAME: Final[Mapping[str, Model]] = {model.name: model for model in MODELS}

PYTHON_MODEL: Final = '''"""Run the ONNX file beside this one, so that Triton answers what taxiway should."""

import os

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        folder = os.path.join(args["model_repository"], args["model_version"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        path = os.path.join(folder, "model.onnx")
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        feed = {tensor.name(): decoded(tensor.as_numpy()) for tensor in request.inputs()}
        wanted = [output.name for output in self.session.get_outputs()]
        wanted = [name for name in wanted if name in request.requested_output_names()]
        try:
            arrays = self.session.run(wanted, feed)
        except Exception as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))
        return pb_utils.InferenceResponse([pb_utils.Tensor(n, encoded(a)) for n, a in zip(wanted, arrays)])


def decoded(array):
    """BYTES arrive as bytes objects; ONNX Runtime wants text."""
    if array.dtype != np.object_:
        return array
    return np.array([x.decode() for x in array.ravel()], dtype=np.object_).reshape(array.shape)


def encoded(array):
    if array.dtype != np.object_:
        return array
    return np.array([x.encode() for x in array.ravel()], dtype=np.object_).reshape(array.shape)
'''


def _tensor_config(tensors: tuple[Tensor, ...], kind: str, labels: str) -> str:
    """The `input` or `output` block; protobuf calls BYTES `TYPE_STRING`."""
    blocks = []
    for tensor in tensors:
        data_type = "STRING" if tensor.datatype == "BYTES" else tensor.datatype
        dims = ", ".join(map(str, tensor.dims))
        blocks.append(f'  {{ name: "{tensor.name}" data_type: TYPE_{data_type} dims: [ {dims} ]{labels} }}')
    return f"{kind} [\n" + ",\n".join(blocks) + "\n]\n"


def config_text(model: Model, backend: str) -> str:
    """The whole `config.pbtxt`; nothing is left to auto-completion, whose results differ by backend."""
    labels = ' label_filename: "labels.txt"' if model.labels else ""
    return (
        f'name: "{model.name}"\n'
        f'backend: "{backend}"\n'
        f"max_batch_size: {model.max_batch_size}\n"
        + _tensor_config(model.inputs, "input", "")
        + _tensor_config(model.outputs, "output", labels)
        + "instance_group [ { kind: KIND_CPU count: 1 } ]\n"
        + model.extra_config
    )


def write_repositories(root: Path) -> tuple[Path, Path]:
    """Write both repositories below `root`; returns (onnx for taxiway, python for Triton)."""
    onnx_root, python_root = root / "onnx", root / "python"
    for model in MODELS:
        protos = {version: build(model).SerializeToString() for version, build in model.graphs.items()}
        for repository, backend in ((onnx_root, "onnxruntime"), (python_root, "python")):
            _write_model(repository / model.name, model, backend, protos)
    return onnx_root, python_root


def _write_model(folder: Path, model: Model, backend: str, protos: Mapping[int, bytes]) -> None:
    folder.mkdir(parents=True)
    (folder / "config.pbtxt").write_text(config_text(model, backend), encoding="utf-8")
    if model.labels:
        (folder / "labels.txt").write_text("\n".join(model.labels) + "\n", encoding="utf-8")
    for version, proto in protos.items():
        (folder / str(version)).mkdir()
        (folder / str(version) / "model.onnx").write_bytes(proto)
        if backend == "python":
            (folder / str(version) / "model.py").write_text(PYTHON_MODEL, encoding="utf-8")
