"""What a model takes, and whether a request brings it: the same checks whoever brings the tensors, and however."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from taxiway.core.errors import (
    InvalidArgument,
    MalformedRequest,
    TooLarge,
    UnknownTensor,
    WrongByteSize,
    WrongDatatype,
    WrongShape,
    WrongStringCount,
)
from taxiway.core.requests import NEVER_NS, InferRequest, InputTensor, Responder, SequenceStep
from taxiway.core.tensors import Datatype, Shape, TensorSpec, count_elements

_KEPT_SHAPES = 256
_MAX_RANK = 32
"""As numpy's own limit was for decades; models have five dimensions or six."""


@dataclass(frozen=True, slots=True)
class WireLimits:
    """What one request may hold (`limits.*`)."""

    max_elements: int
    max_json_depth: int


class Wanted(Protocol):
    """An output that is asked for."""

    @property
    def index(self) -> int:
        """Its place among the model's."""


class Wishes(Protocol):
    """What a request says beside its tensors, as far as the model is concerned."""

    @property
    def id(self) -> str | None:
        """The caller's own name of it."""

    @property
    def priority(self) -> int:
        """0: the model's default."""

    @property
    def sequence(self) -> SequenceStep | None:
        """Its place in a sequence; None if it names none."""

    @property
    def timeout_ns(self) -> int:
        """0: none."""

    @property
    def choices(self) -> Sequence[Wanted] | None:
        """The outputs that are asked for; None: all."""

    @property
    def parameters(self) -> Mapping[str, Any] | None:
        """The caller's own."""


Given = tuple[Datatype | None, Shape, Any]
"""One input as it was sent (None: of a datatype that does not exist): a tuple, because every request makes some."""


