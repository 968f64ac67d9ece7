"""Requests of the Open Inference Protocol: every form of an input, what else may be said, and each refusal's reason."""

from __future__ import annotations

import json
import math
from typing import Any, Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxiway.core.errors import (
    InvalidArgument,
    MalformedJson,
    MalformedRequest,
    NotFound,
    ReservedParameter,
    TaxiwayError,
    TooLarge,
    UnknownTensor,
    WrongByteSize,
    WrongDatatype,
    WrongElementCount,
    WrongElementType,
    WrongShape,
    WrongStringCount,
)
from taxiway.core.requests import NEVER_NS, BatchResult, InferRequest, SequenceStep
from taxiway.core.tensors import Datatype, TensorSpec
from taxiway.server.signature import WireLimits
from taxiway.server.wire.asks import OutputChoice, Parsed
from taxiway.server.wire.oip_requests import RequestReader

ROW = TensorSpec("a", Datatype.FP32, (2,))
FREE = TensorSpec("b", Datatype.INT64, (-1,), optional=True)
OUTPUTS = (TensorSpec("y", Datatype.FP32, (2,)), TensorSpec("z", Datatype.BYTES, (1,)))


class Nobody:
    def resolve(self, request: InferRequest, result: BatchResult, start: int, stop: int) -> None:
        raise AssertionError

    def reject(self, request: InferRequest, error: TaxiwayError) -> None:
        raise AssertionError


def _reader(*inputs: TensorSpec, rows: int = 8, overrides: bool = True) -> RequestReader:
    return RequestReader(
        "m",
        inputs or (ROW, FREE),
        OUTPUTS,
        max_batch_size=rows,
        limits=WireLimits(max_elements=1000, max_json_depth=10),
        binary_overrides_listed=overrides,
    )


def _read(
    document: Any, tail: bytes = b"", reader: RequestReader | None = None, json_length: int | None = None
) -> tuple[InferRequest, Parsed]:
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    if tail and json_length is None:
        json_length = len(text)
    return (reader or _reader()).read(text + tail, json_length, Nobody(), 1000)


def _a(**members: Any) -> dict[str, Any]:
    entry = {"name": "a", "shape": [1, 2], "datatype": "FP32", "data": [1, 2], **members}
    return {key: value for key, value in entry.items() if value is not ...}


def _values(request: InferRequest, index: int, datatype: Datatype = Datatype.FP32) -> list[Any]:
    tensor = request.inputs[index]
    assert tensor is not None
    return np.ndarray(tensor.shape, datatype.numpy_dtype, tensor.data).tolist()  # type: ignore[no-any-return]


# --- what is taken -------------------------------------------------------------------------------------


def test_the_smallest_request() -> None:
    request, parsed = _read({"inputs": [_a()]})
    assert _values(request, 0) == [[1, 2]]
    assert request.inputs[1] is None
    assert (request.rows, request.id, request.priority, request.deadline_ns) == (1, None, 0, NEVER_NS)
    assert (request.outputs, parsed.choices) == (None, None)


def test_everything_beside_the_tensors() -> None:
    parameters = {"priority": 3, "timeout": 250, "sequence_id": 0, "mine": "x", "count": 3, "share": 0.5, "on": True}
    request, _ = _read({"id": "q", "inputs": [_a()], "parameters": parameters})
    assert (request.id, request.priority, request.deadline_ns) == ("q", 3, 1000 + 250_000)
    assert request.sequence is None, "0 names none"
    step = {"sequence_end": True, "sequence_id": 2**64 - 1}
    assert _read({"inputs": [_a()], "parameters": step})[0].sequence == SequenceStep(2**64 - 1, False, True)
    assert _read({"id": "", "inputs": [_a()]})[0].id is None
    assert _read({"inputs": [_a()], "unknown": {"ignored": []}})[0].rows == 1


def test_rows_are_counted_where_the_model_batches() -> None:
    assert _read({"inputs": [_a(shape=[3, 2], data=[[1, 2], [3, 4], [5, 6]])]})[0].rows == 3
    whole = TensorSpec("a", Datatype.FP32, (3, 2))
    assert _read({"inputs": [_a(shape=[3, 2], data=[0] * 6)]}, reader=_reader(whole, rows=0))[0].rows == 1


