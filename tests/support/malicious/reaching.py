"""Settings that reach out of a model, files in each other's place, and numbers that are work without end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from onnx import TensorProto, helper
from tests.support.malicious.case import Case
from tests.support.malicious.making import (
    field,
    hugging_face,
    mar,
    safetensors,
    skops_archive,
    triton,
    write,
)
from tests.support.malicious.paths import external_model, plain_mar

from taxiway.core.errors import MalformedArtifact, OversizedArtifact, UnsafePath, UntrustedPickle

_LIGHTGBM = "tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\nmax_feature_idx={}\n\nTree=0\n"


def mlflow(directory: Path, more: str) -> Path:
    model = directory / "mlflow"
    model.mkdir()
    text = f"flavors:\n  python_function:\n    loader_module: mlflow.sklearn\n    {more}\n"
    write(model / "MLmodel", text.encode())
    return model


def environment(directory: Path, path: str) -> Path:
    return triton(directory, f"parameters {{ key: 'EXECUTION_ENV_PATH' value {{ string_value: '{path}' }} }}")


def hidden_reference(directory: Path, tag: bytes) -> Path:
    """A tensor in a function's attribute that lies in another file; `tag` is of the field that says so."""
    entry = field(1, b"location") + field(2, b"../../etc/passwd")
    tensor = b"\x08\x04\x10\x01" + field(8, b"w") + (tag + bytes([len(entry)]) + entry) + b"\x70\x01"
    function = field(1, b"f") + field(10, b"own") + field(11, field(1, b"value") + field(5, tensor))
    model = helper.make_model(helper.make_graph([], "g", [], []), opset_imports=[helper.make_opsetid("", 17)])
    # 25 is a number of two bytes: 25 << 3 | 2 is 0xca 0x01.
    return write(directory / "model.onnx", model.SerializeToString() + b"\xca\x01" + bytes([len(function)]) + function)


def plain_function(directory: Path) -> Path:
    node = helper.make_node("Identity", ["x"], ["y"])
    function = helper.make_function("own", "f", ["x"], ["y"], [node], [helper.make_opsetid("", 17)])
    io = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("f", ["x"], ["y"], domain="own")], "g", io[:1], io[1:])
    model = helper.make_model(graph, functions=[function], opset_imports=[helper.make_opsetid("own", 1)])
    return write(directory / "model.onnx", model.SerializeToString())


def in_its_place(directory: Path) -> Path:
    """What is understood is one file, and what is served would be another."""
    write(directory / "model.onnx", b"\0" * 16)
    aside = directory / "aside"
    aside.mkdir()
    return external_model(aside, "model.onnx", size=None).rename(directory / "nice.onnx")


def predictor(directory: Path, *, other: str) -> Path:
    model = directory / "model"
    model.mkdir()
    write(model / "nice.py", b"class Nice:\n    def load(self, d): ...\n    def predict(self, x): ...\n")
    write(model / other, b"import os\n")
    return model


def many_members(directory: Path, size: int) -> Path:
    """Each unpacks to less than a ratio is asked of."""
    return write(directory / "model.mar", mar([(f"{index}.txt", b"0" * size) for index in range(8)]))


def hidden_nesting(directory: Path, depth: int) -> Path:
    """The brackets stand after a text that ends in an escaped backslash."""
    text = '{"a": "\\\\", "b": ' + "[" * depth + "]" * depth + ', "c": ""}'
    return hugging_face(directory, {"tokenizer.json": text.encode()})


def _skops(name: str, module: str, kind: str, loader: str) -> Case:
    return Case(
        f"skops-{name}",
        lambda directory, canary: write(directory / "m.skops", skops_archive(kind, module, loader)),
        lambda directory: write(directory / "m.skops", skops_archive("Ridge", "sklearn.linear_model", "ObjectNode")),
        UntrustedPickle,
        "skops-types",
    )


