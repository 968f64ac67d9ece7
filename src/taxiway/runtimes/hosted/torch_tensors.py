"""Between arrays and torch's tensors, and where and with how many threads torch computes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from taxiway.core.errors import InvalidModel, ModelFailed
from taxiway.core.tensors import Datatype
from taxiway.runtimes.hosted.guest import Source

_NAMES = {
    "bool": "BOOL", "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64", "int8": "INT8",
    "int16": "INT16", "int32": "INT32", "int64": "INT64", "float16": "FP16", "float32": "FP32", "float64": "FP64",
    "bfloat16": "BF16",
}  # fmt: skip
WIRE_NAMES = {getattr(torch, name): wire_name for name, wire_name in _NAMES.items()}
"""The protocol's name of each of torch's datatypes that has one."""


def device_of(source: Source) -> torch.device:
    """Where an instance computes.

    Raises:
        InvalidModel: it wants a GPU, and this torch sees none of that number.
    """
    if source.kind != "GPU":
        return torch.device("cpu")
    if source.device >= torch.cuda.device_count():
        raise InvalidModel(
            f"instance {source.instance} is to run on GPU {source.device}; "
            f"torch {torch.__version__} sees {torch.cuda.device_count()}",
            hint="install a torch built for CUDA in the environment of execution.python, or use KIND_CPU",
        )
    return torch.device("cuda", source.device)


def set_threads(options: Mapping[str, str]) -> None:
    """Have torch use as many threads as the plan says, or Triton's parameters of its PyTorch backend."""
    within = options.get("INTRA_OP_THREAD_COUNT") or os.environ.get("OMP_NUM_THREADS", "")
    between = options.get("INTER_OP_THREAD_COUNT", "")
    if within.isdigit() and int(within):
        torch.set_num_threads(int(within))
    if between.isdigit() and int(between):
        torch.set_num_interop_threads(int(between))


def to_tensor(array: NDArray[Any], datatype: str, device: torch.device) -> Any:  # noqa: ANN401 - a tensor, or texts
    """An input for torch: a tensor over the same memory; of BYTES a list of strings."""
    if datatype == Datatype.BYTES.wire_name:
        return [item.decode() for item in array.reshape(-1).tolist()]
    if not array.flags.writeable:
        array = array.copy()  # torch has no tensors that cannot be written to
    tensor = torch.from_numpy(array)
    if datatype == Datatype.BF16.wire_name:
        tensor = tensor.view(torch.bfloat16)
    return tensor if device.type == "cpu" else tensor.to(device, non_blocking=True)


def to_array(value: Any) -> NDArray[Any]:  # noqa: ANN401 - whatever a model returns
    """An output of a model: a tensor, a number, or texts.

    Raises:
        ModelFailed: it is something else.
    """
    if isinstance(value, torch.Tensor):
        tensor = value.detach().cpu()
        if tensor.dtype is torch.bfloat16:
            tensor = tensor.contiguous().view(torch.uint16)
        array: NDArray[Any] = tensor.numpy()
        return array
    if isinstance(value, str | bytes):
        value = [value]
    if isinstance(value, list) and all(isinstance(item, str | bytes) for item in value):
        texts = np.empty(len(value), dtype=object)
        texts[:] = [item if isinstance(item, bytes) else item.encode() for item in value]
        return texts
    if isinstance(value, bool | int | float):
        return np.asarray(value)
    raise ModelFailed(f"the model returned {type(value).__name__}; tensors, numbers and texts can be answered")
