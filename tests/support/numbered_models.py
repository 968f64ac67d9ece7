"""Models whose answers say which version gave them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import helper, numpy_helper
from tests.support.onnx_models import save, tensor


def adder(path: Path, amount: float, padding: int = 0) -> Path:
    """y = x + `amount`, FP32, rows of 1; `padding` bytes of weights that change nothing."""
    constants = [numpy_helper.from_array(np.asarray(amount, np.float32), "amount")]
    nodes = [helper.make_node("Add", ["x", "amount"], ["y" if not padding else "sum"])]
    if padding:
        constants.append(numpy_helper.from_array(np.zeros(max(1, padding // 4), np.float32), "padding"))
        constants.append(numpy_helper.from_array(np.asarray(0, np.int64), "first"))
        nodes.append(helper.make_node("Gather", ["padding", "first"], ["nothing"]))
        nodes.append(helper.make_node("Add", ["sum", "nothing"], ["y"]))
    return save(path, nodes, [tensor("x", ["N", 1])], [tensor("y", ["N", 1])], constants)


def version_file(repository: Path, model: str, version: int) -> Path:
    """Where the file of this version stands."""
    return repository / model / str(version) / "model.onnx"


def numbered(repository: Path, model: str, version: int) -> Path:
    """A version that adds its own number."""
    return adder(version_file(repository, model, version), version)