def _mlflow(name: str, more: str) -> Case:
    return Case(
        f"mlmodel-{name}", lambda d, c: mlflow(d, more), lambda d: mlflow(d, "code: code"), UnsafePath, "mlmodel-path"
    )


def _environment(name: str, path: str) -> Case:
    return Case(
        f"triton-environment-{name}",
        lambda d, c: environment(d, path),
        lambda d: environment(d, "$$TRITON_MODEL_DIRECTORY/env.tar.gz"),
        UnsafePath,
        "environment-path",
    )


def _safetensors(name: str, header: dict[str, object], rule: str = "safetensors") -> Case:
    return Case(
        f"safetensors-{name}",
        lambda d, c: write(d / "m.safetensors", safetensors({}, 8, header=json.dumps(header).encode())),
        lambda d: write(d / "m.safetensors", safetensors({"a": ("F32", [2], (0, 8))}, 8)),
        MalformedArtifact,
        rule,
    )


def cases() -> Iterator[Case]:
    yield _mlflow("data", "data: ../../elsewhere/model.pkl")
    yield _mlflow("absolute", "model_path: /tmp/model.pkl")
    yield _mlflow("artifact", "artifacts: {weights: {path: artifacts/../../../x.pkl}}")
    yield _environment("absolute", "/srv/environment")
    yield _environment("traversal", "$$TRITON_MODEL_DIRECTORY/../../environment")
    yield _skops("call-of-a-list", "numpy", "load", "ListNode")
    yield _skops("call-of-a-loss", "numpy", "savetxt", "LossNode")
    yield _skops("function-as-a-type", "numpy", "load", "TypeNode")
    wide = {"dtype": "F32", "shape": [1 << 62] * 60_000, "data_offsets": [0, 8]}
    yield _safetensors("dimensions", {"a": wide})
    yield _safetensors("huge-number", {"a": {"dtype": "F32", "shape": [10**4000], "data_offsets": [0, 8]}})
    yield Case(
        "onnx-function-attribute",
        lambda d, c: hidden_reference(d, b"\x6a"),
        plain_function,
        UnsafePath,
        "external-data-path",
    )
    yield Case(
        "onnx-field-number",
        lambda d, c: hidden_reference(d, b"\xea\x80\x80\x80\x10"),
        plain_function,
        MalformedArtifact,
        "protobuf",
    )
    yield Case(
        "onnx-memory-address",
        lambda d, c: external_model(d, "*/_ORT_MEM_ADDR_/*"),
        lambda d: external_model(d, "./weights.bin"),
        UnsafePath,
        "external-data-path",
    )
    yield Case(
        "onnx-in-its-place",
        lambda d, c: in_its_place(d),
        lambda d: external_model(d, "weights.bin"),
        MalformedArtifact,
        "model-file-name",
    )
    yield Case(
        "class-in-its-place",
        lambda d, c: predictor(d, other="predictor.py"),
        lambda d: predictor(d, other="helper.py"),
        MalformedArtifact,
        "model-file-name",
    )
    yield Case(
        "zip-of-many",
        lambda d, c: many_members(d, 7 << 20),
        lambda d: many_members(d, 1 << 10),
        OversizedArtifact,
        "max_ratio",
    )
    yield Case(
        "json-hidden-nesting",
        lambda d, c: hidden_nesting(d, 5000),
        lambda d: hidden_nesting(d, 3),
        OversizedArtifact,
        "max_nesting",
    )
    for number in ("-5", "9" * 4000):
        yield Case(
            f"lightgbm-features-{len(number)}",
            lambda d, c, number=number: write(d / "model.txt", _LIGHTGBM.format(number).encode()),  # type: ignore[misc]
            lambda d: write(d / "model.txt", _LIGHTGBM.format(3).encode()),
            MalformedArtifact,
            "lightgbm",
        )
    yield Case(
        "zip-direction-mark",
        lambda d, c: write(d / "model.mar", mar([("ab\u202egnp.txt", b"1")])),
        plain_mar,
        UnsafePath,
        "name",
    )