def test_only_requests_of_one_bucket_may_run_together() -> None:
    def bucket(*inputs: dict[str, Any]) -> Any:
        return _read({"inputs": list(inputs)})[0].bucket

    def b(width: int) -> dict[str, Any]:
        return {"name": "b", "shape": [1, width], "datatype": "INT64", "data": [0] * width}

    assert bucket(_a(), b(3)) == bucket(_a(data=[3, 4]), b(3)) != bucket(_a(), b(4))
    assert bucket(_a()) not in (bucket(_a(), b(3)), bucket(_a(), b(0)))
    assert bucket(_a(), b(3)) == bucket(b(3), _a()), "the order in which inputs are named does not matter"


def test_binary_inputs_are_taken_in_order_and_not_copied() -> None:
    a, b = np.array([[1.5, 2.5]], "<f4"), np.array([[7, 8, 9]], "<i8")
    inputs = [
        {"name": "b", "shape": [1, 3], "datatype": "INT64", "parameters": {"binary_data_size": b.nbytes}},
        _a(data=..., parameters={"binary_data_size": a.nbytes}),
    ]
    text = json.dumps({"inputs": inputs}).encode()
    body = bytearray(text + b.tobytes() + a.tobytes())
    request, _ = _reader().read(memoryview(body), len(text), Nobody(), 0)
    assert _values(request, 0) == a.tolist()
    assert _values(request, 1, Datatype.INT64) == b.tolist()
    assert request.inputs[0] is not None
    assert np.shares_memory(np.frombuffer(request.inputs[0].data, np.uint8), np.frombuffer(body, np.uint8))


def test_binary_and_json_inputs_may_be_mixed() -> None:
    inputs = [
        _a(),
        {"name": "b", "shape": [1, 1], "datatype": "INT64", "parameters": {"binary_data_size": 8}},
    ]
    request, _ = _read({"inputs": inputs}, np.array([5], "<i8").tobytes())
    assert _values(request, 0) == [[1, 2]]
    assert _values(request, 1, Datatype.INT64) == [[5]]


def test_a_raw_body_is_the_only_input() -> None:
    reader = _reader(TensorSpec("b", Datatype.INT64, (-1,)))
    request, parsed = _read(np.array([1, 2, 3], "<i8").tobytes(), reader=reader, json_length=0)
    assert _values(request, 0, Datatype.INT64) == [[1, 2, 3]]
    assert parsed.choices == tuple(OutputChoice(index, binary=True, classes=0) for index in range(2))
    with pytest.raises(WrongByteSize):
        _read(b"x" * 9, reader=reader, json_length=0)
    with pytest.raises(InvalidArgument):
        _read(b"x" * 8, json_length=0)  # two inputs


@pytest.mark.parametrize("json_length", [None, 0, 10])
def test_an_empty_body_is_refused(json_length: int | None) -> None:
    """D12 of the wire's defects."""
    for reader in (_reader(), _reader(TensorSpec("b", Datatype.INT64, (-1,)))):
        with pytest.raises(InvalidArgument, match="no body"):
            _read(b"", reader=reader, json_length=json_length)


@pytest.mark.parametrize("data", [[], ["x"], ["x", "y", "z"]])
def test_strings_are_counted_after_the_shape_is_found_good(data: list[str]) -> None:
    reader = _reader(TensorSpec("t", Datatype.BYTES, (2,)))
    entry = {"name": "t", "datatype": "BYTES", "data": data}

    with pytest.raises(WrongStringCount, match=f"has {len(data)} elements; its shape says 2"):
        _read({"inputs": [{**entry, "shape": [1, 2]}]}, reader=reader)
    with pytest.raises(WrongShape):
        _read({"inputs": [{**entry, "shape": [1, 4]}]}, reader=reader)


# --- outputs -------------------------------------------------------------------------------------------


def test_outputs_that_are_asked_for() -> None:
    def choices(document: dict[str, Any], *, overrides: bool = True) -> list[tuple[int, bool, int]]:
        _, parsed = _read({"inputs": [_a()], **document}, reader=_reader(overrides=overrides))
        return [(choice.index, choice.binary, choice.classes) for choice in parsed.choices or ()]

    every = {"parameters": {"binary_data_output": True}}
    assert choices({}) == choices({"outputs": []}) == []
    assert choices(every) == [(0, True, 0), (1, True, 0)]
    assert choices({"outputs": [{"name": "z"}]}) == [(1, False, 0)]
    assert choices({"outputs": [{"name": "z"}, {"name": "y"}, {"name": "z"}]}) == [(0, False, 0), (1, False, 0)]
    assert choices({"outputs": [{"name": "y", "parameters": {"binary_data": True}}]}) == [(0, True, 0)]
    assert choices({"outputs": [{"name": "y", "parameters": {"classification": 3}}]}) == [(0, False, 3)]
    listed = {**every, "outputs": [{"name": "y"}, {"name": "z", "parameters": {"binary_data": False}}]}
    assert choices(listed) == [(0, True, 0), (1, False, 0)]  # D10 of the wire's defects
    assert choices(listed, overrides=False) == [(0, False, 0), (1, False, 0)]  # as Triton


