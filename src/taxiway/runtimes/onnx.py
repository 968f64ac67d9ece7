"""ONNX Runtime, called as directly as it allows.

The session's Python wrapper costs a microsecond a call (it checks names the data plane has checked already), a
quarter of a tiny model's run; so `run` calls the C session below it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Before it is imported: it would open a store in the home directory, and report to its makers what is run.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime as ort

from taxiway.core.errors import InvalidConfig, InvalidModel, ModelFailed
from taxiway.core.tensors import Datatype, TensorSpec

_DATATYPES = {
    "tensor(bool)": Datatype.BOOL,
    "tensor(uint8)": Datatype.UINT8,
    "tensor(uint16)": Datatype.UINT16,
    "tensor(uint32)": Datatype.UINT32,
    "tensor(uint64)": Datatype.UINT64,
    "tensor(int8)": Datatype.INT8,
    "tensor(int16)": Datatype.INT16,
    "tensor(int32)": Datatype.INT32,
    "tensor(int64)": Datatype.INT64,
    "tensor(float16)": Datatype.FP16,
    "tensor(float)": Datatype.FP32,
    "tensor(double)": Datatype.FP64,
    "tensor(string)": Datatype.BYTES,
}


@dataclass(frozen=True, slots=True)
class OnnxOptions:
    """How a session is made.

    `providers` in order of preference; threads within and between operators (0 = all). Operators run one after the
    other unless `inter_op_threads` is more than 1.
    """

    providers: tuple[str, ...] = ("CPUExecutionProvider",)
    provider_options: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    intra_op_threads: int = 1
    inter_op_threads: int = 1


class OnnxModel:
    """A session, with its signature in the protocol's words."""

    def __init__(self, session: ort.InferenceSession) -> None:
        self._session = session
        self._run = session._sess.run
        self.inputs = tuple(_describe(node) for node in session.get_inputs())
        self.outputs = tuple(_describe(node) for node in session.get_outputs())
        self._text_inputs = frozenset(spec.name for spec in self.inputs if spec.datatype is Datatype.BYTES)
        self._text_outputs = frozenset(spec.name for spec in self.outputs if spec.datatype is Datatype.BYTES)

    def run(self, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> list[NDArray[Any]]:
        """Compute `outputs` from whole arrays; BYTES arrays hold bytes objects on both sides.

        Raises:
            ModelFailed: ONNX Runtime refused these inputs or failed on them.
        """
        if self._text_inputs:
            feeds = {name: _to_text(array) if name in self._text_inputs else array for name, array in feeds.items()}
        try:
            arrays: list[NDArray[Any]] = self._run(outputs, feeds, None)
        except Exception as problem:
            raise ModelFailed(f"the model failed on this request: {problem}") from problem
        if self._text_outputs:
            named = zip(outputs, arrays, strict=True)
            return [_to_bytes(array) if name in self._text_outputs else array for name, array in named]
        return arrays

    def close(self) -> None:
        """Drop the session; its memory is freed with its last reference."""
        del self._run, self._session


class OnnxRuntime:
    """Loads ONNX files."""

    name = "onnxruntime"

    def load(self, path: Path, options: OnnxOptions) -> OnnxModel:
        """Create a session for the file at `path`.

        Raises:
            InvalidConfig: a provider that this build of ONNX Runtime does not have, or that did not start.
            InvalidModel: not an ONNX file, or one that ONNX Runtime cannot run.
        """
        _check_providers(options.providers)
        _find_libraries(options.providers)
        try:
            session = ort.InferenceSession(
                str(path),
                sess_options=_session_options(options),
                providers=[(name, dict(options.provider_options.get(name, {}))) for name in options.providers],
            )
        except Exception as problem:
            raise InvalidModel(
                f"cannot load {path}: {problem}",
                hint="check that it is ONNX, whole, with its external data beside it: onnx.checker.check_model(PATH)",
                path=str(path),
            ) from problem
        _check_started(options.providers, session.get_providers())
        return OnnxModel(session)


def _session_options(options: OnnxOptions) -> ort.SessionOptions:
    made = ort.SessionOptions()
    made.intra_op_num_threads = options.intra_op_threads
    made.inter_op_num_threads = options.inter_op_threads
    if options.inter_op_threads > 1:
        made.execution_mode = ort.ExecutionMode.ORT_PARALLEL  # the sequential executor has no use for these threads
    made.log_severity_level = 3
    # A spinning pool burns the core that the event loop needs; the wake-up it saves is microseconds.
    made.add_session_config_entry("session.intra_op.allow_spinning", "0")
    made.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return made


def _find_libraries(providers: Sequence[str]) -> None:
    """Load CUDA's and cuDNN's libraries from where pip put them, which the loader does not look at."""
    if any(name.startswith(("CUDA", "Tensorrt", "NvTensorRTRTX")) for name in providers) and hasattr(
        ort, "preload_dlls"
    ):
        ort.preload_dlls()


def _check_providers(wanted: Sequence[str]) -> None:
    available = ort.get_available_providers()
    for name in wanted:
        if name not in available:
            raise InvalidConfig(
                f"execution.providers: {name!r} is not in this build of ONNX Runtime (it has {', '.join(available)})",
                hint="install onnxruntime-gpu for CUDA and TensorRT, or set execution.providers to one it has",
                value=name,
            )


def _check_started(wanted: Sequence[str], started: Sequence[str]) -> None:
    """Refuse a session that fell back: ONNX Runtime only prints that a provider could not start, and runs on the CPU.

    Raises:
        InvalidConfig: names the first provider that did not start.
    """
    for name in wanted:
        if name not in started:
            raise InvalidConfig(
                f"execution.providers: {name!r} did not start; ONNX Runtime fell back to {', '.join(started)}",
                hint="check its driver, libraries and execution.provider_options, or take it out of "
                "execution.providers",
                value=name,
            )


def _describe(node: Any) -> TensorSpec:  # noqa: ANN401 - onnxruntime's NodeArg has no stubs
    datatype = _DATATYPES.get(node.type)
    if datatype is None:
        raise InvalidModel(
            f"tensor {node.name!r} is of type {node.type}, which the Open Inference Protocol cannot carry",
            hint="export the model with plain tensors: scikit-learn classifiers need zipmap=False",
            tensor=node.name,
        )
    shape = tuple(dim if isinstance(dim, int) and dim >= 0 else -1 for dim in node.shape)
    return TensorSpec(node.name, datatype, shape)


def _to_text(array: NDArray[Any]) -> NDArray[Any]:
    """ONNX strings are UTF-8; ONNX Runtime takes them as str."""
    try:
        text = [item.decode() for item in array.reshape(-1).tolist()]
    except UnicodeDecodeError as problem:
        raise ModelFailed(f"an ONNX string tensor holds UTF-8 text, and an element does not: {problem}") from problem
    made = np.empty(len(text), dtype=object)
    made[:] = text
    return made.reshape(array.shape)


def _to_bytes(array: NDArray[Any]) -> NDArray[Any]:
    made = np.empty(array.size, dtype=object)
    made[:] = [item.encode() if isinstance(item, str) else bytes(item) for item in array.reshape(-1).tolist()]
    return made.reshape(array.shape)
