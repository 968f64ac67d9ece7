"""Triton's model configuration as a message: read from config.pbtxt or JSON, printed as Triton prints it.

The message's names live in a descriptor pool of our own: tritonclient's and KServe's generated code both
claim them in the default pool, and whoever comes second there cannot be imported at all.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Iterator
from importlib import resources
from typing import Any, TypeAlias

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory, text_format

from taxiway.config.problems import Problem, invalid_config, suggest
from taxiway.core.errors import InvalidConfig
from taxiway.core.tensors import Datatype

ModelConfig: TypeAlias = Any
"""An `inference.ModelConfig` of the private pool; mypy cannot see fields of a class made at run time."""

MAX_TEXT_CHARS = 4 << 20
"""Characters of a configuration that are read; the largest in the field are a few kilobytes."""

DATATYPES: dict[str, Datatype] = {
    "TYPE_STRING" if datatype is Datatype.BYTES else f"TYPE_{datatype.wire_name}": datatype for datatype in Datatype
}
"""The configuration's enum name -> the protocol's datatype."""

TYPE_NAMES: dict[Datatype, str] = {datatype: name for name, datatype in DATATYPES.items()}

_DESCRIPTORS = descriptor_pb2.FileDescriptorSet.FromString(
    resources.files("taxiway.config").joinpath("model_config.binpb").read_bytes()
)
POOL = descriptor_pool.DescriptorPool()
"""Everything of protobuf that is ours: the wire adds its own files here, since they import this one."""
for _file in _DESCRIPTORS.file:
    POOL.Add(_file)
_CLASS = message_factory.GetMessageClass(POOL.FindMessageTypeByName("inference.ModelConfig"))


def _repeated_fields() -> frozenset[str]:
    """Full names of the repeated fields; the runtime's own accessor has changed its name."""
    found: set[str] = set()

    def visit(message: descriptor_pb2.DescriptorProto, prefix: str) -> None:
        name = f"{prefix}.{message.name}"
        repeated = descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED
        found.update(f"{name}.{field.name}" for field in message.field if field.label == repeated)
        for nested in message.nested_type:
            visit(nested, name)

    for file in _DESCRIPTORS.file:
        for message in file.message_type:
            visit(message, file.package)
    return frozenset(found)


_REPEATED = _repeated_fields()


def new_config() -> ModelConfig:
    """An empty configuration."""
    return _CLASS()


def type_name(message: ModelConfig) -> str:
    """The name in a message's `data_type`; TYPE_INVALID for a number without one."""
    named = message.DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number.get(message.data_type)
    return "TYPE_INVALID" if named is None else str(named.name)


# --- reading -------------------------------------------------------------------------------------------


def parse_pbtxt(text: str, where: str) -> ModelConfig:
    """Read protobuf text format.

    Args:
        text: the content of a config.pbtxt.
        where: the file's name, for messages.

    Raises:
        InvalidConfig: `text` is not a ModelConfig; names file, line and column of the first error.
    """
    message = new_config()
    _check_size(text, where)
    try:
        text_format.Parse(text, message, descriptor_pool=POOL)
    except text_format.ParseError as error:
        line, column = error.GetLine(), error.GetColumn()
        at = where if line is None else f"{where}:{line}:{column or 1}"
        said = re.sub(r"^\d+:\d+ : ", "", str(error)).rstrip(".")
        raise _unreadable(Problem("", "", said + _did_you_mean(said), at)) from None
    _check_enums(message, where)
    return message


def from_json(text: str, where: str = "configuration") -> ModelConfig:
    """Read the JSON that `/config` prints and the load call takes; 64-bit integers are numbers or strings.

    Raises:
        InvalidConfig: `text` is not JSON or not a ModelConfig.
    """
    _check_size(text, where)
    message = new_config()
    try:
        document = json.loads(text, object_pairs_hook=_without_duplicates)
        if not isinstance(document, dict):
            raise _unreadable(Problem("", "", "must be a JSON object", where))
        json_format.ParseDict(document, message, descriptor_pool=POOL)
    except json_format.ParseError as error:
        said = str(error).strip().splitlines()[0].rstrip(".")
        raise _unreadable(Problem("", "", said + _did_you_mean(said), where)) from None
    except RecursionError:
        raise _unreadable(Problem("", "", "nests too deep", where)) from None
    except ValueError as error:
        raise _unreadable(Problem("", "", str(error), where)) from None
    _check_enums(message, where)
    return message


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    twice = next((name for index, name in enumerate(names) if name in names[:index]), None)
    if twice is not None:
        raise ValueError(f"{twice!r} is given twice")
    return dict(pairs)


