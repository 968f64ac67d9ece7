"""The lines of a workload, checked one by one: what is wrong, in which field, and what to do about it. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Final

import orjson

from taxiway.core.tensors import Datatype, count_elements
from taxiway.profile.requests import FORMAT, Problem, Request

_MAX_TOKENS: Final = 100_000_000
_MAX_AT_S: Final = 1e10
_MAX_HEADERS: Final = 64
_MAX_RANK: Final = 32
_MAX_SHOWN: Final = 40
_MEMBERS: Final = Request.__slots__
Broken = tuple[str, str, str]
"""Field, rule and step of a `Problem`."""


class LineReader:
    """Takes the lines of one file in their order.

    Attributes:
        requests: of the lines that are right.
        problems: of the others.
        source: what the first line says of it; empty if it is a request.
    """

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.problems: list[Problem] = []
        self.source = ""
        self._last: tuple[int, float] | None = None
        """The number and the time of the last request with a time."""

    def take(self, number: int, line: bytes) -> None:
        """Read line `number`; an empty one is none."""
        if not line.strip():
            return
        try:
            said = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            self._problem(number, ("", f"is no JSON: {error.msg} at character {error.pos}", "write one object a line"))
            return
        if not isinstance(said, dict):
            self._problem(number, ("", f"is {_kind(said)}, not an object", 'write {"inputs": [...]}'))
        elif "format" in said and not self.requests:
            self._take_head(number, said)
        else:
            self._take_request(number, said)

    def _take_head(self, number: int, said: dict[str, Any]) -> None:
        if said["format"] != FORMAT:
            self._problem(number, ("format", f"is {_shown(said['format'])}, known is {FORMAT!r}", "convert the file"))
        self.source = str(said.get("source", ""))[:1000]

    def _take_request(self, number: int, said: dict[str, Any]) -> None:
        broken = list(_check(said))
        at_s = said.get("at_s")
        if not broken and at_s is not None:
            if self._last is not None and at_s < self._last[1]:
                rule = f"is {at_s:g}, before the {self._last[1]:g} of line {self._last[0]}"
                broken.append(("at_s", rule, "sort the lines by it"))
            self._last = number, at_s
        for one in broken:
            self._problem(number, one)
        if not broken:
            self.requests.append(Request(**{name: value for name, value in said.items() if value is not None}))

    def _problem(self, number: int, broken: Broken) -> None:
        self.problems.append(Problem(number, *broken))


def _check(said: dict[str, Any]) -> Iterator[Broken]:
    for name in said.keys() - set(_MEMBERS):
        yield name[:_MAX_SHOWN], "is not known", f"known are {', '.join(_MEMBERS)}"
    for name, check in _CHECKS.items():
        if said.get(name) is not None:
            yield from check(name, said[name])
    if said.get("inputs") is not None and said.get("body") is not None:
        yield "body", "stands beside inputs", "give one of the two"
    if said.get("inputs") is None and said.get("body") is None and said.get("input_tokens") is None:
        yield "inputs", "is missing, as are body and input_tokens", "give one of them"


def check_inputs(name: str, value: Any) -> Iterator[Broken]:  # noqa: ANN401 - JSON
    """What breaks a rule in tensors that are called `name`."""
    yield from _inputs(name, value)


# --- one member each ----------------------------------------------------------------------------------------


def _number(name: str, value: Any, least: float, most: float) -> Iterator[Broken]:  # noqa: ANN401 - JSON
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        yield name, f"is {_shown(value)}, not a number", "write a number, or leave it out"
    elif not least <= value <= most:
        yield name, f"is {value:g}, not within {least:g} and {most:g}", "correct it, or leave it out"


def _at_s(name: str, value: Any) -> Iterator[Broken]:  # noqa: ANN401 - JSON
    yield from _number(name, value, 0, _MAX_AT_S)


def _weight(name: str, value: Any) -> Iterator[Broken]:  # noqa: ANN401 - JSON
    yield from _number(name, value, 1e-9, 1e9)


def _tokens(name: str, value: Any) -> Iterator[Broken]:  # noqa: ANN401 - JSON
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MAX_TOKENS:
        yield name, f"is {_shown(value)}, not a whole number within 0 and {_MAX_TOKENS}", "count them, or leave it out"


def _headers(name: str, value: Any) -> Iterator[Broken]:  # noqa: ANN401 - JSON
    if not isinstance(value, dict) or len(value) > _MAX_HEADERS:
        yield name, f"is {_kind(value)}, not an object of at most {_MAX_HEADERS} texts", 'write {"X-Tenant": "a"}'
        return
    for key, text in value.items():
        if not isinstance(text, str) or set("\r\n\0") & set(key + text) or not key or ":" in key:
            yield f"{name}.{_shown(key)}", f"is {_shown(text)}, not one line of text", "write it as a text, in one line"


def _body(name: str, value: Any) -> Iterator[Broken]:  # noqa: ANN401 - JSON
    if not isinstance(value, dict):
        yield name, f"is {_kind(value)}, not an object", "write the JSON body of one request"


def _inputs(name: str, value: Any) -> Iterator[Broken]:  # noqa: ANN401 - JSON
    if not isinstance(value, list) or not value:
        yield name, f"is {_kind(value)}, not an array of tensors", f"write [{_EXAMPLE}]"
        return
    for index, tensor in enumerate(value):
        where = f"{name}[{index}]"
        if isinstance(tensor, dict):
            yield from _tensor(where, tensor)
        else:
            yield where, f"is {_kind(tensor)}, not a tensor", f"write {_EXAMPLE}"


_EXAMPLE: Final = '{"name": "x", "datatype": "FP32", "shape": [1, 4]}'


def _tensor(where: str, tensor: dict[str, Any]) -> Iterator[Broken]:
    label, datatype, shape = tensor.get("name"), tensor.get("datatype"), tensor.get("shape")
    if not isinstance(label, str) or not label:
        yield f"{where}.name", f"is {_shown(label)}, not a text", "name an input of the model"
    if not isinstance(datatype, str) or Datatype.by_name(datatype) is None:
        known = ", ".join(one.wire_name for one in Datatype)
        yield f"{where}.datatype", f"is {_shown(datatype)}", f"write one of {known}"
    if not _is_shape(shape):
        yield f"{where}.shape", f"is {_shown(shape)}, not an array of sizes", "write such as [1, 4]"
    elif tensor.get("data") is not None:
        yield from _data(where, tensor["data"], count_elements(tuple(tensor["shape"])))


def _is_shape(shape: Any) -> bool:  # noqa: ANN401 - JSON
    if not isinstance(shape, list) or len(shape) > _MAX_RANK:
        return False
    return all(isinstance(size, int) and not isinstance(size, bool) and 0 <= size < 2**40 for size in shape)


def _data(where: str, data: Any, elements: int) -> Iterator[Broken]:  # noqa: ANN401 - JSON
    count = _count(data) if isinstance(data, list) else -1
    if count < 0:
        yield f"{where}.data", f"is {_kind(data)}, not an array of elements", "write the elements, or leave it out"
    elif count != elements:
        yield f"{where}.data", f"has {count} elements, its shape has {elements}", "correct one of the two"


def _count(data: list[Any]) -> int:
    """Elements in arrays of arrays; -1 if one of them is an object or null."""
    count = 0
    stack = [data]
    while stack:
        for item in stack.pop():
            if isinstance(item, list):
                stack.append(item)
            elif isinstance(item, dict) or item is None:
                return -1
            else:
                count += 1
    return count


_CHECKS: Final[dict[str, Callable[[str, Any], Iterator[Broken]]]] = {
    "at_s": _at_s,
    "inputs": _inputs,
    "body": _body,
    "headers": _headers,
    "input_tokens": _tokens,
    "output_tokens": _tokens,
    "weight": _weight,
}


def _kind(value: Any) -> str:  # noqa: ANN401 - JSON
    """What JSON calls it."""
    kinds = {dict: "an object", list: "an array", str: "a text", bool: "a truth value", type(None): "null"}
    if value == []:
        return "empty"
    return kinds.get(type(value), "a number")


def _shown(value: Any) -> str:  # noqa: ANN401 - JSON
    """The beginning of it."""
    if value is None:
        return "missing"
    text = orjson.dumps(value).decode() if not isinstance(value, str) else repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."
