"""Models for the front doors of plain JSON, beside those of `tests/support/onnx_models.py`."""

from __future__ import annotations

from pathlib import Path

from onnx import TensorProto, helper
from tests.support.onnx_models import doubler, echo_texts, poisonable, save, tensor, two_outputs

ECHOED = {
    "half": TensorProto.FLOAT16,
    "double": TensorProto.DOUBLE,
    "flag": TensorProto.BOOL,
    "byte": TensorProto.UINT8,
    "long": TensorProto.INT64,
}
"""Models y = x of rows of any width, by name."""


def prompt(path: Path) -> Path:
    """Does not batch: text_output = text_input [1] and temperature_used = temperature [any]."""
    texts, floats = TensorProto.STRING, TensorProto.FLOAT
    return save(
        path,
        [
            helper.make_node("Identity", ["text_input"], ["text_output"]),
            helper.make_node("Identity", ["temperature"], ["temperature_used"]),
        ],
        [tensor("text_input", [1], texts), tensor("temperature", ["T"], floats)],
        [tensor("text_output", [1], texts), tensor("temperature_used", ["T"], floats)],
    )


def echo(path: Path, shape: list[int | str], kind: int) -> Path:
    """Y = x of this shape."""
    node = helper.make_node("Identity", ["x"], ["y"])
    return save(path, [node], [tensor("x", shape, kind)], [tensor("y", shape, kind)])


def write_plain_models(folder: Path) -> list[Path]:
    """All of them."""
    return [
        doubler(folder / "doubler.onnx"),
        echo_texts(folder / "texts.onnx"),
        poisonable(folder / "poisonable.onnx"),
        two_outputs(folder / "two.onnx"),
        prompt(folder / "prompt.onnx"),
        echo(folder / "grid.onnx", [2, 3], TensorProto.INT64),
        *(echo(folder / f"{name}.onnx", ["N", "M"], kind) for name, kind in ECHOED.items()),
    ]
