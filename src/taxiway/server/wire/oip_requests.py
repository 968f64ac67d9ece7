"""Inference requests of the Open Inference Protocol v2, JSON and binary, into `InferRequest`.

Reading goes in Triton's order, since the order decides which error a request with several mistakes gets: first the
JSON of every member, then what is missing or unknown, then batch, datatype and shape.
"""

from __future__ import annotations

from array import array
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Self

from taxiway.config.model_spec import ModelSpec
from taxiway.core.errors import (
    InvalidArgument,
    MalformedRequest,
    NotFound,
    ReservedParameter,
    TooLarge,
    UnknownTensor,
    WrongByteSize,
    WrongDatatype,
    WrongShape,
    WrongStringCount,
)
from taxiway.core.requests import NEVER_NS, InferRequest, InputTensor, Responder
from taxiway.core.tensors import Datatype, Shape, TensorSpec, count_elements
from taxiway.server.wire.elements import elements_of, parse_json, split_bytes
from taxiway.server.wire.exchange import Buffer

_INT_ONLY = {int}
_ONE_CONTENT = (
    "must set only one of the following fields: 'data', 'binary_data_size' in 'parameters', "
    "'shared_memory_region' in 'parameters'"
)
_KEPT_SHAPES = 256
_MAX_RANK = 32
"""As numpy's own limit was for decades; models have five dimensions or six."""


@dataclass(frozen=True, slots=True)
class WireLimits:
    """What one request may hold (`limits.*`)."""

    max_elements: int
    max_json_depth: int


@dataclass(frozen=True, slots=True)
class OutputChoice:
    """One output as it was asked for: its index, in binary or not, as `classes` best classes or (0) as it is."""

    index: int
    binary: bool
    classes: int


Choices = tuple[OutputChoice, ...]
"""The outputs that were asked for, in the model's order."""


@dataclass(slots=True)
class Parsed:
    """What a request says beside its tensors."""

    id: str | None = None
    priority: int = 0
    timeout_ns: int = 0
    binary: bool = False
    """Whether outputs are wanted in binary (`binary_data_output`)."""
    choices: Choices | None = None
    """None: all outputs, as JSON."""
    parameters: dict[str, Any] | None = None
    """The caller's own, beside those the protocol reserves."""


Given = tuple[Datatype | None, Shape, Any]
"""One input as it was sent (None: of a datatype that does not exist): a tuple, because every request makes some."""

_NOTHING_MORE = Parsed()
"""What a request says that has nothing but inputs."""


