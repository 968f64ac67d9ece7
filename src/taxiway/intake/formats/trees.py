"""What the three libraries of tree ensembles have in common: a table of numbers in, scores out.

The tensors are called as Triton's FIL backend calls them, so that its clients work.
"""

from __future__ import annotations

from taxiway.core.tensors import Datatype, TensorSpec

INPUT, OUTPUT = "input__0", "output__0"


def rows_in(features: int, datatype: Datatype = Datatype.FP32) -> tuple[TensorSpec, ...]:
    """Rows of so many features."""
    return (TensorSpec(INPUT, datatype, (-1, features)),)


def scores_out(width: int, datatype: Datatype = Datatype.FP32) -> tuple[TensorSpec, ...]:
    """So many scores for each row; just one score has no dimension of its own."""
    return (TensorSpec(OUTPUT, datatype, (-1,) if width <= 1 else (-1, width)),)