# --- what is refused, and by which name -----------------------------------------------------------------


B = {"name": "b", "shape": [1, 1], "datatype": "INT64", "data": [1]}
REFUSED: dict[str, tuple[Any, type[TaxiwayError], str]] = {
    "not-json": (b"{", MalformedJson, "not JSON"),
    "array": ([], MalformedRequest, "inputs"),
    "text": (b'"inputs"', MalformedRequest, "inputs"),
    "number": (b"7", MalformedRequest, "inputs"),
    "null": (b"null", MalformedRequest, "inputs"),
    "no-inputs": ({"id": "q"}, MalformedRequest, "inputs"),
    "inputs-null": ({"inputs": None}, MalformedRequest, "must be an array"),
    "inputs-object": ({"inputs": {}}, MalformedRequest, "must be an array"),
    "no-name": ({"inputs": [_a(name=...)]}, MalformedRequest, "name"),
    "no-shape": ({"inputs": [_a(shape=...)]}, MalformedRequest, "shape"),
    "no-datatype": ({"inputs": [_a(datatype=...)]}, MalformedRequest, "datatype"),
    "no-content": ({"inputs": [_a(data=...)]}, InvalidArgument, "no field is set"),
    "two-contents": ({"inputs": [_a(parameters={"binary_data_size": 8})]}, InvalidArgument, "only one"),
    "name-number": ({"inputs": [_a(name=1)]}, MalformedRequest, "strings"),
    "datatype-null": ({"inputs": [_a(datatype=None)]}, MalformedRequest, "strings"),
    "shape-number": ({"inputs": [_a(shape=2)]}, MalformedRequest, "must be an array"),
    "shape-text": ({"inputs": [_a(shape=["1", 2])]}, MalformedRequest, "integer"),
    "shape-bool": ({"inputs": [_a(shape=[True, 2])]}, MalformedRequest, "integer"),
    "shape-float": ({"inputs": [_a(shape=[1.0, 2])]}, MalformedRequest, "integer"),
    "shape-negative": ({"inputs": [_a(shape=[-1, -2])]}, MalformedRequest, "negative"),
    "shape-too-large": ({"inputs": [_a(shape=[1, 1001])]}, TooLarge, "at most 1000"),
    "shape-over-64-bits": ({"inputs": [_a(shape=[2**62, 2**62])]}, TooLarge, "at most 1000"),
    "unknown-datatype": ({"inputs": [_a(datatype="FP31")]}, InvalidArgument, "invalid datatype"),
    "unknown-input": ({"inputs": [_a(), {**B, "name": "c"}]}, UnknownTensor, "'c'"),
    "missing-input": ({"inputs": [B]}, UnknownTensor, "'a'"),
    "no-input-at-all": ({"inputs": []}, UnknownTensor, "'a'"),
    "input-twice": ({"inputs": [_a(), _a()]}, UnknownTensor, "already exists"),
    "too-many-inputs": ({"inputs": [_a(), B, {**B, "name": "c"}]}, UnknownTensor, "expected 2 inputs but got 3"),
    "other-datatype": ({"inputs": [_a(datatype="FP64")]}, WrongDatatype, "'FP64'.*'FP32'"),
    "other-shape": ({"inputs": [_a(shape=[1, 3], data=[1, 2, 3])]}, WrongShape, r"Expected \[-1, ?2\], got \[1, ?3\]"),
    "other-rank": ({"inputs": [_a(shape=[2])]}, WrongShape, "Expected"),
    "too-many-rows": ({"inputs": [_a(shape=[9, 2], data=[0] * 18)]}, WrongShape, "<= 8"),
    "no-rows": ({"inputs": [_a(shape=[0, 2], data=[])]}, WrongShape, "row"),
    "different-rows": ({"inputs": [_a(), {**B, "shape": [2, 1], "data": [1, 2]}]}, WrongShape, "batch size"),
    "classes-over-64-bits": (
        {"inputs": [_a(), B], "outputs": [{"name": "y", "parameters": {"classification": 2**64}}]},
        MalformedRequest,
        "must be a count",
    ),
    "too-few-elements": ({"inputs": [_a(data=[1])]}, WrongElementCount, "1 elements; its shape says 2"),
    "shared-memory": (
        {"inputs": [_a(data=..., parameters={"shared_memory_region": "r"})]},
        NotFound,
        "shared memory region: 'r'",
    ),
    "binary-size-text": (
        {"inputs": [_a(data=..., parameters={"binary_data_size": "8"})]},
        MalformedRequest,
        "number of bytes",
    ),
    "binary-size-negative": (
        {"inputs": [_a(data=..., parameters={"binary_data_size": -8})]},
        MalformedRequest,
        "number of bytes",
    ),
    "binary-but-nothing-follows": (
        {"inputs": [_a(data=..., parameters={"binary_data_size": 8})]},
        WrongByteSize,
        "expecting 8 additional bytes",
    ),
    "id-number": ({"id": 1, "inputs": [_a()]}, MalformedRequest, "'id'"),
    "parameters-array": ({"inputs": [_a()], "parameters": []}, MalformedRequest, "must be an object"),
    "parameter-object": ({"inputs": [_a()], "parameters": {"p": {}}}, InvalidArgument, "'p' has invalid type"),
    "parameter-null": ({"inputs": [_a()], "parameters": {"p": None}}, InvalidArgument, "'p' has invalid type"),
    "parameter-reserved": ({"inputs": [_a()], "parameters": {"triton_x": 1}}, ReservedParameter, "reserved"),
    "priority-negative": ({"inputs": [_a()], "parameters": {"priority": -1}}, MalformedRequest, "priority"),
    "timeout-text": ({"inputs": [_a()], "parameters": {"timeout": "1"}}, MalformedRequest, "timeout"),
    "timeout-bool": ({"inputs": [_a()], "parameters": {"timeout": True}}, MalformedRequest, "timeout"),
    "binary-output-number": (
        {"inputs": [_a()], "parameters": {"binary_data_output": 1}},
        MalformedRequest,
        "binary_data_output",
    ),
    "outputs-object": ({"inputs": [_a()], "outputs": {}}, MalformedRequest, "must be an array"),
    "output-unknown": ({"inputs": [_a()], "outputs": [{"name": "q"}]}, UnknownTensor, "'q'"),
    "output-nameless": ({"inputs": [_a()], "outputs": [{}]}, MalformedRequest, "name"),
    "classification-text": (
        {"inputs": [_a()], "outputs": [{"name": "y", "parameters": {"classification": "3"}}]},
        MalformedRequest,
        "classification",
    ),
}


