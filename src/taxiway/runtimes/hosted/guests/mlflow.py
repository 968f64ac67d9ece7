"""MLflow: a model's directory, run as its python_function, with the signature of its MLmodel.

Columns of a signature are inputs of one column each, and a frame for the model; a tensor is an array. What has no name
in the signature is called `input__0`, `output__0`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import mlflow.pyfunc
import numpy as np
import pandas as pd
from mlflow.models import Model
from mlflow.types import DataType
from mlflow.types.schema import ColSpec, TensorSpec
from numpy.typing import NDArray

from taxiway.core.errors import InvalidModel, ModelFailed, Unsupported, UntrustedPickle
from taxiway.runtimes.hosted.answering import ArrayGuest
from taxiway.runtimes.hosted.batch import Arrays
from taxiway.runtimes.hosted.built_types import dangerous_files
from taxiway.runtimes.hosted.frames import Declared
from taxiway.runtimes.hosted.guest import Source
from taxiway.runtimes.hosted.lines import Lines
from taxiway.runtimes.hosted.tensors import DTYPES, datatype_of
from taxiway.runtimes.hosted.trust import how_to_trust, is_trusted

_COLUMNS: Final = {
    DataType.boolean: "BOOL", DataType.integer: "INT32", DataType.long: "INT64", DataType.float: "FP32",
    DataType.double: "FP64", DataType.string: "BYTES", DataType.binary: "BYTES", DataType.datetime: "BYTES",
}  # fmt: skip


class PyfuncModel:
    """A python_function with the names of its signature, or of its configuration if it has none."""

    def __init__(self, model: Any, directory: Path, config: Mapping[str, Any]) -> None:  # noqa: ANN401 - a PyFuncModel
        signature = Model.load(str(directory)).signature
        takes, gives = (None, None) if signature is None else (signature.inputs, signature.outputs)
        self._model = model
        self._is_frame = takes is not None and not takes.is_tensor_spec()
        self._is_mapping = takes is not None and takes.is_tensor_spec() and takes.has_input_names()
        listed = [] if takes is None else takes.inputs
        self._kinds = {_name(one, "input", place): one.type for place, one in enumerate(listed)}
        self.inputs: Sequence[Declared] | None = _declared(takes, config, "input")
        self.outputs: Sequence[Declared] | None = _declared(gives, config, "output")
        self.batches = all(one.shape[:1] == (-1,) for one in (*self.inputs, *self.outputs))

    def predict(self, inputs: Arrays, outputs: Sequence[str]) -> Arrays:
        """What its `predict` returns, under the names of the outputs."""
        assert self.outputs is not None  # noqa: S101 - set above
        answers = _by_name(self._model.predict(self._given(inputs)), [one.name for one in self.outputs])
        return {one.name: _as_declared(answers[one.name], one) for one in self.outputs if one.name in outputs}

    def _given(self, inputs: Arrays) -> Any:  # noqa: ANN401 - an array, arrays by name, or a frame
        if self._is_frame:
            return pd.DataFrame({name: _column(values, self._kinds.get(name)) for name, values in inputs.items()})
        values = {name: _texts(array) if array.dtype == object else array for name, array in inputs.items()}
        return values if self._is_mapping or len(values) > 1 else next(iter(values.values()))


def _name(one: Any, side: str, place: int) -> str:  # noqa: ANN401 - a ColSpec or TensorSpec
    return str(one.name) if one.name is not None else f"{side}__{place}"


def _declared(schema: Any, config: Mapping[str, Any], side: str) -> list[Declared]:  # noqa: ANN401 - a Schema
    """The tensors of one side, by the signature, else by the configuration.

    Raises:
        InvalidModel: neither tells them.
        Unsupported: one of them is nothing that the protocol carries.
    """
    if schema is not None and schema.inputs:
        return [_tensor(one, side, place) for place, one in enumerate(schema.inputs)]
    configured = config.get(side) or ()
    if not configured:
        raise InvalidModel(
            f"MLmodel has no signature that tells its {side}s",
            hint=f"log the model with a signature (mlflow.models.infer_signature), or write {side} in config.pbtxt",
        )
    return [Declared(one["name"], _wire_name(one["data_type"]), _whole(one, config)) for one in configured]


def _tensor(one: Any, side: str, place: int) -> Declared:  # noqa: ANN401 - a ColSpec or TensorSpec
    name = _name(one, side, place)
    if isinstance(one, TensorSpec):
        return Declared(name, datatype_of(np.empty(0, one.type)).wire_name, tuple(one.shape))
    if isinstance(one, ColSpec) and one.type in _COLUMNS:
        optional = side == "input" and not one.required
        return Declared(name, _COLUMNS[one.type], (-1, 1), optional)
    raise Unsupported(
        f"{side} {name!r} of the signature is {one.type}, which no tensor carries",
        hint="log the model with columns of numbers and texts, or with tensors",
    )


def _wire_name(data_type: str) -> str:
    name = data_type.removeprefix("TYPE_")
    return "BYTES" if name == "STRING" else name


def _whole(one: Mapping[str, Any], config: Mapping[str, Any]) -> tuple[int, ...]:
    dims = tuple(int(size) for size in one.get("dims") or ())
    return (-1, *dims) if config.get("max_batch_size") else dims


def _column(values: NDArray[Any], kind: Any) -> Any:  # noqa: ANN401 - what a frame takes
    flat = values.reshape(-1)
    if kind == DataType.binary:
        return flat
    if values.dtype != object:
        return flat
    texts = _texts(flat)
    return pd.to_datetime(texts) if kind == DataType.datetime else texts


def _texts(values: NDArray[Any]) -> NDArray[Any]:
    flat = [value.decode() if isinstance(value, bytes) else str(value) for value in values.ravel().tolist()]
    return np.array(flat, dtype=object).reshape(values.shape)


def _by_name(returned: Any, names: Sequence[str]) -> dict[str, NDArray[Any]]:  # noqa: ANN401 - whatever it returns
    """What it returned, by the outputs' names: by its own names if they are those, else in order."""
    if isinstance(returned, pd.DataFrame) and len(names) == 1 and names[0] not in returned.columns:
        return {names[0]: returned.to_numpy()}
    if isinstance(returned, (pd.DataFrame, Mapping)):
        found = {str(name): np.asarray(returned[name]) for name in returned}
        if set(names) <= set(found):
            return found
        if len(found) == len(names):
            return dict(zip(names, found.values(), strict=True))
        raise ModelFailed(f"the model returned {sorted(found)} for the outputs {list(names)}")
    if len(names) == 1:
        return {names[0]: np.asarray(returned)}
    array = np.asarray(returned)
    if array.ndim == 2 and array.shape[1] == len(names):
        return {name: array[:, place] for place, name in enumerate(names)}
    raise ModelFailed(f"the model returned one array of shape {array.shape} for the outputs {list(names)}")


