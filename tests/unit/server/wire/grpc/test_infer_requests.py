"""ModelInferRequest into InferRequest, by Triton's rules for typed and raw contents."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from taxiway.core import errors
from taxiway.core.errors import TaxiwayError
from taxiway.core.requests import NEVER_NS, BatchResult, InferRequest, SequenceStep
from taxiway.core.tensors import Datatype, TensorSpec
from taxiway.server.signature import Signature, WireLimits
from taxiway.server.wire.asks import OutputMenu, Parsed
from taxiway.server.wire.grpc.infer_requests import CONTENTS, MessageReader
from taxiway.server.wire.grpc.protos import Message, message_class

Request = message_class("inference.ModelInferRequest")
LIMITS = WireLimits(max_elements=1000, max_json_depth=10)
A = TensorSpec("a", Datatype.FP32, (2,))
B = TensorSpec("b", Datatype.INT64, (-1,), optional=True)
OUTPUTS = (TensorSpec("y", Datatype.FP32, (2,)), TensorSpec("z", Datatype.FP32, (2,)))


class Nobody:
    def resolve(self, request: InferRequest, result: BatchResult, start: int, stop: int) -> None:
        raise AssertionError

    def reject(self, request: InferRequest, error: TaxiwayError) -> None:
        raise AssertionError


def _read(message: Message, *inputs: TensorSpec, rows: int = 8) -> tuple[InferRequest, Parsed]:
    menu = OutputMenu("m", OUTPUTS, binary_overrides_listed=True)
    reader = MessageReader(Signature("m", inputs or (A, B), rows, LIMITS), menu)
    return reader.read(message, message.raw_input_contents, 99, Nobody(), 1000)


def _request(**contents: Any) -> Message:
    """One input "a" of two floats: raw, unless other contents are given."""
    message = Request(model_name="m")
    entry = message.inputs.add(name="a", datatype="FP32", shape=[1, 2])
    if contents:
        for field, values in contents.items():
            getattr(entry.contents, field).extend(values)
    else:
        message.raw_input_contents.append(np.asarray([1, 2], np.float32).tobytes())
    return message


def _values(request: InferRequest, index: int = 0, kind: str = "<f4") -> list[Any]:
    tensor = request.inputs[index]
    assert tensor is not None
    return np.ndarray(tensor.shape, kind, tensor.data).tolist()  # type: ignore[no-any-return]


# --- what is taken -------------------------------------------------------------------------------------


@pytest.mark.parametrize("message", [_request(), _request(fp32_contents=[1, 2])], ids=["raw", "typed"])
def test_the_smallest_request(message: Message) -> None:
    request, parsed = _read(message)
    assert _values(request) == [[1, 2]]
    assert request.inputs[1] is None
    assert (request.rows, request.nbytes, request.id, request.deadline_ns) == (1, 99, None, NEVER_NS)
    assert parsed.choices is None


@pytest.mark.parametrize("datatype", list(CONTENTS), ids=lambda one: one.wire_name)
def test_every_datatype_has_its_list(datatype: Datatype) -> None:
    values: list[Any] = (
        [b"x", b""] if datatype is Datatype.BYTES else [True, False] if datatype is Datatype.BOOL else [3, 4]
    )
    message = Request()
    entry = message.inputs.add(name="a", datatype=datatype.wire_name, shape=[1, 2])
    getattr(entry.contents, CONTENTS[datatype][0]).extend(values)
    request, _ = _read(message, TensorSpec("a", datatype, (2,)))
    tensor = request.inputs[0]
    assert tensor is not None
    if datatype is Datatype.BYTES:
        assert tensor.data == values
    else:
        assert np.ndarray(tensor.shape, datatype.numpy_dtype, tensor.data).tolist() == [values]


def test_what_an_output_says_of_its_form_says_nothing_here() -> None:
    message = _request()
    output = message.outputs.add(name="y")
    output.parameters["binary_data"].string_param = "x"
    output.parameters["custom"].SetInParent()
    _, parsed = _read(message)
    assert parsed.choices is not None
    assert [choice.index for choice in parsed.choices] == [0]


def test_raw_contents_go_to_the_inputs_in_order_and_more_of_them_are_ignored() -> None:
    message = Request(raw_input_contents=[bytes(8), np.asarray([7], np.int64).tobytes(), b"ignored"])
    message.inputs.add(name="a", datatype="FP32", shape=[1, 2])
    message.inputs.add(name="b", datatype="INT64", shape=[1, 1])
    request, _ = _read(message)
    assert (_values(request, 0), _values(request, 1, "<i8")) == ([[0, 0]], [[7]])


def test_raw_texts_are_taken_apart() -> None:
    message = Request(raw_input_contents=[b"\x01\0\0\0a\0\0\0\0"])
    message.inputs.add(name="a", datatype="BYTES", shape=[1, 2])
    request, _ = _read(message, TensorSpec("a", Datatype.BYTES, (2,)))
    assert request.inputs[0] is not None
    assert request.inputs[0].data == [b"a", b""]


def test_what_it_says_beside() -> None:
    message = _request()
    message.id = "q"
    message.parameters["timeout"].int64_param = 5
    message.parameters["priority"].uint64_param = 3
    message.parameters["sequence_id"].string_param = "s"
    message.parameters["sequence_start"].bool_param = True
    message.parameters["triton_enable_empty_final_response"].bool_param = True
    message.parameters["mine"].double_param = 0.5
    message.outputs.add(name="z").parameters["classification"].int64_param = 2
    request, parsed = _read(message)
    assert (request.id, request.priority, request.deadline_ns) == ("q", 3, 1000 + 5000)
    assert request.parameters == {"mine": 0.5}
    assert request.sequence == SequenceStep("s", starts=True)
    assert request.outputs == (1,)
    assert parsed.choices is not None
    assert (parsed.choices[0].classes, parsed.choices[0].binary) == (2, True)


# --- what is refused -----------------------------------------------------------------------------------


def _changed(change: Any, **contents: Any) -> Message:
    message = _request(**contents)
    change(message)
    return message


def _set(name: str, field: str, value: Any) -> Any:
    return lambda message: setattr(message.parameters[name], field, value)


def _in_region(message: Message) -> None:
    message.ClearField("raw_input_contents")
    message.inputs[0].parameters["shared_memory_region"].string_param = "r"


REFUSED: dict[str, tuple[Message, type[TaxiwayError], str]] = {
    "typed and raw": (
        _changed(lambda m: m.raw_input_contents.append(bytes(8)), fp32_contents=[1, 2]),
        errors.InvalidArgument,
        "contents field must not be specified when using raw_input_contents for 'a' for model 'm'",
    ),
    "no data": (_changed(lambda m: m.ClearField("raw_input_contents")), errors.InvalidArgument, "unable to find data"),
    "too few typed": (_request(fp32_contents=[1]), errors.WrongElementCount, "1 elements in 'fp32_contents'"),
    "wrong list": (_request(int_contents=[1, 2]), errors.InvalidArgument, "FP32 belongs in 'fp32_contents'"),
    "two lists": (_request(fp32_contents=[1, 2], bool_contents=[True]), errors.InvalidArgument, "'bool_contents'"),
    "too few bytes": (
        _changed(lambda m: m.raw_input_contents.__setitem__(0, bytes(7))),
        errors.WrongByteSize,
        "Expected 8, got 7",
    ),
    "no such datatype": (
        _changed(lambda m: setattr(m.inputs[0], "datatype", "FP33"), fp32_contents=[1, 2]),
        errors.InvalidArgument,
        "invalid datatype for input a",
    ),
    "half floats": (
        _changed(lambda m: setattr(m.inputs[0], "datatype", "FP16"), fp32_contents=[1, 2]),
        errors.InvalidArgument,
        "raw_input_contents",
    ),
    "another datatype": (
        _changed(lambda m: setattr(m.inputs[0], "datatype", "INT64")),
        errors.WrongDatatype,
        "'INT64', but model 'm' expects 'FP32'",
    ),
    "negative shape": (_changed(lambda m: m.inputs[0].shape.__setitem__(0, -1)), errors.MalformedRequest, "negative"),
    "huge shape": (_changed(lambda m: m.inputs[0].shape.__setitem__(0, 2**40)), errors.TooLarge, "max_elements"),
    "too many rows": (_changed(lambda m: m.inputs[0].shape.__setitem__(0, 9)), errors.WrongShape, "must be <= 8"),
    "no shape": (_changed(lambda m: m.inputs[0].ClearField("shape")), errors.WrongShape, "no shape"),
    "twice": (
        _changed(lambda m: (m.inputs.append(m.inputs[0]), m.raw_input_contents.append(bytes(8)))),
        errors.UnknownTensor,
        "already exists",
    ),
    "no inputs": (Request(model_name="m"), errors.UnknownTensor, "missing required input(s) ['a']"),
    "unknown output": (
        _changed(lambda m: m.outputs.add(name="q")),
        errors.UnknownTensor,
        "unexpected inference output",
    ),
    "final response": (
        _changed(_set("triton_enable_empty_final_response", "int64_param", 1)),
        errors.MalformedRequest,
        "must be true or false",
    ),
    "reserved": (_changed(_set("triton_x", "int64_param", 1)), errors.ReservedParameter, "reserved"),
    "negative timeout": (_changed(_set("timeout", "int64_param", -1)), errors.MalformedRequest, "timeout"),
    "text priority": (_changed(_set("priority", "string_param", "1")), errors.MalformedRequest, "priority"),
    "no value": (_changed(lambda m: m.parameters["p"].SetInParent()), errors.MalformedRequest, "has no value"),
    "shared memory": (
        _changed(_in_region),
        errors.NotFound,
        "shared memory region: 'r'",
    ),
    "shared memory for an output": (
        _changed(lambda m: setattr(m.outputs.add(name="y").parameters["shared_memory_region"], "string_param", "r")),
        errors.NotFound,
        "shared memory region: 'r'",
    ),
}


@pytest.mark.parametrize(("message", "kind", "text"), REFUSED.values(), ids=REFUSED)
def test_mistakes_are_told(message: Message, kind: type[TaxiwayError], text: str) -> None:
    with pytest.raises(kind) as caught:
        _read(message)
    assert text in caught.value.message + caught.value.hint


def test_a_number_that_does_not_fit_is_not_cut() -> None:
    """Triton takes the low-order bytes: 300 becomes 44."""
    message = Request()
    entry = message.inputs.add(name="a", datatype="UINT8", shape=[1, 2])
    entry.contents.uint_contents.extend([300, 1])
    with pytest.raises(errors.ValueOutOfRange, match="does not fit UINT8"):
        _read(message, TensorSpec("a", Datatype.UINT8, (2,)))
