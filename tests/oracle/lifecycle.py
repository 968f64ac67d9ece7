"""Walks: loads, unloads and changes of the repository in some order, and what is asked in between.

In: a small repository, written for both servers. Out: steps; each is a change of the files, or a question put to both
servers, over HTTP or gRPC. After every step both servers are asked in what state they are.
Never: choosing steps (walks.py), nor asking (walking.py); inference for its own sake (requests.py, calls.py).

A version of a model here is Y = scale * X + offset with numbers of its own, so that an answer tells which version
gave it, and which generation of its files.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from tests.oracle.models import Model, Tensor, affine
from tests.oracle.replies import Call
from tests.oracle.requests import Request
from tritonclient.grpc import service_pb2

TRITON: Final = "python"
TAXIWAY: Final = "onnxruntime"
BACKENDS: Final = (TRITON, TAXIWAY)
"""What tells the two servers apart: each reads files of its own backend."""

NAMES: Final = ("alpha", "beta")
VERSIONS: Final = (1, 2, 3)
ABSENT: Final = 9

POLICIES: Final[Mapping[str, Any]] = {
    "": None,
    "latest 1": {"latest": {"num_versions": 1}},
    "latest 2": {"latest": {"num_versions": 2}},
    "all": {"all": {}},
    "specific 1": {"specific": {"versions": [1]}},
    "specific 1 3": {"specific": {"versions": [1, 3]}},
    "specific 9": {"specific": {"versions": [ABSENT]}},
}
"""Version policies as config.json has them; the empty one says nothing, which is `latest 1`."""

PYTHON_MODEL: Final = '''"""Y = scale * X + offset, with the numbers beside this file."""

import json
import os

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        folder = os.path.join(args["model_repository"], args["model_version"])
        with open(os.path.join(folder, "numbers.json")) as numbers:
            self.scale, self.offset = json.load(numbers)

    def execute(self, requests):
        return [self.answer(pb_utils.get_input_tensor_by_name(request, "X").as_numpy()) for request in requests]

    def answer(self, x):
        y = np.float32(self.scale) * x + np.float32(self.offset)
        return pb_utils.InferenceResponse([pb_utils.Tensor("Y", y)])
'''

X: Final = 16.0
"""The input that is asked with; scales and offsets are small integers, so that every sum is exact."""


# --- files


@dataclasses.dataclass(frozen=True)
class Line:
    """What a version computes; `None` in its stead is a version that cannot be loaded."""

    scale: int
    offset: int


def version_files(backend: str, name: str, line: Line | None) -> dict[str, bytes]:
    """The files in the directory of one version."""
    if backend == TRITON:
        numbers = b"not JSON" if line is None else json.dumps([line.scale, line.offset]).encode()
        return {"model.py": PYTHON_MODEL.encode(), "numbers.json": numbers}
    if line is None:
        return {"model.onnx": b"not ONNX"}
    return {"model.onnx": affine(line.scale, line.offset)(_model(name)).SerializeToString()}


def _model(name: str) -> Model:
    return Model(name, (Tensor("X", "FP32", (1,)),), (Tensor("Y", "FP32", (1,)),), {}, max_batch_size=4)


def config(backend: str, name: str, policy: str, /, **changes: Any) -> dict[str, Any]:
    """A whole model configuration, as JSON."""
    tensor = {"data_type": "TYPE_FP32", "dims": [1]}
    whole: dict[str, Any] = {
        "name": name,
        "backend": backend,
        "max_batch_size": 4,
        "input": [{"name": "X", **tensor}],
        "output": [{"name": "Y", **tensor}],
        "instance_group": [{"kind": "KIND_CPU", "count": 1}],
    }
    if POLICIES[policy] is not None:
        whole["version_policy"] = POLICIES[policy]
    return whole | changes


def _config_pbtxt(backend: str, name: str, policy: str) -> str:
    versions = {
        "": "",
        "latest 1": "latest { num_versions: 1 }",
        "latest 2": "latest { num_versions: 2 }",
        "all": "all { }",
        "specific 1": "specific { versions: [1] }",
        "specific 1 3": "specific { versions: [1, 3] }",
        "specific 9": f"specific {{ versions: [{ABSENT}] }}",
    }[policy]
    return (
        f'name: "{name}"\nbackend: "{backend}"\nmax_batch_size: 4\n'
        'input [ { name: "X" data_type: TYPE_FP32 dims: [ 1 ] } ]\n'
        'output [ { name: "Y" data_type: TYPE_FP32 dims: [ 1 ] } ]\n'
        "instance_group [ { kind: KIND_CPU count: 1 } ]\n" + (f"version_policy {{ {versions} }}\n" if versions else "")
    )


@dataclasses.dataclass(frozen=True)
class Files:
    """The repository of one server, and the changes that are made to it."""

    root: Path
    backend: str

    def reset(self) -> None:
        """Two models: alpha with the versions 1 and 2, and beta with 1 and 3, all of which it serves."""
        for name in NAMES:
            self.remove_model(name)
        self.write_config("alpha", "")
        self.write_config("beta", "all")
        for name, versions in (("alpha", (1, 2)), ("beta", (1, 3))):
            for version in versions:
                self.write_version(name, version, Line(version, 0))

    def write_version(self, name: str, version: int, line: Line | None) -> None:
        """Add a version, or write new files in the place of its old ones."""
        folder = self.root / name / str(version)
        self.remove_version(name, version)
        folder.mkdir(parents=True)
        for file, content in version_files(self.backend, name, line).items():
            (folder / file).write_bytes(content)

    def remove_version(self, name: str, version: int) -> None:
        """Remove the directory of a version, if it is there."""
        shutil.rmtree(self.root / name / str(version), ignore_errors=True)

    def remove_model(self, name: str) -> None:
        """Remove a model's directory, if it is there."""
        shutil.rmtree(self.root / name, ignore_errors=True)

    def write_config(self, name: str, policy: str) -> None:
        """A sound configuration with that version policy."""
        self._write(name, _config_pbtxt(self.backend, name, policy))

    def break_config(self, name: str) -> None:
        """A configuration that cannot be read."""
        self._write(name, "max_batch_size: many\n")

    def _write(self, name: str, text: str) -> None:
        (self.root / name).mkdir(parents=True, exist_ok=True)
        (self.root / name / "config.pbtxt").write_text(text, encoding="utf-8")


