"""What models find in `triton_python_backend_utils`, as far as it needs no server."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from taxiway.runtimes.hosted.triton import pb_utils
from taxiway.runtimes.hosted.triton.dlpack import borrow, lend
from taxiway.runtimes.hosted.triton.model_config import filled
from taxiway.runtimes.hosted.triton.problems import TritonError, TritonModelException
from taxiway.runtimes.hosted.triton.tensors import Tensor
from taxiway.runtimes.hosted.triton.tracebacks import described


def _tensor(dtype: Any = np.float32) -> Tensor:
    return Tensor("x", np.arange(6).reshape(2, 3).astype(dtype))


# --- tensors ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in pb_utils.TRITON_STRING_TO_NUMPY if name != "TYPE_STRING"])
def test_tensors_know_what_they_are(name: str) -> None:
    kind = pb_utils.triton_string_to_numpy(name)
    tensor = _tensor(kind)

    assert tensor.datatype() == name.removeprefix("TYPE_")
    assert np.dtype(pb_utils.triton_to_numpy_type(tensor.triton_dtype())) == np.dtype(kind)
    assert pb_utils.numpy_to_triton_type(kind) == tensor.triton_dtype()
    assert (tensor.shape(), tensor.is_cpu(), tensor.__dlpack_device__()) == ([2, 3], True, (1, 0))


def test_texts_are_bytes_in_objects() -> None:
    array = np.array([b"a", "b", 3], dtype=np.object_)

    assert Tensor("t", array).datatype() == "BYTES"
    assert pb_utils.serialize_byte_tensor(array) == b"\1\0\0\0a\1\0\0\0b\1\0\0\0003"
    assert pb_utils.deserialize_bytes_tensor(b"\2\0\0\0ab\0\0\0\0").tolist() == [b"ab", b""]
    assert pb_utils.serialize_byte_tensor(np.zeros(0)) == ()
    assert pb_utils.serialize_byte_tensor(np.zeros(1)) is None


@pytest.mark.parametrize(
    ("array", "told"),
    [
        (np.array(["text"]), "NumPy dtype is not supported."),
        (np.zeros(2, np.complex64), "NumPy dtype is not supported."),
        (np.zeros(2, ">f4"), "NumPy dtype is not supported."),
    ],
)
def test_arrays_of_no_datatype_are_refused(array: Any, told: str) -> None:
    with pytest.raises(TritonModelException, match=told):
        Tensor("x", array)


def test_a_tensor_needs_a_name_and_an_array() -> None:
    with pytest.raises(TritonModelException, match="cannot be an empty string"):
        Tensor("", np.zeros(1))
    with pytest.raises(TypeError, match="numpy array"):
        Tensor("x", [1, 2])


def test_rows_are_laid_one_after_the_other() -> None:
    turned = Tensor("x", np.arange(6).reshape(2, 3).T)

    assert turned.as_numpy().flags.c_contiguous
    assert turned.as_numpy().tolist() == [[0, 3], [1, 4], [2, 5]]


# --- DLPack ----------------------------------------------------------------------------------------------


def test_tensors_are_lent_and_borrowed_without_a_copy() -> None:
    tensor = _tensor()
    borrowed = np.from_dlpack(tensor)  # type: ignore[arg-type]  # it has the protocol's two methods

    again = Tensor.from_dlpack("y", tensor.to_dlpack())
    other = Tensor.from_dlpack("z", np.arange(3, dtype=np.int32))

    assert np.shares_memory(borrowed, tensor.as_numpy())
    assert np.shares_memory(again.as_numpy(), tensor.as_numpy())
    assert (other.as_numpy().tolist(), other.datatype()) == ([0, 1, 2], "INT32")


def test_bfloat16_crosses_as_what_it_is() -> None:
    words = np.array([0x3F80, 0x4000], dtype=np.uint16)

    tensor = Tensor.from_dlpack("x", lend(words, bfloat=True))
    back, is_bfloat = borrow(tensor.to_dlpack())

    assert (tensor.datatype(), tensor.words().tolist()) == ("BF16", words.tolist())
    assert (back.tolist(), is_bfloat) == (words.tolist(), True)
    with pytest.raises(TritonModelException, match="BF16 is not natively supported"):
        tensor.as_numpy()


def test_what_cannot_be_lent_or_borrowed() -> None:
    with pytest.raises(TritonModelException, match="string tensors"):
        Tensor("x", np.array([b"a"], dtype=np.object_)).to_dlpack()
    with pytest.raises(TritonModelException, match="Provided tensor is not supported"):
        Tensor.from_dlpack("x", [1])
    with pytest.raises(TritonModelException, match="not contiguous"):
        Tensor.from_dlpack("x", np.zeros((2, 3)).T)


def test_a_tensor_on_a_gpu_is_copied_when_it_is_needed() -> None:
    class OnGpu:
        """As PyTorch's."""

        shape = (2,)
        dtype = "torch.float64"

        def __dlpack__(self) -> object:
            raise AssertionError

        def __dlpack_device__(self) -> tuple[int, int]:
            return 2, 1

        def detach(self) -> OnGpu:
            return self

        contiguous = detach

        def cpu(self) -> Any:
            return np.array([1.5, 2.5])

    tensor = Tensor.from_dlpack("x", OnGpu())

    assert (tensor.is_cpu(), tensor.shape(), tensor.__dlpack_device__()) == (False, [2], (2, 1))
    assert tensor.datatype() == "FP64"
    assert tensor.words().tolist() == [1.5, 2.5]
    with pytest.raises(TritonModelException, match="stored in GPU"):
        tensor.as_numpy()


