"""A ModelInferRequest into `InferRequest`: typed contents and raw ones, by Triton's rules."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from typing import Any

from taxiway.core.errors import InvalidArgument, MalformedRequest, UnknownTensor, ValueOutOfRange, WrongElementCount
from taxiway.core.requests import InferRequest, Responder
from taxiway.core.tensors import Datatype, Shape
from taxiway.server.shared_memory import NO_REGIONS, Regions
from taxiway.server.signature import Given, Signature
from taxiway.server.wire.asks import NOTHING_MORE, OutputMenu, Parsed, place_of, read_parameters
from taxiway.server.wire.elements import Elements
from taxiway.server.wire.grpc.protos import Message

CONTENTS: Mapping[Datatype, tuple[str, str]] = {
    Datatype.BOOL: ("bool_contents", "B"),
    Datatype.INT8: ("int_contents", "b"),
    Datatype.INT16: ("int_contents", "h"),
    Datatype.INT32: ("int_contents", "i"),
    Datatype.INT64: ("int64_contents", "q"),
    Datatype.UINT8: ("uint_contents", "B"),
    Datatype.UINT16: ("uint_contents", "H"),
    Datatype.UINT32: ("uint_contents", "I"),
    Datatype.UINT64: ("uint64_contents", "Q"),
    Datatype.FP32: ("fp32_contents", "f"),
    Datatype.FP64: ("fp64_contents", "d"),
    Datatype.BYTES: ("bytes_contents", ""),
}
"""The list of InferTensorContents that holds a datatype's elements, and the typecode of `array` that packs them."""
_FINAL_RESPONSE = "triton_enable_empty_final_response"
"""The one reserved name that a request may use: it concerns models that answer several times."""
_SAY_SOMETHING = ("classification", "shared_memory_")
"""How the parameters of an output begin that mean something over gRPC."""


class MessageReader:
    """Reads requests for one version of a model."""

    def __init__(self, signature: Signature, menu: OutputMenu, regions: Regions = NO_REGIONS) -> None:
        self._signature = signature
        self._menu = menu
        self._regions = regions

    def read(
        self, message: Message, raw: Sequence[bytes | memoryview], nbytes: int, responder: Responder, arrived_ns: int
    ) -> tuple[InferRequest, Parsed]:
        """The request in `message`.

        Args:
            message: a ModelInferRequest.
            raw: its raw contents, which need not be in it.
            nbytes: of the whole message.
            responder: is told the answer.
            arrived_ns: when it came, on the monotonic clock.

        Raises:
            InvalidArgument: what is wrong with it, and where.
        """
        parsed = self._read_rest(message)
        given, copied = self._read_inputs(message, raw)
        return self._signature.assemble(given, parsed, nbytes + copied, responder, arrived_ns), parsed

    # --- inputs -------------------------------------------------------------------------------------------

    def _read_inputs(self, message: Message, raw: Sequence[bytes | memoryview]) -> tuple[dict[str, Given], int]:
        """What was sent, by name, and how many bytes of it were copied from shared memory."""
        given: dict[str, Given] = {}
        used = copied = 0
        for entry in message.inputs:
            name, dims = entry.name, tuple(entry.shape)
            if name in given:
                raise UnknownTensor(f"input '{name}' already exists in request")
            datatype = Datatype.by_name(entry.datatype)
            if entry.HasField("contents"):
                data = self._typed(entry, name, datatype, dims, raw=raw)
            elif entry.parameters and "shared_memory_region" in entry.parameters:
                self._count(name, dims)
                data = self._regions.read(*place_of(parameter_values(entry.parameters)))
                copied += len(data)
            elif used < len(raw):
                self._count(name, dims)
                data = memoryview(raw[used])
                used += 1
            else:
                raise InvalidArgument(
                    f"unable to find data for input tensor '{name}' for model '{self._signature.model}' in request."
                )
            given[name] = (datatype, dims, data)
        return given, copied

    def _typed(
        self, entry: Message, name: str, datatype: Datatype | None, dims: Shape, *, raw: Sequence[bytes | memoryview]
    ) -> Elements:
        model = self._signature.model
        if raw:
            raise InvalidArgument(
                f"contents field must not be specified when using raw_input_contents for '{name}' for model '{model}'"
            )
        if entry.parameters and "shared_memory_region" in entry.parameters:
            raise InvalidArgument(
                f"unexpected 'content' provided when using shared memory for input tensor '{name}' for model '{model}'"
            )
        if datatype is None:
            raise InvalidArgument(f"invalid datatype for input {name}: {entry.datatype[:40]!r}")
        return typed_elements(name, datatype, entry.contents, self._count(name, dims))

    def _count(self, name: str, dims: Shape) -> int | None:
        """Elements of a shape that is sane; None if there is no shape to count by, which is told later."""
        signature = self._signature
        position = signature.positions.get(name)
        count = signature.known_shapes[position].get(dims) if position is not None else None
        if count is None and (dims or not signature.max_batch_size):
            count = signature.count_sane(name, dims)
        return count

    # --- everything beside the inputs ---------------------------------------------------------------------

    def _read_rest(self, message: Message) -> Parsed:
        identity = message.id
        if not identity and not message.parameters and not message.outputs:
            return NOTHING_MORE
        parsed = Parsed(id=identity or None)
        if message.parameters:
            values = parameter_values(message.parameters)
            parsed.empty_final = values.pop(_FINAL_RESPONSE, False)
            if parsed.empty_final.__class__ is not bool:
                raise MalformedRequest(f"parameter '{_FINAL_RESPONSE}' must be true or false")
            read_parameters(values, parsed)
        if message.outputs:
            parsed.binary = True
            self._menu.read([_asked_output(entry) for entry in message.outputs], parsed)
        return parsed


