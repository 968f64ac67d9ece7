"""Inference requests of the Open Inference Protocol v2, JSON and binary, into `InferRequest`.

Reading goes in Triton's order, since the order decides which error a request with several mistakes gets: first the
JSON of every member, then what is missing or unknown, then batch, datatype and shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

from taxiway.config.model_spec import ModelSpec
from taxiway.core.errors import InvalidArgument, MalformedRequest, UnknownTensor, WrongByteSize
from taxiway.core.requests import InferRequest, Responder
from taxiway.core.tensors import Datatype, Shape, TensorSpec, count_elements
from taxiway.server.shared_memory import NO_REGIONS, Regions
from taxiway.server.signature import Given, Signature, WireLimits
from taxiway.server.wire.asks import NOTHING_MORE, OutputMenu, Parsed, place_of, read_parameters, text_of
from taxiway.server.wire.elements import elements_of, parse_json
from taxiway.server.wire.exchange import Buffer

_INT_ONLY = {int}
_ONE_CONTENT = (
    "must set only one of the following fields: 'data', 'binary_data_size' in 'parameters', "
    "'shared_memory_region' in 'parameters'"
)


class RequestReader:
    """Reads requests for one version of a model.

    Args:
        binary_overrides_listed: `binary_data_output` also speaks for outputs that are listed (the protocol's text),
            or only for those that are not (what Triton does).
        regions: where inputs may lie, and outputs be written.
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
        regions: Regions = NO_REGIONS,
    ) -> None:
        signature = Signature(model, inputs, max_batch_size, limits)
        self._model = model
        self._limits = limits
        self._max_batch_size = max_batch_size
        self._signature = signature
        self._inputs = signature.inputs
        self._positions = signature.positions
        self._known_shapes = signature.known_shapes
        self._count = signature.count_sane
        self._assemble = signature.assemble
        self._regions = regions
        self._menu = OutputMenu(model, outputs, binary_overrides_listed=binary_overrides_listed, regions=regions)

    @classmethod
    def of(
        cls,
        spec: ModelSpec,
        limits: WireLimits,
        *,
        binary_overrides_listed: bool = True,
        regions: Regions = NO_REGIONS,
    ) -> Self:
        """The reader for a model as it is configured."""
        return cls(
            spec.name,
            spec.inputs,
            spec.outputs,
            max_batch_size=spec.max_batch_size,
            limits=limits,
            binary_overrides_listed=binary_overrides_listed,
            regions=regions,
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
        parsed = self._read_rest(document) if len(document) > 1 else NOTHING_MORE
        given, copied = self._read_inputs(entries, tail)
        if copied:
            parsed = replace(parsed, copied=copied)
        if parsed is not NOTHING_MORE:
            self._menu.read(document.get("outputs", ()), parsed)
        return self._assemble(given, parsed, len(body) + copied, responder, arrived_ns), parsed

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
        parsed = Parsed(choices=self._menu.all_binary())
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
            raise self._signature.wrong_bytes(spec.name, fixed, size)
        if fixed == 0 or size % fixed:
            raise WrongByteSize(f"the raw input '{spec.name}' is {size} bytes, not a multiple of {fixed}")
        return tuple(size // fixed if dim == -1 else dim for dim in spec.shape)

    # --- inputs: what was sent ----------------------------------------------------------------------------

    def _read_inputs(self, entries: Any, tail: memoryview) -> tuple[dict[str, Given], int]:  # noqa: ANN401
        """What was sent, by name, and how many bytes of it were copied from shared memory."""
        if entries.__class__ is not list:
            raise MalformedRequest(f"'inputs' is {type(entries).__name__}; it must be an array")
        given: dict[str, Given] = {}
        used = copied = 0
        for entry in entries:
            data, size = _content_of(entry)
            name, datatype, shape, count = self._read_head(entry)
            if size is None:
                if datatype is None:
                    raise InvalidArgument(f"invalid datatype for input {name}: {str(entry['datatype'])[:40]!r}")
                data = elements_of(name, datatype, data, count, self._limits.max_json_depth)
            elif size.__class__ is dict:
                data = self._regions.read(*place_of(size))
                copied += len(data)
            else:
                if size.__class__ is not int or size < 0:
                    raise MalformedRequest(f"parameter 'binary_data_size' is {size!r}; it must be a number of bytes")
                data = tail[used : used + size]
                used += size
                if len(data) != size:
                    raise WrongByteSize(
                        f"unexpected size for input '{name}', expecting {size - len(data)} additional bytes "
                        f"for model '{self._model}'"
                    )
            if name in given:
                raise UnknownTensor(f"input '{name}' already exists in request")
            given[name] = (datatype, shape, data)
        if used != len(tail):
            raise WrongByteSize(
                f"unexpected additional input data for model '{self._model}': "
                f"{len(tail) - used} bytes after the last tensor"
            )
        return given, copied

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

    def _read_rest(self, document: dict[str, Any]) -> Parsed:
        parsed = Parsed()
        if "id" in document:
            parsed.id = text_of("id", document["id"]) or None
        if "parameters" in document:
            read_parameters(document["parameters"], parsed)
        return parsed


def _content_of(entry: Any) -> tuple[Any, Any]:  # noqa: ANN401
    """The JSON data of an input, or its bytes in the binary part, or its parameters if it is in shared memory."""
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
        return None, parameters
    return (entry["data"], None) if size is None else (None, size)


def _no_body() -> InvalidArgument:
    return InvalidArgument("the request has no body", hint="GET /v2/openapi.json shows the form")
