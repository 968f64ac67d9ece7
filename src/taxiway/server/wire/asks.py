"""What a request says beside its tensors: its parameters, and the outputs it wants, whatever protocol it came in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from taxiway.core.errors import InvalidArgument, MalformedRequest, ReservedParameter, UnknownTensor
from taxiway.core.requests import SequenceStep
from taxiway.core.tensors import TensorSpec
from taxiway.server.shared_memory import NO_REGIONS, Regions, Window


@dataclass(frozen=True, slots=True)
class OutputChoice:
    """One output as it was asked for: its index, in binary or not, as `classes` best classes or (0) as it is.

    `window` is where in shared memory it is to be written instead of into the answer; it is `binary` then.
    """

    index: int
    binary: bool
    classes: int
    window: Window | None = None


_PLACE = ("shared_memory_offset", "shared_memory_byte_size")

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
    empty_final: bool = False
    """Whether the end of several answers is to be told in a response of its own."""
    copied: int = 0
    """Bytes of inputs that were copied from shared memory."""
    sequence: SequenceStep | None = None
    """The sequence that it says it belongs to, which only stateful models heed."""


NOTHING_MORE = Parsed()
"""What a request says that has nothing but inputs."""


def read_parameters(parameters: Any, parsed: Parsed) -> None:  # noqa: ANN401
    """Take in the parameters of a whole request.

    Raises:
        InvalidArgument: one that the protocol reserves is used wrongly, or one's value is of no type it may have.
    """
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
            parsed.sequence = _step(value, parameters)
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


def every_output(outputs: Sequence[TensorSpec]) -> Choices:
    """All of them, as JSON."""
    return tuple(OutputChoice(index, binary=False, classes=0) for index in range(len(outputs)))


class OutputMenu:
    """The outputs that one version of a model has, as requests ask for them.

    Args:
        binary_overrides_listed: `binary_data_output` also speaks for outputs that are listed (the protocol's text),
            or only for those that are not (what Triton does).
        regions: where outputs may be written.
    """

    def __init__(
        self,
        model: str,
        outputs: Sequence[TensorSpec],
        *,
        binary_overrides_listed: bool,
        regions: Regions = NO_REGIONS,
    ) -> None:
        self._model = model
        self._outputs = {spec.name: index for index, spec in enumerate(outputs)}
        self._binary_overrides_listed = binary_overrides_listed
        self._regions = regions

    def all_binary(self) -> Choices:
        """Every output, in binary."""
        return tuple(OutputChoice(index, binary=True, classes=0) for index in range(len(self._outputs)))

    def read(self, entries: Any, parsed: Parsed) -> None:  # noqa: ANN401
        """Take in the outputs that are asked for; that the model does not have one is told last.

        Raises:
            InvalidArgument: what is wrong with them.
        """
        if entries.__class__ is not list and entries != ():
            raise MalformedRequest(f"'outputs' is {type(entries).__name__}; it must be an array")
        if not entries:
            if parsed.binary:
                parsed.choices = self.all_binary()
            return
        default = parsed.binary and self._binary_overrides_listed
        choices: dict[int, OutputChoice] = {}
        unknown: list[str] = []
        for entry in entries:
            if entry.__class__ is not dict or "name" not in entry:
                raise MalformedRequest("an element of 'outputs' has no member 'name'")
            name = text_of("name", entry["name"])
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
        if region is not None and "binary_data" in parameters and binary:
            raise InvalidArgument("Output can't set both 'shared_memory_region' and 'binary_data'")
        window = None if region is None else self._regions.find(*place_of(parameters))
        index = self._outputs.get(name)
        return None if index is None else OutputChoice(index, binary or window is not None, classes, window)


def _step(id: Any, parameters: Mapping[str, Any]) -> SequenceStep | None:  # noqa: A002, ANN401 - the protocol's word
    """The sequence that a request names; 0 and the empty text name none."""
    if id.__class__ is not str:
        _unsigned("sequence_id", id)
    starts, ends = (parameters.get(name, False) for name in ("sequence_start", "sequence_end"))
    return SequenceStep(id, starts, ends) if id else None


def place_of(parameters: Mapping[str, Any]) -> tuple[str, int, int]:
    """Where a tensor's parameters say that it is in shared memory: the region's name, offset and bytes.

    Raises:
        MalformedRequest: they are not of their types.
    """
    region = text_of("shared_memory_region", parameters["shared_memory_region"])
    offset, byte_size = (_unsigned(name, parameters.get(name, 0)) for name in _PLACE)
    return region, offset, byte_size


def text_of(member: str, value: Any) -> str:  # noqa: ANN401
    """`value`, which must be a string.

    Raises:
        MalformedRequest: it is not.
    """
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
