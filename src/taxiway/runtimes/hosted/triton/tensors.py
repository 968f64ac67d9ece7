"""Named arrays, and the names of their types in three languages: numpy's, the configuration's, Triton's numbers."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taxiway.core.tensors import Datatype
from taxiway.runtimes.hosted.frames import Laid
from taxiway.runtimes.hosted.tensors import join_bytes
from taxiway.runtimes.hosted.triton.dlpack import borrow, is_capsule, lend
from taxiway.runtimes.hosted.triton.problems import TritonModelException

TRITON_STRING_TO_NUMPY: dict[str, Any] = {
    "TYPE_BOOL": bool,
    "TYPE_UINT8": np.uint8,
    "TYPE_UINT16": np.uint16,
    "TYPE_UINT32": np.uint32,
    "TYPE_UINT64": np.uint64,
    "TYPE_INT8": np.int8,
    "TYPE_INT16": np.int16,
    "TYPE_INT32": np.int32,
    "TYPE_INT64": np.int64,
    "TYPE_FP16": np.float16,
    "TYPE_FP32": np.float32,
    "TYPE_FP64": np.float64,
    "TYPE_STRING": np.object_,
}
_NUMPY_BY_NUMBER: dict[int, Any] = {
    number: np.bool_ if type_ is bool else type_
    for number, type_ in enumerate(TRITON_STRING_TO_NUMPY.values(), start=1)
}
_BYTES_NUMBER, _BF16_NUMBER = 13, 14
_NUMBERS = {np.dtype(type_): number for number, type_ in _NUMPY_BY_NUMBER.items()}
_GPU = 2


class Tensor:
    """A named array. Of a request: where it lies in shared memory, and as long as anything looks at it."""

    __slots__ = ("_array", "_name", "_number", "_on_gpu", "_view")

    _array: NDArray[Any] | None
    _view: tuple[Callable[[Laid], NDArray[Any]], Laid]

    def __init__(self, name: str, numpy_array: Any) -> None:  # noqa: ANN401 - whatever a model gives
        if not isinstance(numpy_array, np.ndarray):
            raise TypeError(f"Tensor({name!r}, ...) takes a numpy array, not {type(numpy_array).__name__}")
        if not name:
            raise TritonModelException("Tensor name cannot be an empty string.")
        number = _NUMBERS.get(numpy_array.dtype)
        if number is None:
            if numpy_array.dtype.kind != "S":
                raise TritonModelException("NumPy dtype is not supported.")
            number = _BYTES_NUMBER
        self._name = name
        self._array = numpy_array if numpy_array.flags.c_contiguous else np.ascontiguousarray(numpy_array)
        self._number = number
        self._on_gpu: Any = None

    @classmethod
    def lying(cls, name: str, laid: Laid, view: Callable[[Laid], NDArray[Any]]) -> Tensor:
        """One of a request: `view(laid)` looks at it once somebody asks."""
        made = cls.__new__(cls)
        made._name = name
        made._array = None
        made._number = 0
        made._on_gpu = None
        made._view = view, laid
        return made

    @classmethod
    def holding(cls, name: str, datatype: str, array: NDArray[Any]) -> Tensor:
        """One of an answer to a call, of this datatype."""
        made = cls.__new__(cls)
        made._name = name
        made._array = array
        made._number = _number_of(datatype)
        made._on_gpu = None
        return made

    def name(self) -> str:
        """Its name."""
        return self._name

    def as_numpy(self) -> NDArray[Any]:
        """The array where it lies; nothing is copied. BYTES are objects of bytes.

        Raises:
            TritonModelException: it is bfloat16, which numpy does not have, or on a GPU.
        """
        if self._on_gpu is not None:
            raise TritonModelException("Tensor is stored in GPU and cannot be converted to NumPy.")
        if self.triton_dtype() == _BF16_NUMBER:
            raise TritonModelException(
                "BF16 is not natively supported by NumPy: take the tensor with to_dlpack() into a library that has it"
            )
        return self.words()

    def words(self) -> NDArray[Any]:
        """The array; of bfloat16 the 16-bit words that it is in memory."""
        if self._array is None:
            if self._on_gpu is not None:
                return _from_gpu(self._on_gpu)
            view, laid = self._view
            self._array = view(laid)
        return self._array

    def triton_dtype(self) -> int:
        """Triton's number of its datatype."""
        if not self._number:
            self._number = _number_of(self._view[1].datatype)
        return self._number

    def datatype(self) -> str:
        """The protocol's name of its datatype."""
        number = self.triton_dtype()
        if number == _BYTES_NUMBER:
            return Datatype.BYTES.wire_name
        if number == _BF16_NUMBER:
            return Datatype.BF16.wire_name
        name = list(TRITON_STRING_TO_NUMPY)[number - 1]
        return name.removeprefix("TYPE_")

    def shape(self) -> list[int]:
        """Its shape."""
        if self._on_gpu is not None:
            return list(self._on_gpu.shape)
        return list(self._view[1].shape if self._array is None else self._array.shape)

    def is_cpu(self) -> bool:
        """Whether it lies in the memory of the CPU."""
        return self._on_gpu is None

    # --- DLPack -------------------------------------------------------------------------------------------

    @staticmethod
    def from_dlpack(name: str, tensor: Any) -> Tensor:  # noqa: ANN401 - any library's
        """A tensor of another library, not copied: a capsule, or an object with `__dlpack__`.

        Raises:
            TritonModelException: it is neither, or its elements do not lie one after the other.
        """
        if not name:
            raise TritonModelException("Tensor name cannot be an empty string.")
        made = Tensor.__new__(Tensor)
        made._name = name
        made._on_gpu = None
        if not is_capsule(tensor):
            if not hasattr(tensor, "__dlpack__"):
                raise TritonModelException(
                    "Provided tensor is not supported. Tensor must be a DLPack capsule or have `__dlpack__` attribute"
                )
            if hasattr(tensor, "__dlpack_device__") and tensor.__dlpack_device__()[0] == _GPU:
                made._array, made._number, made._on_gpu = None, _number_on_gpu(tensor), tensor
                return made
            tensor = tensor.__dlpack__()
        try:
            array, bfloat = borrow(tensor)
        except ValueError as problem:
            raise TritonModelException(f"{problem}; give an object with `__dlpack__` and `__dlpack_device__`") from None
        if not array.flags.c_contiguous:
            raise TritonModelException(
                "DLPack tensor is not contiguous. Only contiguous DLPack tensors that are stored in C-Order are "
                "supported."
            )
        made._array = array
        made._number = _BF16_NUMBER if bfloat else _NUMBERS.get(array.dtype, 0)
        if not made._number:
            raise TritonModelException("DLPack data type is not supported.")
        return made

    def to_dlpack(self) -> object:
        """A DLPack capsule of it, not copied.

        Raises:
            TritonModelException: it is BYTES.
        """
        if self._on_gpu is not None:
            capsule: object = self._on_gpu.__dlpack__()
            return capsule
        if self.triton_dtype() == _BYTES_NUMBER:
            raise TritonModelException("DLPack does not have support for string tensors.")
        return lend(self.words(), bfloat=self.triton_dtype() == _BF16_NUMBER)

    def __dlpack__(self, stream: Any = None, **_: Any) -> object:  # noqa: ANN401 - the protocol's own
        """As `to_dlpack`."""
        return self.to_dlpack()

    def __dlpack_device__(self) -> tuple[int, int]:
        """Where it lies, in DLPack's numbers."""
        if self._on_gpu is not None:
            kind, number = self._on_gpu.__dlpack_device__()
            return int(kind), int(number)
        return 1, 0


