"""Which differences are intended: `deviations.toml`, read and matched.

In: an exchange with its differences. Out: the declarations that cover all of them, or none.
"""

from __future__ import annotations

import dataclasses
import math
import re
import struct
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from tests.oracle.compare import (
    Answer,
    Difference,
    Exchange,
    Members,
    answered_error,
    error_text,
    loads,
    plain_body,
)
from tests.oracle.lifecycle import AFTER_OVERRIDE, SERVED_ALREADY, SOME_BROKEN
from tests.oracle.replies import SPOILT_TWICE, CallExchange, Reply, parsed, request_type
from tests.oracle.requests import INFERENCE_HEADER, Request
from tests.oracle.words import error_class

DEVIATIONS: Final = Path(__file__).resolve().parents[2] / "deviations.toml"

FLOATS: Final = {"FP16": "<f2", "FP32": "<f4", "FP64": "<f8"}
"""numpy's names of the datatypes that have NaN."""
SCORE: Final = re.compile(r"-?[0-9]+\.[0-9]{6}")
"""The number of a classification, as std::to_string prints it."""


def _fp64_last_digits(exchange: Exchange, difference: Difference) -> bool:
    """Doubles at most 3 units in the last place apart, of an FP64 tensor sent as JSON; or classes of such doubles."""
    request, left, right = exchange.request, difference.triton, difference.taxiway
    body = plain_body(request)
    if b'"FP64"' not in body and "fp64" not in request.path:
        return False
    if difference.where.endswith("binary_data_size"):
        return b'"classification"' in body
    if isinstance(left, bytes):
        lists = [_doubles_or_classes(tensor, body) for tensor in (left, right)]
        return len(lists[0]) == len(lists[1]) and all(map(_nearly_equal, *lists))
    return _nearly_equal(left, right)


