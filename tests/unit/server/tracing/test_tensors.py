"""The beginnings of tensors that a trace holds."""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np
import pytest

from taxiway.core.errors import TaxiwayError
from taxiway.core.requests import BatchResult, InferRequest, InputTensor
from taxiway.core.tensors import Datatype, TensorSpec
from taxiway.server.tracing.tensors import inputs_of, outputs_of, print_elements
from taxiway.server.tracing.trace import MAX_ELEMENTS


class _Nobody:
    def resolve(self, request: InferRequest, result: BatchResult, start: int, stop: int) -> None:
        """Nobody waits."""

    def reject(self, request: InferRequest, error: TaxiwayError) -> None:
        """Nobody waits."""


def _inputs(datatype: Datatype, data: Any, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
    request = InferRequest([InputTensor(data, shape), None], 1, _Nobody(), 0)
    specs = [TensorSpec("x", datatype, (-1,)), TensorSpec("left_out", datatype, (-1,))]
    (told,) = inputs_of(request, specs)
    return print_elements(told), told.shape


@pytest.mark.parametrize(
    ("datatype", "data", "text"),
    [
        (Datatype.FP32, array("f", [1, 2.5]), "1,2.5"),
        (Datatype.FP32, array("f"), ""),
        (Datatype.INT64, memoryview(np.array([3, -4]).tobytes()), "3,-4"),
        (Datatype.INT64, memoryview(b""), ""),
        (Datatype.BOOL, b"\1\0", "1,0"),
        (Datatype.UINT8, bytearray(b"A\xff"), "65,255"),
        (Datatype.BF16, np.array([0x3F80], "<u2").tobytes(), "1"),
        (Datatype.FP16, np.array([0.5], "<f2").tobytes(), "0.5"),
        (Datatype.BYTES, [b"a", b""], '"a",""'),
        (Datatype.BYTES, [], ""),
    ],
)
def test_an_input_is_told_however_it_came(datatype: Datatype, data: Any, text: str) -> None:
    assert _inputs(datatype, data, (7,)) == (text, (7,))


def test_only_the_beginning_is_held() -> None:
    numbers, _ = _inputs(Datatype.UINT8, bytes(10 * MAX_ELEMENTS), (10 * MAX_ELEMENTS,))
    texts, _ = _inputs(Datatype.BYTES, [b"x" * 1000] * 2 * MAX_ELEMENTS, (2 * MAX_ELEMENTS,))

    assert numbers.count(",") == texts.count(",") == MAX_ELEMENTS - 1
    assert len(texts.partition(",")[0]) == 256 + 2


@pytest.mark.parametrize(("batches", "text", "shape"), [(True, "3,4", (1, 2)), (False, "1,2,3,4,5,6", (3, 2))])
def test_an_output_is_the_requests_own_rows(batches: bool, text: str, shape: tuple[int, ...]) -> None:
    result = BatchResult(["y"], [np.arange(1, 7, dtype=np.float32).reshape(3, 2)], 3)
    spec = TensorSpec("y", Datatype.FP32, (2,))

    (told,) = outputs_of(result, 1, 2, [spec], batches=batches)
    result.arrays[0][:] = 0

    assert (print_elements(told), told.shape) == (text, shape)
