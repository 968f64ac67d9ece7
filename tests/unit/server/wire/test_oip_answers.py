"""Answers of the Open Inference Protocol: what goes through requests and answers comes out as it went in."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from taxiway.core.errors import InvalidArgument, TaxiwayError
from taxiway.core.requests import BatchResult, InferRequest
from taxiway.core.tensors import Datatype, TensorSpec
from taxiway.server.signature import WireLimits, split_bytes
from taxiway.server.wire.asks import OutputChoice
from taxiway.server.wire.elements import join_bytes
from taxiway.server.wire.oip_answers import AnswerWriter
from taxiway.server.wire.oip_requests import RequestReader

LIMITS = WireLimits(max_elements=1 << 20, max_json_depth=10)
DATATYPES: list[Datatype] = [datatype for datatype in Datatype if datatype is not Datatype.BF16]
IN_JSON: list[Datatype] = [datatype for datatype in DATATYPES if datatype is not Datatype.FP16]


class Nobody:
    def resolve(self, request: InferRequest, result: BatchResult, start: int, stop: int) -> None:
        raise AssertionError

    def reject(self, request: InferRequest, error: TaxiwayError) -> None:
        raise AssertionError


def _elements(datatype: Datatype, *, text: bool) -> st.SearchStrategy[Any]:
    if datatype is Datatype.BYTES:
        return st.text(max_size=8).map(str.encode) if text else st.binary(max_size=8)
    if datatype is Datatype.BOOL:
        return st.booleans()
    if datatype.name.startswith("FP"):
        return st.floats(width={2: 16, 4: 32, 8: 64}[datatype.itemsize])  # type: ignore[arg-type]
    info = np.iinfo(datatype.numpy_dtype)
    return st.integers(int(info.min), int(info.max))


@st.composite
def _tensors(draw: st.DrawFn, datatypes: list[Datatype], *, text: bool) -> tuple[Datatype, NDArray[Any]]:
    datatype = draw(st.sampled_from(datatypes))
    shape = (draw(st.integers(1, 4)), *draw(st.lists(st.integers(0, 3), max_size=2)))
    size = int(np.prod(shape))
    values = draw(st.lists(_elements(datatype, text=text), min_size=size, max_size=size))
    made = np.empty(size, dtype=datatype.numpy_dtype)
    made[:] = values
    return datatype, made.reshape(shape)


def _array(datatype: Datatype, data: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    if datatype is Datatype.BYTES:
        made = np.empty(len(data), dtype=object)
        made[:] = data
        return made.reshape(shape)
    return np.ndarray(shape, datatype.numpy_dtype, bytes(data))


def _through(datatype: Datatype, array: NDArray[Any], *, binary: bool, name: str = "x") -> tuple[dict[str, Any], bytes]:
    """Ask for `array`, as if a model gave what it was given; the answer's JSON and its binary part."""
    spec = TensorSpec(name, datatype, (-1,) * (array.ndim - 1))
    reader = RequestReader("m", [spec], [spec], max_batch_size=8, limits=LIMITS, binary_overrides_listed=True)
    one: dict[str, Any] = {"name": name, "shape": list(array.shape), "datatype": datatype.wire_name}
    document: dict[str, Any] = {"id": 'q"', "inputs": [one]}
    tail = b""
    if binary:
        tail = join_bytes(array.reshape(-1).tolist()) if datatype is Datatype.BYTES else array.tobytes()
        one["parameters"] = {"binary_data_size": len(tail)}
        document["parameters"] = {"binary_data_output": True}
    else:
        flat = array.reshape(-1).tolist()
        one["data"] = [item.decode() for item in flat] if datatype is Datatype.BYTES else flat
    text = json.dumps(document).encode()
    request, parsed = reader.read(text + tail, len(text) if binary else None, Nobody(), 0)
    given_back = request.inputs[0]
    assert given_back is not None
    result = BatchResult([name], [_array(datatype, given_back.data, given_back.shape)], request.rows)
    writer = AnswerWriter("m", 3, [spec], batches=True)
    if parsed.choices is None:
        return json.loads(writer.write_json(request.id, result, 0, request.rows)), b""
    text, buffers = writer.write_mixed(request.id, parsed.choices, result, 0, request.rows)
    return json.loads(text), b"".join(bytes(buffer) for buffer in buffers)


def _check_answer(answer: dict[str, Any], datatype: Datatype, array: NDArray[Any]) -> dict[str, Any]:
    assert list(answer) == ["id", "model_name", "model_version", "outputs"]
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ('q"', "m", "3")
    output: dict[str, Any] = answer["outputs"][0]
    assert output["datatype"] == datatype.wire_name
    assert output["shape"] == list(array.shape)
    return output


@given(_tensors(DATATYPES, text=False))
def test_any_tensor_through_binary(sent: tuple[Datatype, NDArray[Any]]) -> None:
    datatype, array = sent
    answer, tail = _through(datatype, array, binary=True)
    output = _check_answer(answer, datatype, array)
    assert output["parameters"] == {"binary_data_size": len(tail)}
    if datatype is Datatype.BYTES:
        assert split_bytes("x", memoryview(tail), array.size) == array.reshape(-1).tolist()
    else:
        assert tail == array.tobytes()  # to the bit: NaN too