def _doubles_or_classes(tensor: bytes, body: bytes) -> list[Any]:
    """The elements of a binary tensor: texts if the request asks for classes, else doubles."""
    if b'"classification"' not in body:
        return list(np.frombuffer(tensor[: len(tensor) // 8 * 8], "<f8").tolist())
    items: list[Any] = []
    position = 0
    while position < len(tensor):
        size = int.from_bytes(tensor[position : position + 4], "little")
        items.append(tensor[position + 4 : position + 4 + size].decode("latin-1"))
        position += 4 + size
    return items


def _nearly_equal(left: Any, right: Any) -> bool:
    if isinstance(left, str) and isinstance(right, str):
        scores, places = zip(*(text.partition(":")[::2] for text in (left, right)), strict=True)
        alike = places[0] == places[1] and all(SCORE.fullmatch(score) for score in scores)
        left, right = map(float, scores) if alike else (left, right)
    return bool(left == right) or _ulps(left, right) <= 3


def _ulps(left: Any, right: Any) -> float:
    if not isinstance(left, float) or not isinstance(right, float) or math.isnan(left) or math.isnan(right):
        return math.inf
    steps = [struct.unpack("<q", struct.pack("<d", abs(value)))[0] for value in (left, right)]
    return abs(steps[0] - steps[1]) if math.copysign(1, left) == math.copysign(1, right) else math.inf


def _error_called_text(exchange: Exchange, difference: Difference) -> bool:
    """An error that Triton calls text and taxiway calls what it is."""
    refused = exchange.triton.status >= 400 and exchange.taxiway.status >= 400
    return refused and (difference.triton, difference.taxiway) == ("text/plain", "application/json")


def _repeats_member(exchange: Exchange, _: Difference) -> bool:
    """Some object of the request's JSON has two members of one name."""
    document = _document(exchange.request)
    return document is not None and any(len({key for key, _ in each}) < len(each) for each in _objects(document))


def _refused_input_is_empty(exchange: Exchange, _: Difference) -> bool:
    """The input that taxiway refuses has, by its shape, no elements; Triton counts none in an empty shape either."""
    name, document = _told_input(exchange.taxiway), _document(exchange.request)
    if name is None or document is None:
        return False
    named = (each for each in _objects(document) if each.get("name") == name)
    return any(each.get("shape") == [] or 0 in (each.get("shape") or []) for each in named)


def _holds_no_number(exchange: Exchange, _: Difference) -> bool:
    """Some element of the request is NaN, or an infinity, of which models make NaN."""
    body, document = plain_body(exchange.request), _document(exchange.request)
    if document is None or re.search(rb"NaN|Inf", body):
        return document is not None
    position = len(body) - sum(size for _, size in _binary_inputs(document))
    for datatype, size in _binary_inputs(document):
        part, position = body[position : position + size], position + size
        dtype = FLOATS.get(datatype)
        if dtype is not None and not np.isfinite(np.frombuffer(part, dtype)).all():
            return True
    return False


def _binary_inputs(document: Any) -> list[tuple[str, int]]:
    """Datatype and size of each input that is sent in binary, in their order."""
    given = [(each.get("datatype"), each.get("parameters")) for each in document.get("inputs")]
    sized = [(datatype, parameters.get("binary_data_size")) for datatype, parameters in given if parameters]
    return [(datatype, size) for datatype, size in sized if size is not None]


def _coding_in_two_lines(exchange: Exchange, _: Difference) -> bool:
    """The request has two headers Content-Encoding."""
    return sum(name.lower() == "content-encoding" for name, _ in exchange.request.headers) > 1


def _runs_no_model(exchange: Exchange, _: Difference) -> bool:
    """The request is for none of the routes that run a model."""
    request = exchange.request
    return request.method != "POST" or not request.path.endswith(("/infer", "/generate", "/generate_stream"))


def _tells_of_another_input(exchange: Exchange, _: Difference) -> bool:
    """Both errors name an input, and not the same one."""
    names = {_told_input(exchange.triton), _told_input(exchange.taxiway)}
    return None not in names and len(names) == 2


def _told_input(answer: Answer) -> str | None:
    """The input that an error names."""
    return _input_in(error_text(answer))


def _input_in(text: str) -> str | None:
    found = re.search(r"input '?([^' :]+)", text)
    return None if found is None else found[1]


def _document(request: Request) -> Any:
    """The JSON part of a request, or None where it has none."""
    body = plain_body(request)
    lengths = [value for name, value in request.headers if name.lower() == INFERENCE_HEADER.lower()]
    try:
        return loads(body[: int(lengths[0])] if lengths else body)
    except ValueError:
        return None


def _objects(value: Any) -> Iterator[Members]:
    """Every object in a JSON value."""
    if isinstance(value, Members):
        yield value
        children: list[Any] = [member for _, member in value]
    else:
        children = value if isinstance(value, list) else []
    for child in children:
        yield from _objects(child)


def _load_by_halves(exchange: Exchange | CallExchange, _: Difference) -> bool:
    """The last step was a load of a model of which some versions cannot be loaded."""
    return bool(exchange.history) and exchange.history[-1].endswith(SOME_BROKEN)


def _load_of_files(exchange: Exchange | CallExchange, _: Difference) -> bool:
    """Some step was a load that brought files of its own."""
    return any(re.match(r"load \w+ with .*'file:", step) for step in exchange.history)


def _load_of_files_again(exchange: Exchange | CallExchange, _: Difference) -> bool:
    """The last step was such a load, of a model that was loaded before."""
    return bool(exchange.history) and exchange.history[-1].endswith(SERVED_ALREADY)


def _load_after_override(exchange: Exchange | CallExchange, _: Difference) -> bool:
    """The last step was a plain load, and the one before of that model brought its configuration."""
    return bool(exchange.history) and exchange.history[-1].endswith(AFTER_OVERRIDE)


def _adds_reason(_: Exchange | CallExchange, difference: Difference) -> bool:
    """An index in which taxiway gives a reason more, or tells of something that Triton leaves out."""
    left, right = difference.triton, difference.taxiway
    if difference.where.endswith(" length"):
        return bool(left < right)
    if isinstance(left, list):
        return bool(right[: len(left)] == left and right[-1] == "reason")
    return left == "" and bool(right)


PREDICATES: Final[Mapping[str, Callable[[Exchange, Difference], bool]]] = {
    "adds-reason": _adds_reason,
    "coding-in-two-lines": _coding_in_two_lines,
    "error-called-text": _error_called_text,
    "fp64-last-digits": _fp64_last_digits,
    "holds-no-number": _holds_no_number,
    "load-after-override": _load_after_override,
    "load-by-halves": _load_by_halves,
    "load-of-files": _load_of_files,
    "load-of-files-again": _load_of_files_again,
    "refused-input-is-empty": _refused_input_is_empty,
    "repeats-member": _repeats_member,
    "runs-no-model": _runs_no_model,
    "tells-of-another-input": _tells_of_another_input,
}
"""What a deviation may name where patterns cannot say it."""


def _made_two_mistakes(exchange: CallExchange, _: Difference) -> bool:
    """Whoever made the request spoilt it twice."""
    return exchange.call.label == SPOILT_TWICE


def _not_a_message(exchange: CallExchange, _: Difference) -> bool:
    """Some message of the call cannot be read."""
    kind = request_type(exchange.call.rpc)
    return any(parsed(kind, message) is None for message in exchange.call.messages)


def _lists_output_twice(exchange: CallExchange, _: Difference) -> bool:
    """Some output is named twice."""
    requests: list[Any] = [parsed(request_type(exchange.call.rpc), message) for message in exchange.call.messages]
    named = [[output.name for output in request.outputs] for request in requests if request is not None]
    return any(len(set(names)) < len(names) for names in named)


def _call_holds_no_number(exchange: CallExchange, _: Difference) -> bool:
    """Some FP element of a request is NaN, or an infinity, of which models make NaN."""
    requests: list[Any] = [parsed(request_type(exchange.call.rpc), message) for message in exchange.call.messages]
    return any(map(_lacks_a_number, filter(None, requests)))


def _lacks_a_number(request: Any) -> bool:
    typed = [value for each in request.inputs for value in (*each.contents.fp32_contents, *each.contents.fp64_contents)]
    raw = zip((each.datatype for each in request.inputs), request.raw_input_contents, strict=False)
    arrays = [np.frombuffer(data, FLOATS[datatype]) for datatype, data in raw if datatype in FLOATS]
    return not np.isfinite(typed).all() or any(not np.isfinite(array).all() for array in arrays)


def _tells_of_another_tensor(exchange: CallExchange, _: Difference) -> bool:
    """Both errors name an input, and not the same one."""
    names = {_input_in(exchange.triton.details), _input_in(exchange.taxiway.details)}
    return None not in names and len(names) == 2


CALL_PREDICATES: Final[Mapping[str, Callable[[CallExchange, Difference], bool]]] = {
    "adds-reason": _adds_reason,
    "holds-no-number": _call_holds_no_number,
    "lists-output-twice": _lists_output_twice,
    "load-after-override": _load_after_override,
    "load-by-halves": _load_by_halves,
    "load-of-files": _load_of_files,
    "load-of-files-again": _load_of_files_again,
    "made-two-mistakes": _made_two_mistakes,
    "not-a-message": _not_a_message,
    "tells-of-another-input": _tells_of_another_tensor,
}
"""The same for gRPC calls."""


@dataclasses.dataclass(frozen=True)
class Match:
    """When a deviation covers a difference: every field that is given must hold, and `kinds` always is.

    `kinds` and `where` speak of the difference, all others of the exchange it was found in. `body` is looked for in
    the decompressed body.
    """

    kinds: tuple[str, ...]
    where: str = ".*"
    method: str = ".*"
    path: str = ".*"
    body: str = ""
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    triton_status: int | None = None
    taxiway_status: int | None = None
    triton_error: str | None = None
    taxiway_error: str | None = None
    taxiway_says: str = ""
    predicate: str | None = None

    def covers(self, exchange: Exchange, difference: Difference) -> bool:
        request = exchange.request
        return (
            difference.kind in self.kinds
            and re.fullmatch(self.where, difference.where, re.DOTALL) is not None
            and re.fullmatch(self.method, request.method) is not None
            and re.fullmatch(self.path, request.path.partition("?")[0]) is not None
            and re.search(self.body.encode(), plain_body(request), re.DOTALL) is not None
            and all(_has_header(request, name, value) for name, value in self.headers.items())
            and self.triton_status in (None, exchange.triton.status)
            and self.taxiway_status in (None, exchange.taxiway.status)
            and _is_class(exchange.triton, self.triton_error)
            and _is_class(exchange.taxiway, self.taxiway_error)
            and re.search(self.taxiway_says, error_text(exchange.taxiway)) is not None
            and (self.predicate is None or PREDICATES[self.predicate](exchange, difference))
        )


def _has_header(request: Request, name: str, pattern: str) -> bool:
    return any(k.lower() == name.lower() and re.fullmatch(pattern, v) for k, v in request.headers)


def _is_class(answer: Answer, pattern: str | None) -> bool:
    return pattern is None or re.fullmatch(pattern, answered_error(answer)) is not None


@dataclasses.dataclass(frozen=True)
class CallMatch:
    """When a deviation covers a difference between replies to a gRPC call; as `Match`, in gRPC's words.

    `message` is looked for in the text of what was sent, codes are patterns. An answer in a stream has the code OK or
    TOLD (an error message), whatever becomes of the stream.
    """

    kinds: tuple[str, ...]
    where: str = ".*"
    rpc: str = ".*"
    message: str = ""
    metadata: Mapping[str, str] = dataclasses.field(default_factory=dict)
    triton_code: str = ".*"
    taxiway_code: str = ".*"
    triton_error: str | None = None
    taxiway_error: str | None = None
    taxiway_says: str = ""
    predicate: str | None = None

    def covers(self, exchange: CallExchange, difference: Difference) -> bool:
        """Whether this difference is one that was declared."""
        call = exchange.call
        return (
            difference.kind in self.kinds
            and re.fullmatch(self.where, difference.where, re.DOTALL) is not None
            and re.fullmatch(self.rpc, call.rpc) is not None
            and re.search(self.message, call.text(), re.DOTALL) is not None
            and all(re.fullmatch(text, dict(call.metadata).get(key, "")) for key, text in self.metadata.items())
            and re.fullmatch(self.triton_code, exchange.triton.code) is not None
            and re.fullmatch(self.taxiway_code, exchange.taxiway.code) is not None
            and _means(exchange.triton, self.triton_error)
            and _means(exchange.taxiway, self.taxiway_error)
            and re.search(self.taxiway_says, exchange.taxiway.details) is not None
            and (self.predicate is None or CALL_PREDICATES[self.predicate](exchange, difference))
        )


def _means(reply: Reply, pattern: str | None) -> bool:
    meaning = error_class(reply.details) if reply.details else ""
    return pattern is None or re.fullmatch(pattern, meaning) is not None


@dataclasses.dataclass(frozen=True)
class Deviation:
    """One intended difference from real Triton, as `deviations.toml` declares it, in HTTP, in gRPC or in both."""

    id: str
    what: str
    triton: str
    taxiway: str
    reason: str
    match: Match | None = None
    call: CallMatch | None = None
    parts_ways: bool = False
    """From such an exchange on the servers serve different models, and a walk (lifecycle.py) ends."""

    def covers(self, exchange: Exchange | CallExchange, difference: Difference) -> bool:
        """Whether this difference is one that was declared."""
        if isinstance(exchange, CallExchange):
            return self.call is not None and self.call.covers(exchange, difference)
        return self.match is not None and self.match.covers(exchange, difference)


def load_deviations(path: Path) -> tuple[Deviation, ...]:
    """Read the declarations; an unknown key, a missing one or a duplicate id is an error."""
    entries = tomllib.loads(path.read_text(encoding="utf-8")).get("deviation", [])
    loaded = tuple(_loaded(entry) for entry in entries)
    ids = [deviation.id for deviation in loaded]
    if len(set(ids)) != len(ids):
        raise ValueError(f"{path.name} declares an id twice: {ids}")
    return loaded


def _loaded(entry: dict[str, Any]) -> Deviation:
    match, call = entry.pop("match", None), entry.pop("call", None)
    deviation = Deviation(
        match=None if match is None else Match(**match), call=None if call is None else CallMatch(**call), **entry
    )
    if deviation.match is None and deviation.call is None:
        raise ValueError(f"deviation {deviation.id!r}: it needs a `match` or a `call`")
    _check(deviation.id, deviation.match, PREDICATES)
    _check(deviation.id, deviation.call, CALL_PREDICATES)
    return deviation


def _check(name: str, match: Match | CallMatch | None, predicates: Mapping[str, Any]) -> None:
    if match is not None and (not match.kinds or (match.predicate is not None and match.predicate not in predicates)):
        raise ValueError(f"deviation {name!r}: `kinds` is empty or `predicate` is unknown")


def declared(exchange: Exchange | CallExchange, deviations: Sequence[Deviation]) -> tuple[Deviation, ...]:
    """The declarations that between them cover every difference of an exchange; none where one is left over."""
    found: dict[str, Deviation] = {}
    for difference in exchange.differences:
        covering = next((d for d in deviations if d.covers(exchange, difference)), None)
        if covering is None:
            return ()
        found[covering.id] = covering
    return tuple(found.values())
