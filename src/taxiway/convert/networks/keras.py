"""Models of Keras 3 (.keras) with torch beneath them, so that they are modules like any other."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
import torch
from numpy.typing import NDArray

from taxiway.convert.networks.network import BATCH, Network
from taxiway.convert.outcome import Reason, Refused


def load(path: Path, given: Mapping[str, NDArray[Any]] | None) -> Network:
    """The model in a file, read in Keras' safe mode.

    Raises:
        Refused: Keras runs on something else than torch, or does not read the file.
    """
    if keras.backend.backend() != "torch":
        raise Refused(
            Reason.UNSUPPORTED,
            f"Keras runs on {keras.backend.backend()} here, and its models are exported through torch",
            "KERAS_BACKEND=torch",
        )
    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as problem:
        raise Refused(
            Reason.UNREADABLE,
            f"keras {keras.__version__} does not read {path.name}: {type(problem).__name__}: {str(problem)[:300]}",
            "save it anew: model.save('model.keras')",
        ) from problem
    chance = np.random.default_rng(0)
    examples = {}
    for tensor in model.inputs:
        shape = tuple(2 if size is None else size for size in tensor.shape)
        drawn = chance.normal(size=shape) if "float" in str(tensor.dtype) else chance.integers(0, 2, shape)
        examples[str(tensor.name)] = np.asarray((given or {}).get(tensor.name, drawn)).astype(str(tensor.dtype))
    free = {
        str(tensor.name): {
            place: BATCH if place == 0 else f"free_{place}" for place, size in enumerate(tensor.shape) if size is None
        }
        for tensor in model.inputs
    }
    return Network("keras", _Placed(model), examples, free, ("keras", "torch", "onnxscript"))


class _Placed(torch.nn.Module):  # type: ignore[misc]
    """The model, called by place."""

    def __init__(self, model: Any) -> None:  # noqa: ANN401
        super().__init__()
        self.model = model
        self.several = len(model.inputs) > 1

    def forward(self, *values: Any) -> Any:  # noqa: ANN401
        return self.model(list(values) if self.several else values[0], training=False)
