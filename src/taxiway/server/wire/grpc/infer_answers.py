"""A ModelInferResponse from rows of a batch's result, written as bytes without making the message first.

What the requests of one model share is prepared once: its name and version, and each output's words by shape. The raw
contents are the array's own memory, copied once, into the answer. A test compares the bytes with protobuf's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taxiway.core.errors import InvalidArgument
from taxiway.core.requests import BatchResult
from taxiway.core.tensors import Datatype, TensorSpec
from taxiway.server.wire.asks import Choices, OutputChoice
from taxiway.server.wire.classification import classify
from taxiway.server.wire.elements import join_bytes
from taxiway.server.wire.exchange import Buffer
from taxiway.server.wire.grpc.infer_requests import CONTENTS
from taxiway.server.wire.grpc.protos import message_class

_KEPT_WORDS = 256
_SMALL_BYTES = 4096
"""Of an output that nobody shares: copying so much is cheaper than looking at its memory without a copy."""
FINAL = b'"\x1b\n\x15triton_final_response\x12\x02\x08\x01'
"""Field 4 of ModelInferResponse: parameters["triton_final_response"] = true."""
MORE_FOLLOWS = FINAL[:-1] + b"\x00"
"""The same, false: of an answer that is not the last one of its request."""

_Contents = message_class("inference.InferTensorContents")
_Response = message_class("inference.ModelInferResponse")
_Tensor = message_class("inference.ModelInferResponse.InferOutputTensor")


class MessageWriter:
    """Writes answers of one version of a model.

    Args:
        batches: whether the first dimension of its outputs counts rows.
    """

    def __init__(self, model: str, version: int, outputs: Sequence[TensorSpec], *, batches: bool) -> None:
        self._start = _text(0x0A, model) + _text(0x12, str(version))
        self._outputs = tuple(outputs)
        self._batches = batches
        self._words: dict[tuple[tuple[int, ...], ...], bytes] = {}
        """By the shapes of all outputs: what is told of them before their contents."""

    def opening(self, request_id: str | None, *, final: bool) -> bytes:
        """What an answer begins with; `final` marks the last one of a request on a stream, as Triton does."""
        opening = self._start if request_id is None else self._start + _text(0x1A, request_id)
        return opening + FINAL if final else opening

    def _opened(self, opening: bytes, result: BatchResult) -> bytes:
        """With the parameters that the model gave the answer."""
        if result.notes is None or not result.notes.parameters:
            return opening
        return opening + _parameters(result.notes.parameters)

    # --- all outputs, raw: the hot path -------------------------------------------------------------------

    def write(self, opening: bytes, result: BatchResult, start: int, stop: int) -> bytes:
        """All outputs as raw contents."""
        rows = stop - start
        is_part = self._batches and rows != result.rows
        shapes = tuple([(rows, *array.shape[1:]) if is_part else array.shape for array in result.arrays])
        words = self._words.get(shapes)
        if words is None:
            words = self._describe(shapes)
        parts: list[Buffer] = [opening, words]
        for index in range(len(self._outputs)):
            content = self._memory(index, result, start, stop)
            parts += (b"2", varint(len(content)), content)
        return b"".join(parts)

    def _is_part(self, result: BatchResult, rows: int) -> bool:
        """Whether others own rows of it too; else its arrays are told whole, however many rows they have."""
        return self._batches and rows != result.rows

    def _describe(self, shapes: tuple[tuple[int, ...], ...]) -> bytes:
        pairs = zip(self._outputs, shapes, strict=True)
        words = b"".join([_described(spec.name, spec.datatype, shape) for spec, shape in pairs])
        if len(self._words) < _KEPT_WORDS:
            self._words[shapes] = words
        return words

    def _memory(self, index: int, result: BatchResult, start: int, stop: int) -> Buffer:
        """The bytes of rows [start, stop) of an output; what the batch shares is looked at once."""
        memory = result.printed.get(~index)
        is_part = self._batches and stop - start != result.rows
        if memory is None:
            array = result.arrays[index]
            if self._outputs[index].datatype is Datatype.BYTES:
                return join_bytes((array[start:stop] if is_part else array).reshape(-1).tolist())
            if array.nbytes <= _SMALL_BYTES and not is_part:
                return array.tobytes()
            memory = result.printed[~index] = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        if is_part:
            width = len(memory) // result.rows
            return memory[start * width : stop * width]
        return memory

    # --- any choice ---------------------------------------------------------------------------------------

    def write_chosen(self, opening: bytes, choices: Choices, result: BatchResult, start: int, stop: int) -> bytes:
        """The outputs in `choices` as raw contents.

        Raises:
            InvalidArgument, TooLarge: an output has no classes.
        """
        parts: list[Buffer] = [self._opened(opening, result)]
        contents: list[Buffer] = []
        for choice in choices:
            words, content = self._chosen(choice, result, start, stop)
            parts.append(words)
            contents += (b"2", varint(len(content)), content)
        return b"".join(parts + contents)

    def _chosen(self, choice: OutputChoice, result: BatchResult, start: int, stop: int) -> tuple[bytes, Buffer]:
        spec = self._outputs[choice.index]
        array = result.arrays[choice.index]
        rows = array[start:stop] if self._is_part(result, stop - start) else array
        if choice.classes:
            shape, items = classify(rows, choice.classes, spec, batches=self._batches)
            return _described(spec.name, Datatype.BYTES, shape), join_bytes(items)
        content = self._memory(choice.index, result, start, stop)
        if choice.window is not None:
            choice.window.write(spec.name, content)
            content = b""
        return _described(spec.name, spec.datatype, rows.shape), content

    def write_typed(self, opening: bytes, choices: Choices, result: BatchResult, start: int, stop: int) -> bytes:
        """The outputs in `choices` as typed contents, for clients that read no raw ones.

        Raises:
            InvalidArgument: FP16 or BF16, which typed contents cannot hold.
            TooLarge: an output has no classes.
        """
        parts: list[Buffer] = [self._opened(opening, result)]
        for choice in choices:
            spec = self._outputs[choice.index]
            array = result.arrays[choice.index]
            rows = array[start:stop] if self._is_part(result, stop - start) else array
            tensor = _Tensor(name=spec.name)
            if choice.classes:
                shape, items = classify(rows, choice.classes, spec, batches=self._batches)
                tensor.datatype = Datatype.BYTES.wire_name
                tensor.contents.bytes_contents.extend(items)
            else:
                shape = rows.shape
                tensor.datatype = spec.datatype.wire_name
                if choice.window is not None:
                    choice.window.write(spec.name, self._memory(choice.index, result, start, stop))
                else:
                    tensor.contents.CopyFrom(_typed(spec, rows))
            tensor.shape.extend(shape)
            told = tensor.SerializeToString()
            parts += (b"*", varint(len(told)), told)
        return b"".join(parts)


def _parameters(parameters: Mapping[str, Any]) -> bytes:
    """Field 4 of ModelInferResponse."""
    message = _Response()
    for name, value in parameters.items():
        field = "bool_param" if value.__class__ is bool else "int64_param" if isinstance(value, int) else "string_param"
        setattr(message.parameters[name], field, value)
    return bytes(message.SerializeToString())


def _typed(spec: TensorSpec, array: NDArray[Any]) -> Any:  # noqa: ANN401 - a message
    if spec.datatype not in CONTENTS:
        raise InvalidArgument(
            f"output {spec.name!r} is {spec.datatype.wire_name}, which typed contents cannot hold",
            hint="leave out the parameter 'contents': raw contents can",
        )
    field, _ = CONTENTS[spec.datatype]
    return _Contents(**{field: array.reshape(-1).tolist()})


# --- protobuf's wire format ------------------------------------------------------------------------------


def varint(number: int) -> bytes:
    """A number that is not negative, seven bits a byte, the lowest first."""
    if number < 0x80:
        return _ONE_BYTE[number]
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    written.append(number)
    return bytes(written)


_ONE_BYTE = [bytes((number,)) for number in range(0x80)]


def block(tag: int, content: bytes) -> bytes:
    """A field of bytes, text or a message; `tag` is its number times 8, plus 2."""
    return b"%c%b%b" % (tag, varint(len(content)), content)


def _text(tag: int, text: str) -> bytes:
    return block(tag, text.encode())


def _described(name: str, datatype: Datatype, shape: tuple[int, ...]) -> bytes:
    """An InferOutputTensor without contents, as field 5."""
    words = _text(0x0A, name) + _text(0x12, datatype.wire_name)
    if shape:
        words += block(0x1A, b"".join([varint(dim) for dim in shape]))
    return block(0x2A, words)