class Signature:
    """The inputs of one version of a model, in the order the model declares them.

    Attributes:
        inputs: as declared; where the model batches, without the row count that every shape then begins with.
        positions: by name, where an input stands in `inputs`.
        known_shapes: by position, shapes seen and found good, and their elements.
    """

    def __init__(self, model: str, inputs: Sequence[TensorSpec], max_batch_size: int, limits: WireLimits) -> None:
        self.model = model
        self.inputs = tuple(inputs)
        self.positions = {spec.name: position for position, spec in enumerate(inputs)}
        self.known_shapes: list[dict[Shape, int]] = [{} for _ in inputs]
        self.max_batch_size = max_batch_size
        self.limits = limits
        self._names = self.positions.keys()
        self._required = sum(not spec.optional for spec in inputs)

    def count_sane(self, name: str, dims: Shape) -> int:
        """Elements of a shape that is sane: a long list of large numbers must cost nothing to refuse.

        Raises:
            MalformedRequest, WrongShape, TooLarge: it is not.
        """
        if len(dims) > _MAX_RANK:
            raise WrongShape(f"'shape' of input {name!r} has {len(dims)} dimensions; at most {_MAX_RANK} are taken")
        for dim in dims:
            if dim < 0:
                raise MalformedRequest(f"'shape' of input {name!r} is {list(dims)}; a dimension cannot be negative")
        count = count_elements(dims)
        if count > self.limits.max_elements:
            raise TooLarge(
                f"input {name!r} of shape {list(dims)} has {min(count, 2**63)} elements; "
                f"at most {self.limits.max_elements} are taken",
                hint="limits.max_elements bounds it",
                limit=self.limits.max_elements,
            )
        return count

    def assemble(
        self, given: dict[str, Given], wishes: Wishes, nbytes: int, responder: Responder, arrived_ns: int
    ) -> InferRequest:
        """The request that brings the tensors in `given`, once they are found to be what the model takes.

        Raises:
            InvalidArgument: what is wrong with them, in Triton's order: names, rows, datatype, shape, bytes.
        """
        complete = len(given) == len(self.inputs)
        if not complete and not self._required <= len(given) < len(self.inputs):
            raise self._wrong_inputs(given)
        if not given.keys() <= self._names:
            name = next(name for name in given if name not in self._names)
            raise UnknownTensor(
                f"unexpected inference input '{name}' for model '{self.model}'",
                hint=f"inputs of {self.model}: {', '.join(self.positions)}",
            )
        rows = self._common_rows(given) if self.max_batch_size else 1
        tensors: list[InputTensor | None] = [None] * len(self.inputs)
        shapes: list[tuple[int, Shape]] = []
        for name, (datatype, shape, data) in given.items():
            position = self.positions[name]
            spec = self.inputs[position]
            row_shape = shape[1:] if self.max_batch_size else shape
            if datatype is not spec.datatype:
                raise WrongDatatype(
                    f"inference input '{name}' data-type is '{datatype.wire_name if datatype else '<invalid>'}', "
                    f"but model '{self.model}' expects '{spec.datatype.wire_name}'"
                )
            if row_shape != spec.shape:
                if not spec.accepts(row_shape):
                    raise self._wrong_shape(spec, shape)
                shapes.append((position, row_shape))
            known = self.known_shapes[position]
            if shape not in known and len(known) < _KEPT_SHAPES:
                known[shape] = count_elements(shape)
            checked = data if data.__class__ is array else self._checked(spec, data, shape)
            tensors[position] = InputTensor(checked, shape)
        if not complete and self._misses_required(tensors):
            raise self._wrong_inputs(given)
        choices = wishes.choices
        request = InferRequest(
            tensors,
            rows,
            responder,
            arrived_ns,
            nbytes,
            None if complete and not shapes else _bucket(shapes, given),
            None if choices is None else tuple(choice.index for choice in choices),
            wishes.id,
            wishes.priority,
            arrived_ns + wishes.timeout_ns if wishes.timeout_ns else NEVER_NS,
            None,
            wishes.parameters,
        )
        request.sequence = wishes.sequence
        request.timeout_ns = wishes.timeout_ns
        return request

    def _misses_required(self, tensors: list[InputTensor | None]) -> bool:
        pairs = zip(self.inputs, tensors, strict=True)
        return any(tensor is None and not spec.optional for spec, tensor in pairs)

    def _common_rows(self, given: dict[str, Given]) -> int:
        """The number of rows, which all inputs must share."""
        rows = -1
        for name, (_, shape, _) in given.items():
            if not shape:
                raise WrongShape(f"input '{name}' has no shape but model requires batch dimension for '{self.model}'")
            if rows == -1:
                rows = shape[0]
            elif rows != shape[0]:
                raise WrongShape(f"input '{name}' batch size does not match other inputs for '{self.model}'")
        if rows > self.max_batch_size:
            raise WrongShape(
                f"inference request batch-size must be <= {self.max_batch_size} for '{self.model}'; it is {rows}",
                hint="send several requests, or raise max_batch_size in config.pbtxt (or batching.max_batch_size)",
                limit=self.max_batch_size,
            )
        if rows == 0:
            raise WrongShape(f"input '{next(iter(given))}' has no rows; a request needs at least one")
        return rows

    def _checked(self, spec: TensorSpec, data: Any, shape: Shape) -> Any:  # noqa: ANN401
        """The data, its strings or bytes counted; a binary tensor of BYTES taken apart."""
        count = count_elements(shape)
        if data.__class__ is list and len(data) != count:
            raise WrongStringCount(f"input {spec.name!r} has {len(data)} elements; its shape says {count}")
        if data.__class__ is not memoryview:
            return data
        if spec.datatype is Datatype.BYTES:
            return split_bytes(spec.name, data, count)
        expected = count * spec.datatype.itemsize
        if len(data) != expected:
            raise self.wrong_bytes(spec.name, expected, len(data))
        if spec.datatype is Datatype.BOOL and bytes(data).strip(b"\0\1"):
            raise InvalidArgument(f"input {spec.name!r} is BOOL and holds a byte that is neither 0 nor 1")
        return data

    def wrong_bytes(self, name: str, expected: int, got: int) -> WrongByteSize:
        """What a tensor is told that has more or fewer bytes than its shape says."""
        return WrongByteSize(
            f"input byte size mismatch for input '{name}' for model '{self.model}'. Expected {expected}, got {got}"
        )

    def _wrong_inputs(self, given: dict[str, Given]) -> UnknownTensor:
        missing = [spec.name for spec in self.inputs if spec.name not in given and not spec.optional]
        return UnknownTensor(
            f"expected {len(self.inputs)} inputs but got {len(given)} inputs for model '{self.model}'. "
            f"Got input(s) {sorted(given)}, but missing required input(s) {missing}. "
            "Please provide all required input(s)."
        )

    def _wrong_shape(self, spec: TensorSpec, shape: Shape) -> WrongShape:
        declared = [-1, *spec.shape] if self.max_batch_size else list(spec.shape)
        note = " The first dimension is the batch: max_batch_size is not 0." if self.max_batch_size else ""
        return WrongShape(
            f"unexpected shape for input '{spec.name}' for model '{self.model}'. "
            f"Expected {declared}, got {list(shape)}.{note}"
        )


def _bucket(shapes: list[tuple[int, Shape]], given: dict[str, Given]) -> Hashable:
    """Requests run together if they bring the same inputs in the same shapes, in whatever order they name them."""
    return (*sorted(shapes), *sorted(given))


def split_bytes(name: str, raw: memoryview, count: int) -> list[bytes]:
    """The elements of a binary BYTES tensor: each a little-endian uint32 length and that many bytes.

    Raises:
        WrongByteSize: a length points past the end, or there are more or fewer than `count` elements.
    """
    items: list[bytes] = []
    position = 0
    size = len(raw)
    while position < size:
        if position + 4 > size:
            raise WrongByteSize(f"input {name!r} ends in the middle of an element's length")
        (length,) = struct.unpack_from("<I", raw, position)
        position += 4
        if position + length > size:
            left = size - position
            raise WrongByteSize(f"element {len(items)} of input {name!r} says {length} bytes; {left} are left")
        if len(items) == count:
            raise WrongByteSize(f"input {name!r} has more elements than its shape's {count}")
        items.append(bytes(raw[position : position + length]))
        position += length
    if len(items) != count:
        raise WrongByteSize(f"input {name!r} has {len(items)} elements; its shape says {count}")
    return items