# --- steps

Asked = Request | Call


@dataclasses.dataclass(frozen=True)
class Change:
    """A change of the files: the name of a method of `Files`, and its arguments."""

    method: str
    arguments: tuple[Any, ...]

    def __str__(self) -> str:
        return f"{self.method}{self.arguments}"

    def apply(self, files: Files) -> None:
        """Make it."""
        getattr(files, self.method)(*self.arguments)


@dataclasses.dataclass(frozen=True)
class Question:
    """What both servers are asked; the words differ where they name files or a backend."""

    triton: Asked
    taxiway: Asked
    label: str

    def __str__(self) -> str:
        return self.label


Step = Change | Question


@dataclasses.dataclass(frozen=True)
class Walk:
    """Steps to take one after the other, from the same beginning."""

    steps: tuple[Step, ...]
    label: str = "walk"


def question(label: str, build: Callable[[str], Asked]) -> Question:
    """The same question in the words of either backend."""
    return Question(build(TRITON), build(TAXIWAY), label)


def http_load(name: str, parameters: Mapping[str, Any] | None = None, verb: str = "load") -> Request:
    """POST /v2/repository/models/NAME/load, or unload."""
    body = b"" if parameters is None else json.dumps({"parameters": parameters}).encode()
    return Request("POST", f"/v2/repository/models/{name}/{verb}", body=body, label=verb)


def grpc_load(name: str, parameters: Mapping[str, Any] | None = None, verb: str = "Load") -> Call:
    """RepositoryModelLoad, or RepositoryModelUnload; the kind of a parameter is that of its value."""
    message = getattr(service_pb2, f"RepositoryModel{verb}Request")(model_name=name)
    fields = {str: "string_param", bytes: "bytes_param", bool: "bool_param", int: "int64_param"}
    for key, value in (parameters or {}).items():
        setattr(message.parameters[key], fields[type(value)], value)
    return Call(f"RepositoryModel{verb}", (message.SerializeToString(deterministic=True),), label=verb.lower())


def load(
    protocol: str, name: str, parameters: Callable[[str], Mapping[str, Any]] | None = None, said: str = ""
) -> Question:
    """Load a model; `parameters` by backend, with files as bytes; `said` tells of them in the label."""

    def build(backend: str) -> Asked:
        given = None if parameters is None else parameters(backend)
        if protocol == "grpc":
            return grpc_load(name, given)
        return http_load(name, None if given is None else {key: json_value(value) for key, value in given.items()})

    given = "" if parameters is None else f" with {sorted(parameters(TAXIWAY))} {said}".rstrip()
    return question(f"load {name}{given} ({protocol})", build)