@given(_tensors(IN_JSON, text=True))
def test_any_tensor_through_json(sent: tuple[Datatype, NDArray[Any]]) -> None:
    datatype, array = sent
    answer, tail = _through(datatype, array, binary=False)
    assert tail == b""
    data = _check_answer(answer, datatype, array)["data"]
    flat = array.reshape(-1).tolist()
    if datatype is Datatype.BYTES:
        assert [item.encode() for item in data] == flat
    else:
        assert [type(item) for item in data] == [type(item) for item in flat]
        np.testing.assert_array_equal(data, flat)


@given(st.text(min_size=1, max_size=10))
def test_names_are_json_whatever_they_are(name: str) -> None:
    answer, _ = _through(Datatype.INT8, np.array([[1]], np.int8), binary=False, name=name)
    assert answer["outputs"][0]["name"] == name


# --- batches -------------------------------------------------------------------------------------------


def _writer(*specs: TensorSpec, batches: bool = True) -> AnswerWriter:
    return AnswerWriter("m", 1, specs, batches=batches)


Y = TensorSpec("y", Datatype.FP32, (2,))
Z = TensorSpec("z", Datatype.INT64, (1,))
BATCH: list[NDArray[Any]] = [np.arange(8, dtype=np.float32).reshape(4, 2), np.arange(4, dtype=np.int64).reshape(4, 1)]


def _result() -> BatchResult:
    return BatchResult(["y", "z"], BATCH, 4)


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (1, 3), (3, 4), (0, 4)])
def test_each_request_gets_its_own_rows(start: int, stop: int) -> None:
    result = _result()
    _writer(Y, Z).write_json("earlier", result, 0, 1)  # a neighbour of the same batch was answered before
    outputs = json.loads(_writer(Y, Z).write_json(None, result, start, stop))["outputs"]
    assert [output["shape"] for output in outputs] == [[stop - start, 2], [stop - start, 1]]
    assert [output["data"] for output in outputs] == [array[start:stop].reshape(-1).tolist() for array in BATCH]


def test_without_an_id_there_is_none() -> None:
    assert _writer(Y, Z).write_json(None, _result(), 0, 1).startswith(b'{"model_name":"m","model_version":"1",')


def test_a_model_that_does_not_batch_keeps_its_shape() -> None:
    whole = BatchResult(["y"], [np.float32(1.5) * np.ones((3, 1, 2), np.float32)], 1)
    output = json.loads(_writer(TensorSpec("y", Datatype.FP32, (3, 1, 2)), batches=False).write_json("q", whole, 0, 1))
    assert output["outputs"][0]["shape"] == [3, 1, 2]
    scalar = BatchResult(["y"], [np.array(2.5, np.float32)], 1)
    output = json.loads(_writer(TensorSpec("y", Datatype.FP32, ()), batches=False).write_json("q", scalar, 0, 1))
    assert output["outputs"][0] == {"name": "y", "datatype": "FP32", "shape": [], "data": [2.5]}


def test_binary_and_json_outputs_side_by_side() -> None:
    choices = (OutputChoice(0, binary=True, classes=0), OutputChoice(1, binary=False, classes=0))
    text, buffers = _writer(Y, Z).write_mixed("q", choices, _result(), 1, 3)
    y, z = json.loads(text)["outputs"]
    assert (y["parameters"], z["data"]) == ({"binary_data_size": 16}, [1, 2])
    assert "data" not in y
    assert "parameters" not in z
    assert [bytes(buffer) for buffer in buffers] == [BATCH[0][1:3].tobytes()]
    assert np.shares_memory(np.frombuffer(buffers[0], np.float32), BATCH[0])  # sent from where it was computed


def test_memory_that_is_not_in_rows_is_put_in_order() -> None:
    array = np.asfortranarray(np.arange(6, dtype=np.float32).reshape(3, 2))
    choices = (OutputChoice(0, binary=True, classes=0),)
    _, buffers = _writer(Y).write_mixed(None, choices, BatchResult(["y"], [array], 3), 0, 3)
    assert bytes(buffers[0]) == array.tobytes("C")
    assert json.loads(_writer(Y).write_json(None, BatchResult(["y"], [array], 3), 0, 3))["outputs"][0]["data"] == [
        0,
        1,
        2,
        3,
        4,
        5,
    ]


def test_a_tensor_without_elements_has_no_bytes() -> None:
    choices = (OutputChoice(0, binary=True, classes=0),)
    empty = BatchResult(["y"], [np.empty((1, 0), np.float32)], 1)
    text, buffers = _writer(TensorSpec("y", Datatype.FP32, (-1,))).write_mixed(None, choices, empty, 0, 1)
    assert json.loads(text)["outputs"][0]["parameters"] == {"binary_data_size": 0}
    assert [len(buffer) for buffer in buffers] == [0]


def test_what_json_cannot_carry_is_refused_with_the_way_out() -> None:
    half = BatchResult(["y"], [np.ones((1, 2), np.float16)], 1)
    with pytest.raises(InvalidArgument, match="FP16") as told:
        _writer(TensorSpec("y", Datatype.FP16, (2,))).write_json(None, half, 0, 1)
    assert "binary_data" in told.value.hint
    noise = np.empty((1, 1), object)
    noise[0, 0] = b"\xff"
    with pytest.raises(InvalidArgument, match="UTF-8"):
        _writer(TensorSpec("y", Datatype.BYTES, (1,))).write_json(None, BatchResult(["y"], [noise], 1), 0, 1)