def _check_enums(message: ModelConfig, where: str) -> None:
    """Refuse enum numbers without a name: protobuf keeps them, and nobody could say what they mean."""
    problems = [
        Problem(path, number, f"must be one of {', '.join(field.enum_type.values_by_name)}", where)
        for path, field, number in _enum_values(message, "")
        if number not in field.enum_type.values_by_number
    ]
    if problems:
        raise invalid_config("the model configuration", problems, hint="write enums by name")


def _enum_values(message: ModelConfig, prefix: str) -> Iterator[tuple[str, Any, int]]:
    for field, value in message.ListFields():
        path = f"{prefix}{field.name}"
        repeated = field.full_name in _REPEATED
        if repeated and field.message_type is not None and field.message_type.GetOptions().map_entry:
            items = [(f"{path}[{key}]", value[key]) for key in sorted(value)]
        else:
            items = [(f"{path}[{i}]", item) for i, item in enumerate(value)] if repeated else [(path, value)]
        for inner, item in items:
            if field.enum_type is not None:
                yield inner, field, item
            elif hasattr(item, "ListFields"):
                yield from _enum_values(item, f"{inner}.")


def _check_size(text: str, where: str) -> None:
    if len(text) > MAX_TEXT_CHARS:
        rule = f"must be at most {MAX_TEXT_CHARS} characters, has {len(text)}"
        raise _unreadable(Problem("", len(text), rule, where))


def _unreadable(problem: Problem) -> InvalidConfig:
    hint = "the fields are those of Triton's ModelConfig; see docs/configuration.md"
    return invalid_config("the model configuration", [problem], hint=hint)


def _did_you_mean(said: str) -> str:
    """A suggestion if protobuf complained of an unknown field or enum value."""
    match = re.search(r'type "([\w.]+)" (?:does not have a field|has no field) named "([^"]+)"', said)
    if match:
        try:
            descriptor = POOL.FindMessageTypeByName(match[1])
        except KeyError:
            return ""
        return suggest(match[2], [field.name for field in descriptor.fields])
    match = re.search(r'[Ee]num type "([\w.]+)" has no value named "?([\w]+)', said)
    if match:
        return suggest(match[2], list(POOL.FindEnumTypeByName(match[1]).values_by_name))
    match = re.search(r"Invalid enum value (\w+) for enum type ([\w.]+)", said)
    if match:
        return suggest(match[1], list(POOL.FindEnumTypeByName(match[2]).values_by_name))
    return ""


# --- printing ------------------------------------------------------------------------------------------


def to_json_dict(message: ModelConfig) -> dict[str, Any]:
    """The configuration as Triton's `/config` prints it.

    Fields in the order of the .proto, under their .proto names; every primitive, list and map even if it has
    its default; messages and members of a oneof only if set; enums by name; 64-bit integers as numbers. Map
    keys are strings, as JSON has no others, in ascending order.
    """
    printed: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if field.full_name in _REPEATED:
            printed[field.name] = _print_repeated(field, value)
        elif not field.has_presence or message.HasField(field.name):
            printed[field.name] = _print_value(field, value)
    return printed


def to_json(message: ModelConfig) -> str:
    """`to_json_dict` as text without spaces, as Triton writes it."""
    return json.dumps(to_json_dict(message), separators=(",", ":"), ensure_ascii=False)


def to_pbtxt(message: ModelConfig) -> str:
    """The configuration as protobuf text format: what a config.pbtxt would hold."""
    return text_format.MessageToString(message, descriptor_pool=POOL, as_utf8=True)


def _print_repeated(field: Any, value: Any) -> list[Any] | dict[str, Any]:  # noqa: ANN401 - protobuf's own types
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        inner = field.message_type.fields_by_name["value"]
        return {str(key): _print_value(inner, value[key]) for key in sorted(value)}
    return [_print_value(field, item) for item in value]


def _print_value(field: Any, value: Any) -> Any:  # noqa: ANN401
    if field.message_type is not None:
        return to_json_dict(value)
    if field.enum_type is not None:
        named = field.enum_type.values_by_number.get(value)
        return value if named is None else named.name  # a number from a newer schema is kept
    if field.type in (field.TYPE_FLOAT, field.TYPE_DOUBLE):
        return _print_float(value, single=field.type == field.TYPE_FLOAT)
    return value


def _print_float(value: float, *, single: bool) -> float | str:
    """A number, the shortest that reads back the same if `single`; protobuf's words where JSON has none."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if single:
        for digits in range(6, 9):
            short = float(f"{value:.{digits}g}")
            if struct.pack("<f", short) == struct.pack("<f", value):
                return short
    return value