def typed_elements(name: str, datatype: Datatype, contents: Message, count: int | None) -> Elements:
    """The elements in an InferTensorContents, which must be `count` if that is given.

    Raises:
        InvalidArgument: a datatype that has no list there (FP16, BF16), or elements in the list of another one.
        WrongElementCount, ValueOutOfRange: what it says, naming the input.
    """
    if datatype not in CONTENTS:
        raise InvalidArgument(
            f"input '{name}' is {datatype.wire_name}, which 'contents' cannot hold",
            hint="send its bytes in raw_input_contents",
        )
    field, typecode = CONTENTS[datatype]
    for held, _ in contents.ListFields():
        if held.name != field:
            raise InvalidArgument(
                f"unexpected explicit tensor data for input tensor '{name}' in '{held.name}'; "
                f"{datatype.wire_name} belongs in '{field}'"
            )
    values = list(getattr(contents, field))
    if count is not None and len(values) != count:
        raise WrongElementCount(f"input {name!r} has {len(values)} elements in '{field}'; its shape says {count}")
    if not typecode:
        return values
    try:
        return array(typecode, values)
    except OverflowError as problem:
        raise ValueOutOfRange(f"an element of input {name!r} does not fit {datatype.wire_name}: {problem}") from None


def _asked_output(entry: Message) -> dict[str, Any]:
    """An output as the menu reads it. Answers are raw: `binary_data` says nothing here; nor does what is unknown."""
    given = {name: value for name, value in entry.parameters.items() if name.startswith(_SAY_SOMETHING)}
    values = parameter_values(given)
    if values.get("classification") == 0:  # in JSON that says "no classes", as if it were not there
        raise MalformedRequest(f"'classification' of output {entry.name!r} is 0; it must be a count of 1 or more")
    return {"name": entry.name, "parameters": values}


def parameter_values(parameters: Mapping[str, Message]) -> dict[str, Any]:
    """A map of InferParameter as Python's own values.

    Raises:
        MalformedRequest: one has no value.
    """
    return {name: parameter_value(name, value) for name, value in parameters.items()}


def parameter_value(name: str, parameter: Message) -> Any:  # noqa: ANN401 - any of five types
    """The value of an InferParameter, or of a parameter of the repository.

    Raises:
        MalformedRequest: it has none.
    """
    kind = parameter.WhichOneof("parameter_choice")
    if kind is None:
        raise MalformedRequest(f"parameter '{name}' has no value")
    return getattr(parameter, kind)