# --- requests and responses ------------------------------------------------------------------------------


def test_a_request_says_what_it_was_made_of() -> None:
    request = pb_utils.InferenceRequest(
        model_name="m",
        inputs=[_tensor()],
        requested_output_names=["b", "a"],
        parameters={"a": 1, "b": "c", "d": True},
        correlation_id="s",
        timeout=7,
        preferred_memory=pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU),
    )
    request.set_flags(pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_END)

    assert request.parameters() == '{"a": 1, "b": "c", "d": true}'
    assert request.requested_output_names() == {"a", "b"}
    assert (request.correlation_id(), request.timeout(), request.flags()) == ("s", 7, 2)
    assert request.trace().get_context() is None


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"inputs": [None]}, "Input tensor for request with id '' and model name 'm' should not be empty."),
        ({"requested_output_names": [""]}, "Requested output name for request with id '' and model name 'm'"),
        ({"parameters": {"a": 1.5}}, "Expect parameters values to have type bool/int/str, found type <class 'float'>"),
        ({"correlation_id": 1.5}, "Correlation ID must be integer or string"),
    ],
)
def test_a_request_that_cannot_be(more: dict[str, Any], told: str) -> None:
    with pytest.raises(TritonModelException, match=told):
        pb_utils.InferenceRequest(**{"model_name": "m", "inputs": [], "requested_output_names": []} | more)


def test_a_response_is_outputs_or_an_error() -> None:
    good = pb_utils.InferenceResponse([_tensor()], parameters={"n": 1})
    bad = pb_utils.InferenceResponse(error=TritonError("no", TritonError.NOT_FOUND))

    assert (good.has_error(), good.parameters()) == (False, '{"n": 1}')
    assert pb_utils.get_output_tensor_by_name(good, "x") is good.output_tensors()[0]
    assert pb_utils.get_output_tensor_by_name(good, "y") is None
    error = bad.error()
    assert error is not None
    assert (error.message(), int(error.code())) == ("no", 2)
    assert error.told().code == "not-found"


# --- configurations --------------------------------------------------------------------------------------


def _config(**more: Any) -> pb_utils.ModelConfig:
    return pb_utils.ModelConfig(json.dumps({"name": "m", "max_batch_size": 0, "input": [], "output": []} | more))


X = {"name": "x", "data_type": "TYPE_FP32", "dims": [2]}


def test_a_configuration_is_completed() -> None:
    config = _config(input=[{"name": "x", "data_type": "TYPE_INVALID", "dims": []}])
    config.set_max_batch_size(4)
    config.add_input(X)
    config.add_output({"name": "y", "data_type": "TYPE_INT8", "dims": [-1]})
    config.set_dynamic_batching()
    config.set_model_transaction_policy({"decoupled": True})

    whole = filled(config.as_dict())
    assert whole["input"][0] == X | {
        "format": "FORMAT_NONE",
        "is_shape_tensor": False,
        "allow_ragged_batch": False,
        "optional": False,
        "is_non_linear_format_io": False,
    }
    assert whole["dynamic_batching"]["preferred_batch_size"] == [4]
    assert pb_utils.using_decoupled_model_transaction_policy(whole)
    assert pb_utils.get_output_config_by_name(whole, "y")["dims"] == [-1]  # type: ignore[index]
    assert pb_utils.get_input_config_by_name(whole, "y") is None


@pytest.mark.parametrize(
    ("config", "call", "told"),
    [
        ({"max_batch_size": 8}, lambda c: c.set_max_batch_size(4), "specified max_batch_size 8, but in auto-complete"),
        ({}, lambda c: c.add_input({"data_type": "TYPE_INT8", "dims": []}), "is missing 'name' property"),
        ({}, lambda c: c.add_input({"name": "x", "dims": []}), "is missing 'data_type' property"),
        ({}, lambda c: c.add_output({"name": "x", "data_type": "TYPE_INT8"}), "is missing 'dims' property"),
        ({}, lambda c: c.add_output(X | {"optional": True}), "contains property other than 'name', 'data_type' and"),
        ({"input": [X | {"data_type": "TYPE_INT8"}]}, lambda c: c.add_input(X), "expects datatype TYPE_INT8 for input"),
        ({"input": [X | {"dims": [3]}]}, lambda c: c.add_input(X), "the model expects dims"),
        ({"sequence_batching": {}}, lambda c: c.set_dynamic_batching(), "scheduling_choice as 'sequence_batching'"),
        ({}, lambda c: c.set_model_transaction_policy({"other": 1}), "contains property other than 'decoupled'"),
        (
            {"model_transaction_policy": {"decoupled": False}},
            lambda c: c.set_model_transaction_policy({"decoupled": True}),
            "which is already set to 'False'",
        ),
    ],
)
def test_a_configuration_is_not_contradicted(config: dict[str, Any], call: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        call(_config(**config))


def test_where_an_exception_arose_is_told_innermost_first() -> None:
    def inner() -> None:
        raise ValueError("bad")

    with pytest.raises(ValueError, match="bad") as raised:
        inner()

    told = described(raised.value, places=True).splitlines()
    assert described(raised.value, places=False) == "ValueError: bad"
    assert told[:3] == ["ValueError: bad", "", "At:"]
    assert told[3].endswith(": inner")
    assert told[4].endswith(": test_where_an_exception_arose_is_told_innermost_first")