def json_value(value: Any) -> Any:
    """A parameter as JSON has it: files in base64."""
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def unload(protocol: str, name: str, parameters: Mapping[str, Any] | None = None) -> Question:
    """Unload a model."""
    given = "" if parameters is None else f" with {dict(parameters)}"
    asked = grpc_load(name, parameters, "Unload") if protocol == "grpc" else http_load(name, parameters, "unload")
    return Question(asked, asked, f"unload {name}{given} ({protocol})")


def overriding(
    name: str, policy: str, versions: Mapping[int, Line | None] | None, /, **changes: Any
) -> Callable[[str], Mapping[str, Any]]:
    """Parameters that load a model with another configuration, and with other files if there are versions."""

    def parameters(backend: str) -> Mapping[str, Any]:
        given: dict[str, Any] = {"config": json.dumps(config(backend, name, policy, **changes))}
        for version, line in (versions or {}).items():
            for file, content in version_files(backend, name, line).items():
                given[f"file:{version}/{file}"] = content
        return given

    return parameters


def bad_body(name: str, verb: str, body: bytes) -> Question:
    """A load or unload over HTTP whose body is not what it should be."""
    asked = dataclasses.replace(http_load(name, verb=verb), body=body)
    return Question(asked, asked, f"{verb} {name} with the body {body!r}")


def marked(asked: Question, how: str) -> Question:
    """The same question, whose label says more."""
    return dataclasses.replace(asked, label=f"{asked.label} {how}".rstrip())


SOME_BROKEN: Final = "of whose versions some can be loaded and some cannot"
"""How the label of a load ends that Triton does by halves."""


SERVED_ALREADY: Final = "while it is served already"
"""How the label of a load with files ends whose files Triton may ignore."""
AFTER_OVERRIDE: Final = "whose configuration came with the load before"
"""How the label of a load ends after which Triton may keep that configuration."""


# --- what is asked after every step


def observations(number: int) -> Iterator[Asked]:
    """Questions about the state of both models, over HTTP after even steps and over gRPC after odd ones."""
    yield from _http_observations() if number % 2 == 0 else _grpc_observations()


def _http_observations() -> Iterator[Request]:
    yield Request("POST", "/v2/repository/index", label="index")
    yield Request("POST", "/v2/repository/index", body=b'{"ready": true}', label="index of the ready")
    yield Request("GET", "/v2/health/ready", label="server ready")
    for name in NAMES:
        for suffix in ("", *(f"/versions/{version}" for version in VERSIONS)):
            path = f"/v2/models/{name}{suffix}"
            yield Request("GET", f"{path}/ready", label="model ready")
            yield Request("GET", path, label="metadata")
            body = {"inputs": [{"name": "X", "shape": [1, 1], "datatype": "FP32", "data": [X]}]}
            yield Request("POST", f"{path}/infer", body=json.dumps(body).encode(), label="infer")
        yield Request("GET", f"/v2/models/{name}/config", label="config")
        yield Request("GET", f"/v2/models/{name}/stats", label="statistics")


def _grpc_observations() -> Iterator[Call]:
    yield _call("RepositoryIndex", service_pb2.RepositoryIndexRequest())
    yield _call("RepositoryIndex", service_pb2.RepositoryIndexRequest(ready=True))
    yield _call("ServerReady", service_pb2.ServerReadyRequest())
    for name in NAMES:
        for version in ("", *map(str, VERSIONS)):
            yield _call("ModelReady", service_pb2.ModelReadyRequest(name=name, version=version))
            yield _call("ModelMetadata", service_pb2.ModelMetadataRequest(name=name, version=version))
            infer: Any = service_pb2.ModelInferRequest(model_name=name, model_version=version)
            infer.inputs.add(name="X", datatype="FP32", shape=[1, 1]).contents.fp32_contents.append(X)
            yield _call("ModelInfer", infer)
        yield _call("ModelConfig", service_pb2.ModelConfigRequest(name=name))
        yield _call("ModelStatistics", service_pb2.ModelStatisticsRequest(name=name))


def _call(rpc: str, message: Any) -> Call:
    return Call(rpc, (message.SerializeToString(deterministic=True),), label=rpc)
