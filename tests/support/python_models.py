"""Small models in Triton's Python, for tests that serve them."""

from __future__ import annotations

from pathlib import Path

HEAD = """import json, os, signal, threading, time
import numpy as np
import triton_python_backend_utils as pb_utils

def given(request, name):
    return pb_utils.get_input_tensor_by_name(request, name)

def text(name, *items):
    array = np.empty((1, len(items)), dtype=np.object_)
    array[0] = [item.encode() for item in items]
    return pb_utils.Tensor(name, array)

def answer(name, array, **more):
    return pb_utils.InferenceResponse([pb_utils.Tensor(name, array)], **more)

"""
NUMBERS = """
max_batch_size: 8
input [ { name: "X" data_type: TYPE_FP32 dims: [-1] } ]
output [ { name: "Y" data_type: TYPE_FP32 dims: [-1] } ]
"""
"""X and Y: rows of any width."""


def write_python_model(repository: Path, name: str, code: str, config: str = NUMBERS) -> Path:
    """The directory of a new model."""
    file = repository / name / "1" / "model.py"
    file.parent.mkdir(parents=True)
    file.write_text(HEAD + code)
    (file.parents[1] / "config.pbtxt").write_text(f'backend: "python"\n{config}')
    return file.parents[1]