@pytest.mark.parametrize(("document", "error", "words"), REFUSED.values(), ids=REFUSED)
def test_refusals(document: Any, error: type[TaxiwayError], words: str) -> None:
    with pytest.raises(error, match=words):
        _read(document)


NO_BYTES: Final = {"data": ..., "parameters": {"binary_data_size": 0}}
STRANGE_OUTPUT: Final = {"outputs": [{"name": "q"}]}
FIRST_OF_TWO: Final[dict[str, tuple[Any, bytes, type[TaxiwayError], str]]] = {
    "parameters, inputs": ({"parameters": []}, b"", MalformedRequest, "'parameters'"),
    "inputs, outputs": ({"inputs": 1, "outputs": 1}, b"", MalformedRequest, "'inputs'"),
    "bytes, outputs": ({"inputs": [_a()], "outputs": 1}, b"x", WrongByteSize, "additional input data"),
    "outputs, no such output": (
        {"inputs": [_a()], "outputs": [{"name": "q"}, {"name": 1}]},
        b"",
        MalformedRequest,
        "'name'",
    ),
    "name, bytes": (
        {"inputs": [_a(name=..., data=..., parameters={"binary_data_size": "8"})]},
        b"",
        MalformedRequest,
        "'name'",
    ),
    "bytes, no such output": ({"inputs": [_a()], **STRANGE_OUTPUT}, b"x", WrongByteSize, "additional input data"),
    "no such output, no such input": ({"inputs": [], **STRANGE_OUTPUT}, b"", UnknownTensor, "output 'q'"),
    "no such datatype of data": (
        {"inputs": [_a(datatype="X")], "outputs": 1},
        b"",
        InvalidArgument,
        "invalid datatype",
    ),
    "no such datatype of bytes": (
        {"inputs": [_a(datatype="X", **NO_BYTES)], **STRANGE_OUTPUT},
        b"",
        UnknownTensor,
        "output 'q'",
    ),
    "no such datatype": ({"inputs": [_a(datatype="X", **NO_BYTES)]}, b"", WrongDatatype, "'<invalid>'.*'FP32'"),
}


