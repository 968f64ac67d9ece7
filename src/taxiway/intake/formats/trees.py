"""What tables of numbers answer, whichever library made the model: a label with probabilities, or a prediction.

The tensors are called as `convert` calls them in ONNX and as the models' own processes do, so that a client cannot tell
which of them answers.
"""

from __future__ import annotations

from taxiway.core.tensors import Datatype, TensorSpec

INPUT, LABEL, PROBABILITIES, PREDICTION = "X", "label", "probabilities", "prediction"


def rows_in(features: int, datatype: Datatype = Datatype.FP32) -> tuple[TensorSpec, ...]:
    """Rows of so many features."""
    return (TensorSpec(INPUT, datatype, (-1, features)),)


def classes_out(
    count: int, datatype: Datatype = Datatype.FP32, label: Datatype = Datatype.INT64
) -> tuple[TensorSpec, ...]:
    """A class for each row, and how probable each of them is."""
    return TensorSpec(LABEL, label, (-1,)), TensorSpec(PROBABILITIES, datatype, (-1, count))


def numbers_out(width: int, datatype: Datatype = Datatype.FP32) -> tuple[TensorSpec, ...]:
    """So many numbers for each row."""
    return (TensorSpec(PREDICTION, datatype, (-1, max(1, width))),)
