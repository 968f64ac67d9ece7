"""Answers of the Open Inference Protocol v2, JSON and binary, from rows of a batch's result.

What the requests of one model share is prepared once: the words before the id, the words before each tensor's
elements by shape. What the requests of one batch share is converted once: the list of a whole output's elements.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from numpy.typing import NDArray

from taxiway.core.errors import InvalidArgument
from taxiway.core.requests import BatchResult
from taxiway.core.tensors import Datatype, TensorSpec, count_elements
from taxiway.server.wire.asks import Choices, OutputChoice
from taxiway.server.wire.classification import classify
from taxiway.server.wire.elements import join_bytes, print_elements, print_texts
from taxiway.server.wire.exchange import Buffer

_KEPT_PREFIXES = 256


class AnswerWriter:
    """Writes answers of one version of a model.

    Args:
        batches: whether the first dimension of its outputs counts rows.
        parameters: of every answer.
    """

    def __init__(
        self,
        model: str,
        version: int,
        outputs: Sequence[TensorSpec],
        *,
        batches: bool,
        parameters: Mapping[str, Any] | None = None,
    ) -> None:
        self._model = b'"model_name":%b,"model_version":"%d",' % (orjson.dumps(model), version)
        self._parameters = parameters or {}
        self._start = self._opening({})
        self._outputs = tuple(outputs)
        self._batches = batches
        self._prefixes: list[dict[tuple[int, ...], bytes]] = [{} for _ in outputs]

    def _opening(self, parameters: Mapping[str, Any]) -> bytes:
        told = {**self._parameters, **parameters}
        return b'%b%b"outputs":[' % (self._model, b'"parameters":%b,' % orjson.dumps(told) if told else b"")

    # --- JSON only: the hot path --------------------------------------------------------------------------

    def write_json(self, request_id: str | None, result: BatchResult, start: int, stop: int) -> bytes:
        """All outputs as JSON."""
        body = self._json_tensor(0, result, start, stop)
        for index in range(1, len(self._outputs)):
            body += b"," + self._json_tensor(index, result, start, stop)
        if request_id is None:
            return b"{%b%b]}" % (self._start, body)
        return b'{"id":%b,%b%b]}' % (orjson.dumps(request_id), self._start, body)

    def _json_tensor(self, index: int, result: BatchResult, start: int, stop: int) -> bytes:
        array = result.arrays[index]
        spec = self._outputs[index]
        is_part = self._batches and stop - start != result.rows  # else it is whole, however many rows it has
        shape = (stop - start, *array.shape[1:]) if is_part else array.shape
        prefix = self._prefixes[index].get(shape)
        if prefix is None:
            prefix = self._prefix(index, shape)
        flat = result.printed.get(index)
        if flat is None:
            if spec.datatype is Datatype.FP16:
                raise _no_fp16(spec.name)
            flat = result.printed[index] = array.reshape(-1).tolist()
        if is_part:
            width = len(flat) // result.rows
            flat = flat[start * width : stop * width]
        return (
            prefix + (print_texts(flat, spec.name) if spec.datatype is Datatype.BYTES else print_elements(flat)) + b"}"
        )

    def _prefix(self, index: int, shape: tuple[int, ...]) -> bytes:
        spec = self._outputs[index]
        prefix = _words(spec.name, spec.datatype, shape) + b'"data":'
        if len(self._prefixes[index]) < _KEPT_PREFIXES:
            self._prefixes[index][shape] = prefix
        return prefix

    # --- any mixture --------------------------------------------------------------------------------------

    def write_mixed(
        self, request_id: str | None, choices: Choices, result: BatchResult, start: int, stop: int
    ) -> tuple[bytes, list[Buffer]]:
        """The outputs in `choices`: the JSON part, and the binary tensors to follow it."""
        tensors: list[bytes] = []
        binary: list[Buffer] = []
        for choice in choices:
            if choice.binary or choice.classes:
                words, buffer = self._chosen_tensor(choice, result, start, stop)
                tensors.append(words)
                if buffer is not None:
                    binary.append(buffer)
            else:
                tensors.append(self._json_tensor(choice.index, result, start, stop))
        identity = b"" if request_id is None else b'"id":%b,' % orjson.dumps(request_id)
        notes = result.notes
        opening = self._start if notes is None or not notes.parameters else self._opening(notes.parameters)
        return b"{%b%b%b]}" % (identity, opening, b",".join(tensors)), binary

    def _chosen_tensor(
        self, choice: OutputChoice, result: BatchResult, start: int, stop: int
    ) -> tuple[bytes, Buffer | None]:
        spec = self._outputs[choice.index]
        array = result.arrays[choice.index]
        if self._batches and stop - start != result.rows:
            array = array[start:stop]
        shape, datatype = array.shape, spec.datatype
        items: list[bytes] | None = None
        if choice.classes:
            shape, items = classify(array, choice.classes, spec, batches=self._batches)
            datatype = Datatype.BYTES
        elif datatype is Datatype.BYTES:
            items = array.reshape(-1).tolist()
        words = _words(spec.name, datatype, shape)
        if not choice.binary:
            return words + b'"data":' + print_texts(items or [], spec.name) + b"}", None
        buffer: Buffer = _memory(array) if items is None else join_bytes(items)
        if choice.window is not None:
            choice.window.write(spec.name, buffer)
            return words[:-1] + b"}", None
        return words + b'"parameters":{"binary_data_size":%d}}' % len(buffer), buffer


def _words(name: str, datatype: Datatype, shape: tuple[int, ...]) -> bytes:
    dims = ",".join(map(str, shape))
    return f'{{"name":{orjson.dumps(name).decode()},"datatype":"{datatype.wire_name}","shape":[{dims}],'.encode()


def _memory(array: NDArray[Any]) -> memoryview:
    """The array's own memory, row by row; copied only if it is not laid out so."""
    if count_elements(array.shape) == 0:
        return memoryview(b"")
    contiguous = array if array.flags.c_contiguous else array.copy()
    return memoryview(contiguous.data).cast("B")


def _no_fp16(name: str) -> InvalidArgument:
    return InvalidArgument(
        f"sending FP16 data via JSON is not supported. Please use the binary data format for output {name}",
        hint='ask for it with "parameters": {"binary_data": true}',
    )