@pytest.mark.parametrize(("document", "tail", "error", "words"), FIRST_OF_TWO.values(), ids=FIRST_OF_TWO)
def test_of_several_mistakes_the_one_that_triton_finds_first_is_told(
    document: Any, tail: bytes, error: type[TaxiwayError], words: str
) -> None:
    with pytest.raises(error, match=words):
        _read(document, tail)


def test_binary_parts_must_fit_exactly() -> None:
    binary = {"inputs": [_a(data=..., parameters={"binary_data_size": 8})]}
    assert _read(binary, bytes(8))[0].rows == 1
    with pytest.raises(WrongByteSize, match="1 additional bytes"):
        _read(binary, bytes(7))
    with pytest.raises(WrongByteSize, match="additional input data"):
        _read(binary, bytes(9))
    with pytest.raises(WrongByteSize, match="additional input data"):
        _read({"inputs": [_a()]}, b"x")
    with pytest.raises(WrongByteSize, match="Expected 8, got 4"):
        _read({"inputs": [_a(data=..., parameters={"binary_data_size": 4})]}, bytes(4))
    with pytest.raises(InvalidArgument, match="Inference-Header-Content-Length"):
        _read({"inputs": [_a()]}, json_length=10_000)


def test_binary_booleans_are_0_or_1() -> None:
    flag = TensorSpec("a", Datatype.BOOL, (2,))
    document = {"inputs": [_a(datatype="BOOL", data=..., parameters={"binary_data_size": 2})]}
    assert _read(document, b"\0\1", _reader(flag))[0].rows == 1
    with pytest.raises(InvalidArgument, match="neither 0 nor 1"):
        _read(document, b"\0\2", _reader(flag))


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.sampled_from(["a", "b", "FP32", "x"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "shape", "datatype", "data", "parameters", "inputs"]), inner, max_size=4
        )
    ),
    max_leaves=8,
)


@given(
    st.dictionaries(st.sampled_from(["inputs", "outputs", "parameters", "id"]), _JSON)
    | st.builds(lambda change: {"inputs": [{**_a(), **change}]}, st.dictionaries(st.sampled_from(list(_a())), _JSON)),
    st.sampled_from([b"", b"x", bytes(8)]),
)
def test_whatever_is_sent_is_taken_or_refused_as_the_callers_mistake(document: Any, tail: bytes) -> None:
    """Nothing else: an exception of another kind would be answered 500 (D8 of the wire's defects)."""
    try:
        request, _ = _read(document, tail)
    except (InvalidArgument, NotFound):
        return
    assert request.inputs[0] is not None
    assert _values(request, 0)


def test_a_shape_of_many_large_numbers_costs_nothing_to_refuse() -> None:
    huge = [2**63 - 1] * 50_000
    with pytest.raises(WrongShape, match="50000 dimensions"):
        _read({"inputs": [_a(shape=huge)]})
    with pytest.raises(TooLarge):
        _read({"inputs": [_a(shape=[2**63 - 1] * 32)]})


def test_only_shapes_that_the_model_takes_are_remembered() -> None:
    reader = _reader()
    for wrong in ([1] * 20, [1, 3], [9, 2]):
        with pytest.raises(TaxiwayError):
            _read(
                {"inputs": [_a(shape=wrong, data=[0] * (18 if wrong == [9, 2] else math.prod(wrong)))]}, reader=reader
            )
    _read({"inputs": [_a()]}, reader=reader)
    assert [list(known) for known in reader._known_shapes] == [[(1, 2)], []]


def test_a_deeply_nested_element_is_a_callers_mistake() -> None:
    nested: Any = {}
    for _ in range(900):
        nested = {"x": nested}
    with pytest.raises(WrongElementType, match="is an object"):
        _read({"inputs": [_a(data=[1, nested])]})