def _number_of(datatype: str) -> int:
    if datatype == Datatype.BF16.wire_name:
        return _BF16_NUMBER
    if datatype == Datatype.BYTES.wire_name:
        return _BYTES_NUMBER
    return list(TRITON_STRING_TO_NUMPY).index(f"TYPE_{datatype}") + 1


def _number_on_gpu(tensor: Any) -> int:  # noqa: ANN401
    """By the name of its dtype, which libraries spell alike: torch.float32, float32."""
    name = str(tensor.dtype).rpartition(".")[2]
    try:
        return _BF16_NUMBER if name == "bfloat16" else _NUMBERS[np.dtype(name)]
    except (KeyError, TypeError):
        raise TritonModelException("DLPack data type is not supported.") from None


def _from_gpu(tensor: Any) -> NDArray[Any]:  # noqa: ANN401
    """A copy in the memory of the CPU, made by the library whose tensor it is: PyTorch's word for it, or CuPy's."""
    if hasattr(tensor, "cpu"):
        array, _ = borrow(tensor.detach().contiguous().cpu().__dlpack__())
        return array
    return np.ascontiguousarray(tensor.get() if hasattr(tensor, "get") else tensor)


# --- the types -------------------------------------------------------------------------------------------


def triton_to_numpy_type(data_type: int) -> Any:  # noqa: ANN401 - a numpy type, as Triton returns it
    """Numpy's type of Triton's number of a datatype; None if there is none."""
    return _NUMPY_BY_NUMBER.get(data_type)


def numpy_to_triton_type(data_type: Any) -> int | None:  # noqa: ANN401 - whatever numpy takes for a dtype
    """Triton's number of numpy's type; None if there is none."""
    dtype = np.dtype(data_type)
    return _BYTES_NUMBER if dtype.kind == "S" else _NUMBERS.get(dtype)


def triton_string_to_numpy(triton_type_string: str) -> Any:  # noqa: ANN401
    """Numpy's type of a TYPE_ name of the configuration.

    Raises:
        KeyError: it has none.
    """
    return TRITON_STRING_TO_NUMPY[triton_type_string]


def serialize_byte_tensor(input_tensor: NDArray[Any]) -> bytes | tuple[()] | None:
    """BYTES elements, each behind its length; an empty tuple of none, and None of another datatype: as Triton does."""
    if input_tensor.size == 0:
        return ()
    if input_tensor.dtype.kind not in "OS":
        return None
    return join_bytes(input_tensor.ravel().tolist())


def deserialize_bytes_tensor(encoded_tensor: Sequence[int] | bytes) -> NDArray[Any]:
    """The elements that `serialize_byte_tensor` laid out, in one dimension."""
    encoded = bytes(encoded_tensor)
    elements: list[bytes] = []
    position = 0
    while position < len(encoded):
        (length,) = struct.unpack_from("<I", encoded, position)
        position += 4 + length
        elements.append(encoded[position - length : position])
    array = np.empty(len(elements), dtype=np.object_)
    array[:] = elements
    return array


def get_input_tensor_by_name(inference_request: Any, name: str) -> Tensor | None:  # noqa: ANN401 - a request
    """The request's tensor of this name; None if it has none."""
    for tensor in inference_request.inputs():
        if tensor.name() == name:
            return tensor  # type: ignore[no-any-return]
    return None


def get_output_tensor_by_name(inference_response: Any, name: str) -> Tensor | None:  # noqa: ANN401 - a response
    """The response's tensor of this name; None if it has none."""
    for tensor in inference_response.output_tensors():
        if tensor.name() == name:
            return tensor  # type: ignore[no-any-return]
    return None
