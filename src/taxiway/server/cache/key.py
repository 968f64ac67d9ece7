"""What a request is looked up by: equal exactly for requests that are owed the same answer.

The words that are hashed can be read back in one way only: whatever has no fixed length comes after its length. So two
requests that differ in a shape, a datatype, an element, a parameter or an output differ in their words, and then in
their keys: nobody has ever found two texts with one SHA-256 (2^128 trials are expected), and here a secret, drawn anew
at each load, comes first. A hit is therefore not compared with the request that left the answer.
"""

from __future__ import annotations

import hashlib
import secrets
from array import array
from collections.abc import Iterator, Mapping, Sequence
from struct import pack
from typing import Any

from taxiway.core.requests import InferRequest, InputTensor
from taxiway.core.tensors import TensorSpec

_ABSENT = b"\xff"
"""Instead of the number of dimensions, of which there are fewer."""


class KeyMaker:
    """Makes the keys of one loaded version.

    Two loads never share a key, even of the same bytes: what a version gives also depends on what lies beside its file
    (weights, provider libraries), which no digest of the file would see, and its answers go when it goes.

    Args:
        inputs, outputs: of the model; a request's tensors are in their order and of their datatypes.
        max_input_bytes: requests with more are not looked up: hashing holds the event loop up (about 0.6 ms per MiB).
    """

    def __init__(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], max_input_bytes: int) -> None:
        self._max_input_bytes = max_input_bytes
        self._every_output = tuple(range(len(outputs)))
        self._begun = hashlib.sha256(secrets.token_bytes(64))
        for spec in inputs:
            self._begun.update(_sized(spec.name.encode()) + _sized(spec.datatype.wire_name.encode()))

    def key_of(self, request: InferRequest) -> bytes | None:
        """The key; None for one that is not looked up: it is too large, or a step of a sequence, whose place counts."""
        if request.nbytes > self._max_input_bytes or request.sequence is not None:
            return None
        digest = self._begun.copy()
        for words in write_request(request, self._every_output):
            digest.update(words)
        return digest.digest()


def write_request(request: InferRequest, every_output: tuple[int, ...]) -> Iterator[Any]:
    """All that an answer depends on beside the version, as buffers to be read one after the other."""
    outputs = every_output if request.outputs is None else sorted(set(request.outputs))
    yield pack(f"<I{len(outputs)}I", len(outputs), *outputs) + _write_parameters(request.parameters)
    for tensor in request.inputs:
        yield from (_ABSENT,) if tensor is None else _write_tensor(tensor)


def _write_tensor(tensor: InputTensor) -> Iterator[Any]:
    shape, data = tensor.shape, tensor.data
    if data.__class__ is not list:
        yield pack(f"<B{len(shape)}qQ", len(shape), *shape, memoryview(data).nbytes)
        yield data
        return
    yield pack(f"<B{len(shape)}qQ", len(shape), *shape, len(data))
    yield array("Q", map(len, data))
    yield b"".join(data)


def _write_parameters(parameters: Mapping[str, Any] | None) -> bytes:
    """In the order of their names; 1, 1.0, true and "1" are four different values."""
    if not parameters:
        return pack("<I", 0)
    words = [
        _sized(name.encode(errors="surrogatepass")) + _sized(repr(value).encode())
        for name, value in sorted(parameters.items())
    ]
    return pack("<I", len(words)) + b"".join(words)


def _sized(words: bytes) -> bytes:
    return pack("<Q", len(words)) + words
