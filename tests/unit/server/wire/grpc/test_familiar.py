"""What is remembered of a request serves the next one like it, and no other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxiway.core.errors import TaxiwayError
from taxiway.core.requests import BatchResult, InferRequest
from taxiway.core.tensors import Datatype, TensorSpec
from taxiway.server.shared_memory import NO_REGIONS
from taxiway.server.signature import Signature, WireLimits
from taxiway.server.wire.asks import Choices, OutputMenu
from taxiway.server.wire.grpc.envelope import open_request
from taxiway.server.wire.grpc.familiar import Familiars
from taxiway.server.wire.grpc.infer_requests import MessageReader
from taxiway.server.wire.grpc.protos import Message, message_class

Request = message_class("inference.ModelInferRequest")
INPUTS = (
    TensorSpec("a", Datatype.FP32, (-1,)),
    TensorSpec("b", Datatype.INT64, (1,), optional=True),
    TensorSpec("t", Datatype.BYTES, (1,), optional=True),
    TensorSpec("f", Datatype.BOOL, (1,), optional=True),
)


class Codec:
    """As much of a codec as is asked here."""

    answers_once = True

    def __init__(self) -> None:
        self.signature = Signature("m", INPUTS, 8, WireLimits(1000, 10))
        menu = OutputMenu("m", [TensorSpec("y", Datatype.FP32, (1,))], binary_overrides_listed=True)
        self._reader = MessageReader(self.signature, menu, NO_REGIONS)

    def read(self, body: bytes) -> tuple[Message, InferRequest, Choices | None]:
        message, raw = open_request(body)
        request, parsed = self._reader.read(message, raw, len(body), self, 0)
        return message, request, parsed.choices

    def resolve(self, request: InferRequest, result: BatchResult, start: int, stop: int) -> None:
        raise AssertionError

    def reject(self, request: InferRequest, error: TaxiwayError) -> None:
        raise AssertionError


CODEC = Codec()


def _message(*inputs: tuple[str, str, Any], **fields: Any) -> Message:
    message = Request(model_name="m", **fields)
    for name, datatype, values in inputs:
        message.inputs.add(name=name, datatype=datatype, shape=values.shape)
        message.raw_input_contents.append(values.tobytes())
    return message


def _floats(*values: float) -> tuple[str, str, Any]:
    return "a", "FP32", np.asarray([values], np.float32)


def _whole(number: int) -> tuple[str, str, Any]:
    return "b", "INT64", np.asarray([[number]], np.int64)


def _familiars(body: bytes, times: int = 2) -> Familiars:
    familiars = Familiars()
    for _ in range(times):
        message, request, choices = CODEC.read(body)
        familiars.remember(body, message, CODEC, request, choices)  # type: ignore[arg-type]
    return familiars


def _contents(tensors: Any) -> list[Any]:
    return [None if tensor is None else (bytes(tensor.data), tensor.shape) for tensor in tensors]


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=2, max_size=2), st.integers(-(2**63), 2**63 - 1))
@pytest.mark.parametrize("backwards", [False, True])
def test_the_next_one_is_what_reading_it_would_give(backwards: bool, values: list[float], number: int) -> None:
    order = slice(None, None, -1 if backwards else 1)
    familiars = _familiars(_message(*[_floats(1, 2), _whole(3)][order]).SerializeToString())
    body = _message(*[_floats(*values), _whole(number)][order]).SerializeToString()
    known = familiars.find(body)
    assert known is not None
    _, request, choices = CODEC.read(body)
    assert _contents(known.inputs(body)) == _contents(request.inputs)
    assert (known.rows, known.bucket, known.outputs) == (request.rows, request.bucket, request.outputs)
    assert (known.choices, known.model) == (choices, "m")


def test_one_sighting_is_not_enough() -> None:
    body = _message(_floats(1, 2)).SerializeToString()
    assert _familiars(body, times=1).find(body) is None


@pytest.mark.parametrize(
    "other",
    [
        _message(_floats(1, 2, 3)),
        _message(_floats(1)),
        _message(("a", "FP32", np.ones((2, 1), np.float32))),
        _message(("c", "FP32", np.ones((1, 2), np.float32))),
        _message(("a", "INT64", np.ones((1, 1), np.int64))),
        _message(_floats(1, 2), model_version="2"),
        _message(_floats(1, 2), id="q"),
    ],
    ids=["longer", "shorter", "reshaped", "renamed", "of another datatype", "of another version", "named"],
)
def test_another_one_is_read(other: Message) -> None:
    assert _familiars(_message(_floats(1, 2)).SerializeToString()).find(other.SerializeToString()) is None


def test_contents_that_change_places_are_seen() -> None:
    """Two inputs of 16 bytes in all: the same head and length, other joints."""
    body = _message(_floats(1, 2), _whole(3)).SerializeToString()
    familiars = _familiars(body)
    joint = body.rindex(b"\x3a\x08")
    moved = body[:joint] + b"\x3a\x07" + body[joint + 2 :]
    assert len(moved) == len(body)
    assert familiars.find(body) is not None
    assert familiars.find(moved) is None


@pytest.mark.parametrize(
    "message",
    [
        _message(_floats(1, 2), id="q"),
        _message(_floats(1, 2), ("f", "BOOL", np.asarray([[True]]))),
        _message(_floats(1, 2), ("t", "BYTES", np.frombuffer(b"\x01\0\0\0x", np.uint8).reshape(1, 5)[:, :1])),
    ],
    ids=["named", "with a boolean", "with a text"],
)
def test_what_must_be_looked_at_is_not_remembered(message: Message) -> None:
    if message.inputs[-1].name == "t":
        message.raw_input_contents[-1] = b"\x01\0\0\0x"
    body = message.SerializeToString()
    assert _familiars(body, times=3).find(body) is None


def test_parameters_are_not_remembered() -> None:
    message = _message(_floats(1, 2))
    message.parameters["timeout"].int64_param = 5
    body = message.SerializeToString()
    assert _familiars(body, times=3).find(body) is None


def test_no_more_is_kept_than_is_allowed() -> None:
    familiars, body = Familiars(), b""
    for width in range(1, 600):
        body = _message(_floats(*([0.5] * width))).SerializeToString()
        for _ in range(2):
            message, request, choices = CODEC.read(body)
            familiars.remember(body, message, CODEC, request, choices)  # type: ignore[arg-type]
    assert len(familiars._by_head) <= 256
    assert familiars.find(body) is not None
    familiars.forget()
    assert familiars.find(body) is None
