"""Answers are written by hand; the bytes are protobuf's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxiway.core.errors import InvalidArgument
from taxiway.core.requests import BatchResult
from taxiway.core.tensors import Datatype, TensorSpec
from taxiway.server.signature import split_bytes
from taxiway.server.wire.asks import OutputChoice
from taxiway.server.wire.elements import join_bytes
from taxiway.server.wire.grpc.infer_answers import MessageWriter, varint
from taxiway.server.wire.grpc.infer_requests import CONTENTS
from taxiway.server.wire.grpc.protos import message_class

Response = message_class("inference.ModelInferResponse")
FLOATS, TEXTS = TensorSpec("y", Datatype.FP32, (-1,)), TensorSpec("t", Datatype.BYTES, (1,))


def _expected(arrays: list[Any], specs: list[TensorSpec], identity: str | None, *, final: bool) -> bytes:
    message = Response(model_name="modèle", model_version="12", id=identity or "")
    if final:
        message.parameters["triton_final_response"].bool_param = True
    for array, spec in zip(arrays, specs, strict=True):
        message.outputs.add(name=spec.name, datatype=spec.datatype.wire_name, shape=array.shape)
        texts = spec.datatype is Datatype.BYTES
        message.raw_output_contents.append(join_bytes(array.reshape(-1).tolist()) if texts else array.tobytes())
    return bytes(message.SerializeToString())


@given(
    st.integers(0, 3), st.integers(1, 3), st.integers(0, 200), st.one_of(st.none(), st.text(min_size=1)), st.booleans()
)
def test_the_bytes_are_protobufs(before: int, rows: int, width: int, identity: str | None, final: bool) -> None:
    total = before + rows + 1
    floats = np.arange(total * width, dtype=np.float32).reshape(total, width)
    texts = np.asarray([[f"{row}".encode()] for row in range(total)], dtype=object)
    writer = MessageWriter("modèle", 12, [FLOATS, TEXTS], batches=True)
    result = BatchResult(("y", "t"), [floats, texts], total)
    stop = before + rows
    wanted = _expected([floats[before:stop], texts[before:stop]], [FLOATS, TEXTS], identity, final=final)
    opening = writer.opening(identity, final=final)
    assert writer.write(opening, result, before, stop) == wanted
    assert writer.write(opening, result, before, stop) == wanted  # from what was kept
    every = tuple(OutputChoice(index, binary=True, classes=0) for index in range(2))
    assert writer.write_chosen(opening, every, result, before, stop) == wanted


@pytest.mark.parametrize(
    "array", [np.float32(3.5) * np.ones(()), np.zeros((0,), np.float32), np.ones((2, 3, 4))[:, ::2]]
)
def test_any_layout_of_a_model_that_does_not_batch(array: Any) -> None:
    spec = TensorSpec("y", Datatype.FP64 if array.dtype == np.float64 else Datatype.FP32, (-1,))
    writer = MessageWriter("modèle", 12, [spec], batches=False)
    result = BatchResult(("y",), [array], 1)
    assert writer.write(writer.opening(None, final=False), result, 0, 1) == _expected(
        [array], [spec], None, final=False
    )


def test_classes_are_texts() -> None:
    writer = MessageWriter("m", 1, [TensorSpec("y", Datatype.FP32, (3,), labels=("a", "b", "c"))], batches=True)
    result = BatchResult(("y",), [np.asarray([[1, 3, 2]], np.float32)], 1)
    body = writer.write_chosen(writer.opening(None, final=False), (OutputChoice(0, True, 2),), result, 0, 1)
    answer = Response.FromString(body)
    assert (answer.outputs[0].datatype, list(answer.outputs[0].shape)) == ("BYTES", [1, 2])
    told = split_bytes("y", memoryview(answer.raw_output_contents[0]), 2)
    assert told == [b"3.000000:1:b", b"2.000000:2:c"]


@pytest.mark.parametrize("datatype", list(CONTENTS), ids=lambda one: one.wire_name)
def test_typed_contents_for_those_who_ask(datatype: Datatype) -> None:
    values: list[Any] = (
        [b"x", b""] if datatype is Datatype.BYTES else [True, False] if datatype is Datatype.BOOL else [3, 4]
    )
    array = np.asarray([values], dtype=datatype.numpy_dtype)
    writer = MessageWriter("m", 1, [TensorSpec("y", datatype, (2,))], batches=True)
    body = writer.write_typed(
        writer.opening("q", final=False), (OutputChoice(0, True, 0),), BatchResult(("y",), [array], 1), 0, 1
    )
    answer = Response.FromString(body)
    assert not answer.raw_output_contents
    assert list(getattr(answer.outputs[0].contents, CONTENTS[datatype][0])) == values
    assert list(answer.outputs[0].shape) == [1, 2]


def test_typed_contents_hold_no_half_floats() -> None:
    writer = MessageWriter("m", 1, [TensorSpec("y", Datatype.FP16, (1,))], batches=True)
    result = BatchResult(("y",), [np.ones((1, 1), np.float16)], 1)
    with pytest.raises(InvalidArgument, match="FP16"):
        writer.write_typed(b"", (OutputChoice(0, True, 0),), result, 0, 1)


@given(st.integers(0, 2**64 - 1))
def test_a_varint_is_protobufs(number: int) -> None:
    message = message_class("inference.InferParameter")(uint64_param=number)
    assert message.SerializeToString() == b"\x28" + varint(number)