class RequestReader:
    """Reads requests for one version of a model.

    Args:
        batches: whether every shape begins with a row count.
        binary_overrides_listed: `binary_data_output` also speaks for outputs that are listed (the protocol's text),
            or only for those that are not (what Triton does).
    """

    def __init__(
        self,
        model: str,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        *,
        max_batch_size: int,
        limits: WireLimits,
        binary_overrides_listed: bool,
    ) -> None:
        self._model = model
        self._inputs = tuple(inputs)
        self._positions = {spec.name: position for position, spec in enumerate(inputs)}
        self._names = self._positions.keys()
        self._required = sum(not spec.optional for spec in inputs)
        self._outputs = {spec.name: index for index, spec in enumerate(outputs)}
        self._max_batch_size = max_batch_size
        self._limits = limits
        self._binary_overrides_listed = binary_overrides_listed
        self._known_shapes: list[dict[Shape, int]] = [{} for _ in inputs]
        """By input: shapes seen and found good, and their elements."""

    @classmethod
    def of(cls, spec: ModelSpec, limits: WireLimits, *, binary_overrides_listed: bool = True) -> Self:
        """The reader for a model as it is configured."""
        return cls(
            spec.name,
            spec.inputs,
            spec.outputs,
            max_batch_size=spec.max_batch_size,
            limits=limits,
            binary_overrides_listed=binary_overrides_listed,
        )

    # --- whole requests -----------------------------------------------------------------------------------

    def read(
        self, body: Buffer, json_length: int | None, responder: Responder, arrived_ns: int
    ) -> tuple[InferRequest, Parsed]:
        """The request in `body`.

        Raises:
            InvalidArgument: what is wrong with it, and where.
        """
        if not body:
            raise _no_body()
        if json_length is None:
            document, tail = parse_json(body), memoryview(b"")
        elif json_length == 0:
            return self._read_raw(memoryview(body), responder, arrived_ns)
        else:
            if json_length > len(body):
                raise InvalidArgument(
                    f"header Inference-Header-Content-Length says {json_length} bytes of JSON; the body has {len(body)}"
                )
            view = memoryview(body)
            document, tail = parse_json(view[:json_length]), view[json_length:]
        try:
            entries = document["inputs"]
        except (TypeError, KeyError, IndexError):
            if document.__class__ is dict:
                self._read_rest(document)  # what is wrong there comes first
            hint = "GET /v2/openapi.json shows the form"
            raise MalformedRequest("the request has no member 'inputs'", hint=hint) from None
        parsed = self._read_rest(document) if len(document) > 1 else _NOTHING_MORE
        given = self._read_inputs(entries, tail)
        if parsed is not _NOTHING_MORE:
            self._read_choices(document.get("outputs", ()), parsed)
        return self._assemble(given, parsed, len(body), responder, arrived_ns), parsed

    def _read_raw(self, body: memoryview, responder: Responder, arrived_ns: int) -> tuple[InferRequest, Parsed]:
        """A body that is one tensor and nothing else; its shape is worked out from its size."""
        if len(self._inputs) != 1:
            raise InvalidArgument(
                f"a raw binary request is for models with one input; '{self._model}' has {len(self._inputs)}"
            )
        spec = self._inputs[0]
        shape = self._raw_shape(spec, len(body))
        if self._max_batch_size:
            shape = (1, *shape)
        data = [bytes(body)] if spec.datatype is Datatype.BYTES else body
        choices = tuple(OutputChoice(index, binary=True, classes=0) for index in range(len(self._outputs)))
        parsed = Parsed(choices=choices)
        given: dict[str, Given] = {spec.name: (spec.datatype, shape, data)}
        return self._assemble(given, parsed, len(body), responder, arrived_ns), parsed

    def _raw_shape(self, spec: TensorSpec, size: int) -> Shape:
        if spec.datatype is Datatype.BYTES:
            if spec.shape != (1,):
                raise InvalidArgument(f"For BYTE datatype raw input '{spec.name}', the model must have input shape [1]")
            return (1,)
        if spec.shape.count(-1) > 1:
            raise InvalidArgument(
                f"The shape of the raw input '{spec.name}' can not be deduced because there are more than one "
                "variable-sized dimension"
            )
        fixed = count_elements(tuple(dim for dim in spec.shape if dim != -1)) * spec.datatype.itemsize
        if size != fixed and -1 not in spec.shape:
            raise self._wrong_bytes(spec.name, fixed, size)
        if fixed == 0 or size % fixed:
            raise WrongByteSize(f"the raw input '{spec.name}' is {size} bytes, not a multiple of {fixed}")
        return tuple(size // fixed if dim == -1 else dim for dim in spec.shape)

    # --- inputs: what was sent ----------------------------------------------------------------------------

    def _read_inputs(self, entries: Any, tail: memoryview) -> dict[str, Given]:  # noqa: ANN401
        if entries.__class__ is not list:
            raise MalformedRequest(f"'inputs' is {type(entries).__name__}; it must be an array")
        given: dict[str, Given] = {}
        used = 0
        for entry in entries:
            data, size = _content_of(entry)
            name, datatype, shape, count = self._read_head(entry)
            if size is not None:
                if size.__class__ is not int or size < 0:
                    raise MalformedRequest(f"parameter 'binary_data_size' is {size!r}; it must be a number of bytes")
                data = tail[used : used + size]
                used += size
                if len(data) != size:
                    raise WrongByteSize(
                        f"unexpected size for input '{name}', expecting {size - len(data)} additional bytes "
                        f"for model '{self._model}'"
                    )
            elif datatype is None:
                raise InvalidArgument(f"invalid datatype for input {name}: {str(entry['datatype'])[:40]!r}")
            else:
                data = elements_of(name, datatype, data, count, self._limits.max_json_depth)
            if name in given:
                raise UnknownTensor(f"input '{name}' already exists in request")
            given[name] = (datatype, shape, data)
        if used != len(tail):
            raise WrongByteSize(
                f"unexpected additional input data for model '{self._model}': "
                f"{len(tail) - used} bytes after the last tensor"
            )
        return given

    def _read_head(self, entry: dict[str, Any]) -> tuple[str, Datatype | None, Shape, int | None]:
        """Name, datatype, shape and number of elements of one input; None elements if it has no shape to count by."""
        try:
            name, shape, datatype_name = entry["name"], entry["shape"], entry["datatype"]
        except KeyError as missing:
            raise MalformedRequest(f"an element of 'inputs' has no member {missing}") from None
        if name.__class__ is not str or datatype_name.__class__ is not str:
            raise MalformedRequest("'name' and 'datatype' of an input must be strings")
        if shape.__class__ is not list:
            raise MalformedRequest(f"'shape' of input {name!r} must be an array")
        dims = tuple(shape)
        if dims and set(map(type, shape)) != _INT_ONLY:
            raise MalformedRequest(f"'shape' of input {name!r} is {shape}; every dimension must be an integer")
        position = self._positions.get(name)
        count = self._known_shapes[position].get(dims) if position is not None else None
        if count is None and (dims or not self._max_batch_size):
            count = self._count(name, dims)
        return name, Datatype.by_name(datatype_name), dims, count

    def _count(self, name: str, dims: Shape) -> int:
        """Elements of a shape that is sane: a long list of large numbers must cost nothing to refuse."""
        if len(dims) > _MAX_RANK:
            raise WrongShape(f"'shape' of input {name!r} has {len(dims)} dimensions; at most {_MAX_RANK} are taken")
        for dim in dims:
            if dim < 0:
                raise MalformedRequest(f"'shape' of input {name!r} is {list(dims)}; a dimension cannot be negative")
        count = count_elements(dims)
        if count > self._limits.max_elements:
            raise TooLarge(
                f"input {name!r} of shape {list(dims)} has {min(count, 2**63)} elements; "
                f"at most {self._limits.max_elements} are taken",
                hint="limits.max_elements bounds it",
                limit=self._limits.max_elements,
            )
        return count

    # --- inputs: what the model takes ---------------------------------------------------------------------

    def _assemble(
        self, given: dict[str, Given], parsed: Parsed, nbytes: int, responder: Responder, arrived_ns: int
    ) -> InferRequest:
        complete = len(given) == len(self._inputs)
        if not complete and not self._required <= len(given) < len(self._inputs):
            raise self._wrong_inputs(given)
        if not given.keys() <= self._names:
            name = next(name for name in given if name not in self._names)
            raise UnknownTensor(f"unexpected inference input '{name}' for model '{self._model}'")
        rows = self._common_rows(given) if self._max_batch_size else 1
        tensors: list[InputTensor | None] = [None] * len(self._inputs)
        shapes: list[tuple[int, Shape]] = []
        for name, (datatype, shape, data) in given.items():
            position = self._positions[name]
            spec = self._inputs[position]
            row_shape = shape[1:] if self._max_batch_size else shape
            if datatype is not spec.datatype:
                raise WrongDatatype(
                    f"inference input '{name}' data-type is '{datatype.wire_name if datatype else '<invalid>'}', "
                    f"but model '{self._model}' expects '{spec.datatype.wire_name}'"
                )
            if row_shape != spec.shape:
                if not spec.accepts(row_shape):
                    raise self._wrong_shape(spec, shape)
                shapes.append((position, row_shape))
            known = self._known_shapes[position]
            if shape not in known and len(known) < _KEPT_SHAPES:
                known[shape] = count_elements(shape)
            checked = data if data.__class__ is array else self._checked(spec, data, shape)
            tensors[position] = InputTensor(checked, shape)
        if not complete and self._misses_required(tensors):
            raise self._wrong_inputs(given)
        choices = parsed.choices
        return InferRequest(
            tensors,
            rows,
            responder,
            arrived_ns,
            nbytes,
            None if complete and not shapes else _bucket(shapes, given),
            None if choices is None else tuple(choice.index for choice in choices),
            parsed.id,
            parsed.priority,
            arrived_ns + parsed.timeout_ns if parsed.timeout_ns else NEVER_NS,
            None,
            parsed.parameters,
        )

    def _misses_required(self, tensors: list[InputTensor | None]) -> bool:
        pairs = zip(self._inputs, tensors, strict=True)
        return any(tensor is None and not spec.optional for spec, tensor in pairs)

    def _common_rows(self, given: dict[str, Given]) -> int:
        """The number of rows, which all inputs must share."""
        rows = -1
        for name, (_, shape, _) in given.items():
            if not shape:
                raise WrongShape(f"input '{name}' has no shape but model requires batch dimension for '{self._model}'")
            if rows == -1:
                rows = shape[0]
            elif rows != shape[0]:
                raise WrongShape(f"input '{name}' batch size does not match other inputs for '{self._model}'")
        if rows > self._max_batch_size:
            raise WrongShape(
                f"inference request batch-size must be <= {self._max_batch_size} for '{self._model}'; it is {rows}",
                hint="send several requests, or raise max_batch_size in config.pbtxt (or batching.max_batch_size)",
                limit=self._max_batch_size,
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
            raise self._wrong_bytes(spec.name, expected, len(data))
        if spec.datatype is Datatype.BOOL and bytes(data).strip(b"\0\1"):
            raise InvalidArgument(f"input {spec.name!r} is BOOL and holds a byte that is neither 0 nor 1")
        return data

    def _wrong_bytes(self, name: str, expected: int, got: int) -> WrongByteSize:
        return WrongByteSize(
            f"input byte size mismatch for input '{name}' for model '{self._model}'. Expected {expected}, got {got}"
        )

    def _wrong_inputs(self, given: dict[str, Given]) -> UnknownTensor:
        missing = [spec.name for spec in self._inputs if spec.name not in given and not spec.optional]
        return UnknownTensor(
            f"expected {len(self._inputs)} inputs but got {len(given)} inputs for model '{self._model}'. "
            f"Got input(s) {sorted(given)}, but missing required input(s) {missing}. "
            "Please provide all required input(s)."
        )

    def _wrong_shape(self, spec: TensorSpec, shape: Shape) -> WrongShape:
        declared = [-1, *spec.shape] if self._max_batch_size else list(spec.shape)
        note = " The first dimension is the batch: max_batch_size is not 0." if self._max_batch_size else ""
        return WrongShape(
            f"unexpected shape for input '{spec.name}' for model '{self._model}'. "
            f"Expected {declared}, got {list(shape)}.{note}"
        )

    # --- everything beside the inputs ---------------------------------------------------------------------

    def _read_rest(self, document: dict[str, Any]) -> Parsed:
        parsed = Parsed()
        if "id" in document:
            parsed.id = _text("id", document["id"]) or None
        if "parameters" in document:
            self._read_parameters(document["parameters"], parsed)
        return parsed

    def _read_parameters(self, parameters: Any, parsed: Parsed) -> None:  # noqa: ANN401
        if parameters.__class__ is not dict:
            raise MalformedRequest("'parameters' must be an object")
        own: dict[str, Any] = {}
        for name, value in parameters.items():
            if name == "priority":
                parsed.priority = _unsigned(name, value)
            elif name == "timeout":
                parsed.timeout_ns = _unsigned(name, value) * 1000
            elif name in ("binary_data_output", "sequence_start", "sequence_end"):
                _boolean(name, value)
            elif name == "sequence_id":
                if value.__class__ is not str:
                    _unsigned(name, value)
            elif name.startswith("triton_"):
                raise ReservedParameter(
                    "parameter keys starting with 'triton_' are reserved for Triton usage and should not be specified.",
                    hint=f"rename parameter {name!r}",
                )
            elif not isinstance(value, str | int | float):
                raise InvalidArgument(
                    f"parameter '{name}' has invalid type. It should be either 'int', 'bool', or 'string'."
                )
            else:
                own[name] = value
        parsed.parameters = own or None
        parsed.binary = bool(parameters.get("binary_data_output", False))

    def _read_choices(self, entries: Any, parsed: Parsed) -> None:  # noqa: ANN401
        """Take in the outputs that are asked for; that the model does not have one is told last."""
        if entries.__class__ is not list and entries != ():
            raise MalformedRequest(f"'outputs' is {type(entries).__name__}; it must be an array")
        if not entries:
            if parsed.binary:
                every = range(len(self._outputs))
                parsed.choices = tuple(OutputChoice(index, binary=True, classes=0) for index in every)
            return
        default = parsed.binary and self._binary_overrides_listed
        choices: dict[int, OutputChoice] = {}
        unknown: list[str] = []
        for entry in entries:
            if entry.__class__ is not dict or "name" not in entry:
                raise MalformedRequest("an element of 'outputs' has no member 'name'")
            name = _text("name", entry["name"])
            parameters = entry.get("parameters")
            choice = self._read_output(name, parameters if parameters.__class__ is dict else {}, default=default)
            if choice is None:
                unknown.append(name)
            else:
                choices.setdefault(choice.index, choice)
        if unknown:
            raise UnknownTensor(
                f"unexpected inference output '{unknown[0]}' for model '{self._model}'",
                hint=f"outputs of {self._model}: {', '.join(self._outputs)}",
            )
        parsed.choices = tuple(choices[index] for index in sorted(choices))

    def _read_output(self, name: str, parameters: dict[str, Any], *, default: bool) -> OutputChoice | None:
        """None if the model has no such output."""
        region = parameters.get("shared_memory_region")
        if region is not None and "classification" in parameters:
            raise InvalidArgument("Output can't set both 'shared_memory_region' and 'classification'")
        classes = parameters.get("classification", 0)
        if classes.__class__ is not int or not 0 <= classes < 2**64:
            raise MalformedRequest(f"'classification' of output {name!r} is {classes!r}; it must be a count")
        binary = parameters.get("binary_data", default)
        if binary.__class__ is not bool:
            raise MalformedRequest(f"'binary_data' of output {name!r} is {binary!r}; it must be true or false")
        if region is not None:
            if "binary_data" in parameters and binary:
                raise InvalidArgument("Output can't set both 'shared_memory_region' and 'binary_data'")
            raise _no_region(region)
        index = self._outputs.get(name)
        return None if index is None else OutputChoice(index, binary, classes)


def _content_of(entry: Any) -> tuple[Any, Any]:  # noqa: ANN401
    """The JSON data of an input, or what it says about the number of bytes it has in the binary part."""
    if entry.__class__ is not dict:
        raise InvalidArgument(f"Input {_ONE_CONTENT}. But no field is set")
    parameters = entry.get("parameters")
    if parameters.__class__ is not dict or not parameters:
        if "data" not in entry:
            raise InvalidArgument(f"Input {_ONE_CONTENT}. But no field is set")
        return entry["data"], None
    size, region = parameters.get("binary_data_size"), parameters.get("shared_memory_region")
    if ("data" in entry) + (size is not None) + (region is not None) != 1:
        raise InvalidArgument(f"Input {_ONE_CONTENT}")
    if region is not None:
        raise _no_region(region)
    return (entry["data"], None) if size is None else (None, size)


def _bucket(shapes: list[tuple[int, Shape]], given: dict[str, Given]) -> Hashable:
    """Requests run together if they bring the same inputs in the same shapes, in whatever order they name them."""
    return (*sorted(shapes), *sorted(given))


def _no_body() -> InvalidArgument:
    return InvalidArgument("the request has no body", hint="GET /v2/openapi.json shows the form")


def _no_region(region: Any) -> NotFound:  # noqa: ANN401
    return NotFound(
        f"Unable to find shared memory region: '{region}'", hint="send the tensor in the body: shared memory is off"
    )


def _text(member: str, value: Any) -> str:  # noqa: ANN401
    if value.__class__ is not str:
        raise MalformedRequest(f"'{member}' is {type(value).__name__}; it must be a string")
    return str(value)


def _unsigned(name: str, value: Any) -> int:  # noqa: ANN401
    if value.__class__ is not int or not 0 <= value < 2**64:
        raise MalformedRequest(f"parameter '{name}' is {str(value)[:40]!r}; it must be an unsigned integer")
    return int(value)


def _boolean(name: str, value: Any) -> None:  # noqa: ANN401
    if value.__class__ is not bool:
        raise MalformedRequest(f"parameter '{name}' is {str(value)[:40]!r}; it must be true or false")
