"""An MLflow model's directory: its MLmodel tells flavours and signature."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any, Final

from taxiway.core.errors import MalformedArtifact, UnsafePath
from taxiway.core.tensors import Datatype, TensorSpec
from taxiway.intake.limits import DEFAULT_LIMITS
from taxiway.intake.nouns import Format, Staged, Understanding
from taxiway.intake.read.documents import json_or, read_yaml

_MLMODEL: Final = "MLmodel"

_COLUMNS: Final = {
    "boolean": Datatype.BOOL, "integer": Datatype.INT32, "long": Datatype.INT64, "float": Datatype.FP32,
    "double": Datatype.FP64, "string": Datatype.BYTES, "binary": Datatype.BYTES, "datetime": Datatype.BYTES,
}  # fmt: skip
"""mlflow.types.DataType -> what it travels as."""

_TENSORS: Final = {
    "bool": Datatype.BOOL, "uint8": Datatype.UINT8, "uint16": Datatype.UINT16, "uint32": Datatype.UINT32,
    "uint64": Datatype.UINT64, "int8": Datatype.INT8, "int16": Datatype.INT16, "int32": Datatype.INT32,
    "int64": Datatype.INT64, "float16": Datatype.FP16, "float32": Datatype.FP32, "float64": Datatype.FP64,
    "str": Datatype.BYTES, "object": Datatype.BYTES, "bytes": Datatype.BYTES,
}  # fmt: skip
"""NumPy's name of a tensor's datatype -> what it travels as."""


def _recognise(staged: Staged) -> bool:
    return staged.single is None and _MLMODEL in staged.files


def _understand(staged: Staged) -> tuple[Understanding, ...]:
    file = staged.files[_MLMODEL]
    document = read_yaml(file.head(DEFAULT_LIMITS.max_document_bytes + 1), file.path, DEFAULT_LIMITS)
    flavours = document.get("flavors") if isinstance(document, dict) else None
    if not isinstance(flavours, dict):
        raise MalformedArtifact(
            f"{file.path} names no flavors", hint="log the model again", file=file.path, rule="mlmodel"
        )
    _check_paths(flavours, file.path)
    signature = document.get("signature") or {}
    pyfunc = flavours.get("python_function")
    loader, code = (str(pyfunc.get(key) or "") if isinstance(pyfunc, dict) else "" for key in ("loader_module", "code"))
    own = sorted(flavour for flavour in flavours if flavour != "python_function")
    return (
        Understanding(
            format="mlflow",
            framework=f"mlflow-{own[0]}" if own else "mlflow",
            version=str(document.get("mlflow_version", "")),
            backend="mlflow",
            files={f"@/{path}": path for path in sorted(staged.files)},
            inputs=_specs(signature, "inputs", "input"),
            outputs=_specs(signature, "outputs", "output"),
            facts={
                "flavors": sorted(flavours),
                "run_id": str(document.get("run_id") or ""),
                "model_uuid": str(document.get("model_uuid") or ""),
                "loader_module": loader,
                "pyfunc": "python_function" in flavours,
            },
            notes=_notes(flavours, loader, code),
            servable="python_function" in flavours,
        ),
    )


def _check_paths(flavours: dict[Any, Any], where: str) -> None:
    """MLflow joins the paths that flavors name to the model's directory, and unpickles what it finds there."""
    waiting: list[tuple[str, Any]] = [(str(name), flavour) for name, flavour in flavours.items()]
    while waiting:
        key, value = waiting.pop()
        if isinstance(value, dict):
            waiting += [(str(inner), part) for inner, part in value.items()]
        elif isinstance(value, list):
            waiting += [(key, part) for part in value]
        elif isinstance(value, str) and (
            ".." in PurePosixPath(value).parts or (value.startswith("/") and key in _PATHS)
        ):
            raise UnsafePath(
                f"{where}: {key} names {value!r}, which leads out of the model",
                hint="log the model again",
                file=where,
                rule="mlmodel-path",
            )


_PATHS: Final = frozenset(
    {"code", "conda", "data", "env", "model_binary", "model_data", "model_path", "path", "pickled_model", "virtualenv"}
)
"""Keys whose values MLflow takes for paths below the model's directory."""


def _notes(flavours: dict[Any, Any], loader: str, code: str) -> tuple[str, ...]:
    if "python_function" not in flavours:
        return ("has no python_function flavor, so pyfunc cannot load it",)
    notes = [] if loader.startswith("mlflow.") else [f"is loaded by a module of its own: {loader or 'none is named'}"]
    return (*notes, f"runs its own Python code: {code}") if code else tuple(notes)


def _specs(signature: Any, side: str, prefix: str) -> tuple[TensorSpec, ...]:  # noqa: ANN401 - foreign YAML
    """One tensor for each column or tensor; none if one of them is nothing that the protocol carries."""
    text = signature.get(side) if isinstance(signature, dict) else None
    listed = json_or(text, []) if isinstance(text, str) else []
    if not isinstance(listed, list):
        return ()
    found = [_spec(item, f"{prefix}__{index}") for index, item in enumerate(listed)]
    return tuple(spec for spec in found if spec is not None) if all(found) else ()


def _spec(item: Any, default: str) -> TensorSpec | None:  # noqa: ANN401 - foreign JSON
    if not isinstance(item, dict):
        return None
    name, optional = str(item.get("name") or default), item.get("required") is False
    if item.get("type") != "tensor":
        datatype = _COLUMNS.get(str(item.get("type")))
        return None if datatype is None else TensorSpec(name, datatype, (-1, 1), optional)
    tensor = item.get("tensor-spec")
    datatype = _TENSORS.get(str(tensor.get("dtype"))) if isinstance(tensor, dict) else None
    shape = tensor.get("shape") if isinstance(tensor, dict) else None
    if datatype is None or not isinstance(shape, list) or not all(isinstance(size, int) for size in shape):
        return None
    return TensorSpec(name, datatype, tuple(shape), optional)


MLFLOW = Format("mlflow", "MLflow model", _recognise, _understand)