def _as_declared(values: NDArray[Any], declared: Declared) -> NDArray[Any]:
    """In the datatype of the output; one value a row may lack, or have, a dimension of its own."""
    rank = len(declared.shape)
    if values.ndim + 1 == rank and declared.shape[-1] in (1, -1):
        values = values[..., np.newaxis]
    elif values.ndim == rank + 1 and values.shape[-1] == 1:
        values = values[..., 0]
    if declared.datatype == "BYTES":
        return values if values.dtype.kind in "OSU" else values.astype(str)
    return values.astype(DTYPES[declared.datatype], copy=False)


def open_model(source: Source, lines: Lines) -> ArrayGuest:
    """Load the model whose MLmodel is the version's file.

    Raises:
        UntrustedPickle: a file of it could run code when it is read, and nobody vouched for it.
    """
    directory = source.file.parent
    for path, what in dangerous_files(directory):
        if not is_trusted(path, source.trusted):
            hint = f"log the model in a format that is no code (scikit-learn: skops); {how_to_trust(path)}"
            raise UntrustedPickle(f"{path} {what}, which nobody trusts", hint=hint)
    model = mlflow.pyfunc.load_model(str(directory), suppress_warnings=True)
    return ArrayGuest(PyfuncModel(model, directory, json.loads(source.config)), lines)
