"""Real Triton and taxiway answer alike, except where `deviations.toml` says so.

pytest tests/oracle                              400 requests
pytest tests/oracle --oracle-examples=10000      the full run
pytest tests/oracle --oracle-against=triton      two real Tritons: nothing may differ
"""

from __future__ import annotations

import dataclasses
import gzip
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st
from tests.oracle.compare import (
    DEVIATIONS,
    ERROR_CLASSES,
    NO_ANSWER,
    OWN_CLASSES,
    TAXIWAY_WORDS,
    Answer,
    Deviation,
    Exchange,
    Match,
    declared,
    described,
    differences,
    error_class,
    load_deviations,
    taken_apart,
)
from tests.oracle.requests import INFERENCE_HEADER, Draft, Request, breaks_triton, drafts, kinds

if TYPE_CHECKING:
    from tests.oracle.conftest import Pair
    from tools.oracle_triton import TritonServer

MOST_ROUNDS: Final = 12
LEAST_SHARE: Final = 10
"""Hypothesis begins with the simplest example of all; a share of one would repeat it for ever."""
MOST_REPORTED: Final = 25

# --- the generated comparison


class Survey:
    """Compares one request after the other, and keeps the smallest example of each undeclared difference."""

    def __init__(self, pair: Pair, deviations: tuple[Deviation, ...]) -> None:
        self._pair = pair
        self._deviations = deviations
        self._seen: set[tuple[Any, ...]] = set()
        self.labels: Counter[str] = Counter()
        self.unanswered: list[str] = []
        self.statuses: Counter[int] = Counter()
        self.declared: Counter[str] = Counter()
        self.deviating = 0
        self.undeclared: Counter[tuple[Any, ...]] = Counter()
        self.smallest: dict[tuple[Any, ...], Exchange] = {}

    @property
    def compared(self) -> int:
        """How many different requests both servers have answered."""
        return len(self._seen)

    def consider(self, request: Request) -> None:
        """Compare the answers to one request, unless it was asked before."""
        identity = (request.method, request.path, request.headers, request.body)
        if identity in self._seen:
            return
        self._seen.add(identity)
        exchange = self._pair.exchange(request)
        self.labels[request.label] += 1
        self.statuses[exchange.triton.status] += 1
        if exchange.triton.status == NO_ANSWER:
            self.unanswered.append(described(exchange))
        if not exchange.differences:
            return
        if deviations := declared(exchange, self._deviations):
            self.deviating += 1
            self.declared.update(deviation.id for deviation in deviations)
            return
        self._keep(exchange)

    def _keep(self, exchange: Exchange) -> None:
        signature = (exchange.triton.status, exchange.taxiway.status, *sorted(_aspects(exchange)))
        self.undeclared[signature] += 1
        known = self.smallest.get(signature)
        if known is None or len(exchange.request.body) < len(known.request.body):
            self.smallest[signature] = exchange

    def summary(self) -> str:
        """One line for the end of the run."""
        statuses = ", ".join(f"{status}: {count}" for status, count in sorted(self.statuses.items()))
        alike = self.compared - self.undeclared.total() - self.deviating
        return (
            f"oracle: {self.compared} different requests compared, {alike} alike, "
            f"{self.deviating} deviate as declared {dict(self.declared)}, {self.undeclared.total()} undeclared "
            f"in {len(self.undeclared)} kinds; {len(self.labels)} kinds of request; Triton answered {statuses}"
        )

    def failures(self) -> str:
        """The smallest example of every undeclared kind of difference, the most frequent kinds first."""
        kept = [(count, self.smallest[kind]) for kind, count in self.undeclared.most_common(MOST_REPORTED)]
        return "\n\n".join(f"{count}x {described(exchange)}" for count, exchange in kept)


def _aspects(exchange: Exchange) -> set[str]:
    """What differs, without the positions and values that vary from one example to the next."""
    return {
        f"{d.kind} {re.sub(r'[0-9]+', 'N', d.where)}" + (f" {d.triton} {d.taxiway}" if d.kind == "error" else "")
        for d in exchange.differences
    }


def _run(strategy: st.SearchStrategy[Request], count: int, number: int, visit: Callable[[Request], None]) -> None:
    @seed(number)
    @settings(settings.get_profile("oracle"), max_examples=count)
    @given(strategy)
    def each(request: Request) -> None:
        visit(request)

    each()


def _explore(total: int, number: int, survey: Survey) -> None:
    """Visit `total` different requests, each kind in proportion; small kinds run out, others fill up."""
    every = kinds()
    weights = sum(weight for weight, _ in every.values())
    for round_ in range(MOST_ROUNDS):
        missing = total - survey.compared
        if missing <= 0:
            return
        for weight, strategy in every.values():
            share = math.ceil(missing * weight / weights)
            _run(strategy, max(share, LEAST_SHARE if round_ else 1), number + round_, survey.consider)


@pytest.mark.timeout(1800)
def test_generated_requests_are_answered_alike(
    pair: Pair, deviations: tuple[Deviation, ...], report: list[str], pytestconfig: pytest.Config
) -> None:
    total = pytestconfig.getoption("--oracle-examples")
    survey = Survey(pair, deviations)

    _explore(total, pytestconfig.getoption("--oracle-seed"), survey)

    report.append(survey.summary())
    assert survey.compared >= total
    assert not survey.unanswered, "\n\n".join(survey.unanswered)
    if survey.undeclared:
        pytest.fail(f"{survey.summary()}\n\n{survey.failures()}", pytrace=False)


# --- each declared deviation is real, and no older than both servers


def _raw_infer(model: str, body: bytes, headers: dict[str, str] | None = None) -> Request:
    return Request("POST", f"/v2/models/{model}/infer", tuple((headers or {}).items()), body, "directed")


def _nested(depth: int) -> list[Any]:
    data: list[Any] = [1]
    for _ in range(depth):
        data = [data]
    return data


def _identity(
    datatype: str,
    data: list[Any] | None,
    shape: list[int] | None = None,
    outputs: list[Any] | None = None,
    headers: dict[str, str] | None = None,
) -> Request:
    """One input; without data it claims an empty binary tensor."""
    content = {"parameters": {"binary_data_size": 0}} if data is None else {"data": data}
    entry = {"name": "INPUT0", "shape": shape or [1, len(data or [])], "datatype": datatype} | content
    document = {"inputs": [entry]} | ({"outputs": outputs} if outputs else {})
    return _raw_infer(f"identity_{datatype.lower()}", json.dumps(document).encode(), headers)


ONE: Final = b'{"name":"INPUT0","shape":[1,1],"datatype":"INT32","data":[1]}'
A_TOO_DEEP: Final = b'{"name":"A","shape":[1,1,1],"datatype":"INT32","data":[1]}'
B_OF_FLOATS: Final = b'{"name":"B","shape":[1,1],"datatype":"FP32","data":[1]}'
EIGHT_BYTES_OF_NO_ROWS: Final = (
    b'{"inputs":[{"name":"X","shape":[0,2],"datatype":"FP32","parameters":{"binary_data_size":8}}]}'
)
FOUR_BYTES_OF_TEXT: Final = (
    b'{"inputs":[{"name":"INPUT0","shape":[1,2],"datatype":"BYTES","parameters":{"binary_data_size":4}}]}'
)


CLASSIFIED: Final = [{"name": "OUTPUT0", "parameters": {"classification": 2}}]

EXAMPLES: Final[dict[str, Request]] = {
    "classification-of-bytes": _identity("BYTES", ["a"], outputs=CLASSIFIED),
    "classification-of-nothing": _identity("FP32", [], outputs=CLASSIFIED),
    "claimed-shape-too-large": _identity("INT32", [1], shape=[1, 2**61]),
    "claimed-shape-overflows": _identity("INT32", None, shape=[1, 2**62]),
    "empty-batch": _identity("INT32", [], shape=[0, 0]),
    "json-doubles-exact": _identity("FP64", [-943305.0469559873]),
    "errors-are-json": Request("GET", "/nope"),
    "no-body": Request("POST", "/v2/models/identity_int32/infer"),
    "integers-in-range": _identity("UINT8", [300]),
    "repeated-members": _raw_infer("identity_int32", b'{"id":"a","id":"b","inputs":[' + ONE + b"]}"),
    "any-coding-accepted": _identity("INT32", [1], headers={"Accept-Encoding": "*"}),
    "codings-in-any-case": _raw_infer(
        "identity_int32", gzip.compress(b'{"inputs":[' + ONE + b"]}", mtime=0), headers={"Content-Encoding": "GZIP"}
    ),
    "accepted-codings-in-any-case": _identity("INT32", [1], headers={"Accept-Encoding": "GZIP"}),
    "header-length-is-a-number": _raw_infer("identity_int32", bytes(4), headers={INFERENCE_HEADER: "abc"}),
    "nesting-is-bounded": _identity("INT32", _nested(110), shape=[1, 1]),
    "server-metadata": Request("GET", "/v2"),
    "id-with-nul": _raw_infer("identity_int32", b'{"id":"a\\u0000b","inputs":[' + ONE + b"]}"),
    "data-of-nothing-is-checked": _identity("INT32", [1], shape=[1, 0]),
    "batch-of-no-rows": _raw_infer(
        "versions", EIGHT_BYTES_OF_NO_ROWS + bytes(8), headers={INFERENCE_HEADER: str(len(EIGHT_BYTES_OF_NO_ROWS))}
    ),
    "bytes-length-past-the-end": _raw_infer(
        "identity_bytes", FOUR_BYTES_OF_TEXT + b"\xff" * 4, headers={INFERENCE_HEADER: str(len(FOUR_BYTES_OF_TEXT))}
    ),
    "broken-compression": _raw_infer("identity_int32", b"plain", headers={"Content-Encoding": "gzip"}),
    "nothing-after-the-document": _raw_infer("identity_int32", b'{"inputs":[' + ONE + b"]}\0more"),
    "booleans-are-0-or-1": _raw_infer("identity_bool", b"\2", headers={INFERENCE_HEADER: "0"}),
    "classes-without-a-score": _identity("FP32", [math.nan, 1.0], outputs=CLASSIFIED),
    "extensions-not-served": Request("GET", "/v2/systemsharedmemory/status"),
    "settings-checked": Request("POST", "/v2/trace/setting", body=b'{"trace_rat": "5"}'),
    "log-format": Request("GET", "/v2/logging"),
    "every-answer-compressed": Request("GET", "/v2/models/stats", (("Accept-Encoding", "gzip"),)),
    "every-body-decoded": Request("GET", "/v2/models/add_sub", (("Content-Encoding", "br"),)),
    "empty-coding": _identity("INT32", [1], headers={"Content-Encoding": ""}),
    "coding-in-two-lines": dataclasses.replace(
        _identity("INT32", [1]), headers=(("Content-Encoding", "identity"), ("Content-Encoding", "br"))
    ),
    "half-a-surrogate-pair": _raw_infer("identity_int32", b'{"id":"\\udddf","inputs":[' + ONE + b"]}"),
    "which-input-is-told": _raw_infer("int_add", b'{"inputs":[%b,%b]}' % (A_TOO_DEEP, B_OF_FLOATS)),
    "request-timeout": _identity("INT32", [1], headers={"Request-Timeout": "x"}),
}
"""For every declared deviation one request that shows both behaviours."""

BREAKING: Final = {name for name in EXAMPLES if name.startswith(("classification-", "claimed-", "empty-"))}
"""These end Triton, or one model in it, so they are asked of a Triton of their own."""


@pytest.fixture
def examples_pair(
    deviation: Deviation, pair: Pair, start_triton: Callable[..., TritonServer], pytestconfig: pytest.Config
) -> Iterator[Pair]:
    if pytestconfig.getoption("--oracle-against") == "triton":
        pytest.skip("two real Tritons do not deviate")
    if deviation.id not in BREAKING:
        yield pair
        return
    mortal = pair.with_mortal(start_triton, EXAMPLES[deviation.id].path.split("/")[3])
    yield mortal
    mortal.close()


def test_every_deviation_has_an_example(deviations: tuple[Deviation, ...]) -> None:
    assert {deviation.id for deviation in deviations} == set(EXAMPLES)


def _each_deviation() -> list[Any]:
    marks = dict.fromkeys(BREAKING, (pytest.mark.slow,))
    return [pytest.param(d, id=d.id, marks=marks.get(d.id, ())) for d in load_deviations(DEVIATIONS)]


@pytest.mark.parametrize("deviation", _each_deviation())
def test_deviation_is_real(deviation: Deviation, examples_pair: Pair, deviations: tuple[Deviation, ...]) -> None:
    exchange = examples_pair.exchange(EXAMPLES[deviation.id])

    assert exchange.differences, f"both answer alike; remove {deviation.id!r} from deviations.toml"
    assert deviation in declared(exchange, deviations), described(exchange)


# --- the comparer catches differences, and only those

JSON: Final = {"content-type": "application/json"}
INFER: Final = Request("POST", "/v2/models/add_sub/infer")
INEXACT: Final = Request("POST", "/v2/models/mlp/infer")
STATS: Final = Request("GET", "/v2/models/add_sub/stats")
CONFIG: Final = Request("GET", "/v2/models/add_sub/config")
STREAM: Final = Request("POST", "/v2/models/generate/generate_stream")


def _ok(body: str | bytes, status: int = 200, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, JSON | named, body.encode() if isinstance(body, str) else body)


def _events(body: str) -> Answer:
    return _ok(body, content_type="text/event-stream; charset=utf-8")


def _binary(text: str, tail: bytes, length: int | None = None) -> Answer:
    size = len(text) if length is None else length
    headers = {"content-type": "application/octet-stream", INFERENCE_HEADER.lower(): str(size)}
    return Answer(200, headers, text.encode() + tail)


FP32: Final = '{"outputs":[{"name":"Y","datatype":"FP32","parameters":{"binary_data_size":4}}]}'

DIFFERENT: Final[dict[str, tuple[Request, Answer, Answer, set[str]]]] = {
    "status": (INFER, _ok("{}"), _ok("{}", 400), {"status"}),
    "content type": (INFER, _ok("{}"), _ok("{}", content_type="text/plain"), {"header"}),
    "compression": (INFER, _ok("{}"), _ok(gzip.compress(b"{}"), content_encoding="gzip"), {"header"}),
    "accepted codings": (INFER, _ok("{}", accept_encoding="gzip, deflate"), _ok("{}"), {"header"}),
    "key order": (INFER, _ok('{"a":1,"b":2}'), _ok('{"b":2,"a":1}'), {"json"}),
    "missing member": (INFER, _ok('{"a":1,"b":2}'), _ok('{"a":1}'), {"json"}),
    "duplicate member": (INFER, _ok('{"a":1}'), _ok('{"a":1,"a":1}'), {"json"}),
    "integer for float": (INFER, _ok('{"data":[1.0]}'), _ok('{"data":[1]}'), {"json"}),
    "null for NaN": (INFER, _ok('{"data":[NaN]}'), _ok('{"data":[null]}'), {"json"}),
    "element missing": (INFER, _ok('{"data":[1.0,2.0]}'), _ok('{"data":[1.0]}'), {"json"}),
    "nested": (INFER, _ok('{"data":[1.0,2.0]}'), _ok('{"data":[[1.0,2.0]]}'), {"json"}),
    "last bit": (INFER, _ok('{"data":[0.1]}'), _ok('{"data":[0.10000000000000002]}'), {"value"}),
    "narrow float": (INFER, _ok('{"data":[0.10000000149011612]}'), _ok('{"data":[0.1]}'), {"value"}),
    "sign of zero": (INFER, _ok('{"data":[-0.0]}'), _ok('{"data":[0.0]}'), {"value"}),
    "large integer": (INFER, _ok('{"data":[18446744073709551615]}'), _ok('{"data":[0]}'), {"value"}),
    "not JSON": (INFER, _ok("{}"), _ok("{"), {"body"}),
    "no body": (INFER, _ok("{}"), _ok(""), {"body"}),
    "binary byte": (INFER, _binary(FP32, b"\0\0\0\0"), _binary(FP32, b"\0\0\0\1"), {"binary"}),
    "binary for JSON": (INFER, _ok(FP32), _binary(FP32, b""), {"header"}),
    "header length": (INFER, _binary(FP32, b"\0\0\0\0"), _binary(FP32, b"\0\0\0\0", 10), {"body"}),
    "beyond tolerance": (INEXACT, _ok('{"data":[0.5]}'), _ok('{"data":[0.5001]}'), {"value"}),
    "binary beyond tolerance": (INEXACT, _binary(FP32, b"\0\0\0?"), _binary(FP32, b"\0\0\1?"), {"binary"}),
    "class": (INEXACT, _ok('["0.500000:1:one"]'), _ok('["0.500000:2:one"]'), {"value"}),
    "error's meaning": (
        INFER,
        _ok('{"error":"Not Found"}'),
        _ok('{"error":"Method Not Allowed"}'),
        {"error"},
    ),
    "error's words unknown": (INFER, _ok('{"error":"Not Found"}'), _ok('{"error":"no"}'), {"error"}),
    "error's members": (INFER, _ok('{"error":"no"}'), _ok('{"error":"no","code":1}'), {"json"}),
    "error not text": (INFER, _ok('{"error":"no"}'), _ok('{"error":{}}'), {"json"}),
    "no error body": (INFER, _ok('{"error":"Not Found"}'), _ok(""), {"body"}),
    "event missing": (
        STREAM,
        _events("data: 1\n\ndata: 2\n\n"),
        _events("data: 1\n\n"),
        {"body"},
    ),
    "event unframed": (STREAM, _events("data: 1\n\n"), _events("data: 1\n"), {"body"}),
    "statistics member": (STATS, _ok('{"a":{"count":1,"ns":2}}'), _ok('{"a":{"count":1}}'), {"json"}),
    "statistics kind": (STATS, _ok('{"a":1}'), _ok('{"a":"1"}'), {"json"}),
    "configuration": (CONFIG, _ok('{"max_batch_size":8}'), _ok('{"max_batch_size":4}'), {"value"}),
    "no answer": (INFER, Answer(NO_ANSWER), _ok("{}"), {"status"}),
}

ALIKE: Final[dict[str, tuple[Request, Answer, Answer]]] = {
    "spelling of a number": (INFER, _ok('{"data":[1e2]}'), _ok('{ "data": [100.0] }')),
    "NaN": (INFER, _ok('{"data":[NaN,Infinity]}'), _ok('{"data":[NaN,Infinity]}')),
    "words of an error": (
        INFER,
        _ok('{"error":"failed to parse the request JSON buffer: Invalid value. at 11"}', 500),
        _ok('{"error":"failed to parse the request JSON buffer: something else"}', 500),
    ),
    "within tolerance": (INEXACT, _ok('{"data":[0.5]}'), _ok('{"data":[0.500000001]}')),
    "binary within tolerance": (INEXACT, _binary(FP32, b"\0\0\0?"), _binary(FP32, b"\1\0\0?")),
    "class within tolerance": (INEXACT, _ok('["0.500000:1:one"]'), _ok('["0.500001:1:one"]')),
    "statistics": (STATS, _ok('{"a":1,"batch_stats":[{"n":1}]}'), _ok('{"a":2,"batch_stats":[]}')),
    "backend": (CONFIG, _ok('{"backend":"python"}'), _ok('{"backend":"onnxruntime"}')),
    "compression level": (
        INFER,
        _ok(gzip.compress(b"{}", 1), content_encoding="gzip"),
        _ok(gzip.compress(b"{}", 9, mtime=1), content_encoding="gzip"),
    ),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_a_difference_is_caught(name: str) -> None:
    request, triton, taxiway, expected = DIFFERENT[name]

    assert {difference.kind for difference in differences(request, triton, taxiway)} == expected
    assert {difference.kind for difference in differences(request, taxiway, triton)} == expected


@pytest.mark.parametrize("name", DIFFERENT)
def test_an_answer_is_like_itself(name: str) -> None:
    request, triton, taxiway, _ = DIFFERENT[name]

    assert not differences(request, triton, triton)
    assert not differences(request, taxiway, taxiway)


@pytest.mark.parametrize("name", ALIKE)
def test_what_does_not_count_is_not_reported(name: str) -> None:
    request, triton, taxiway = ALIKE[name]

    assert not differences(request, triton, taxiway)


def test_the_backend_counts_in_tensors() -> None:
    answers = _ok('{"outputs":[{"backend":"a"}]}'), _ok('{"outputs":[{"backend":"b"}]}')

    assert differences(INFER, *answers)


def test_error_classes_are_named_once() -> None:
    names = [name for name, _ in ERROR_CLASSES]

    assert len(set(names)) == len(names)
    assert {name.partition(":")[0] for name, _ in TAXIWAY_WORDS} - set(names) == OWN_CLASSES
    assert error_class("Unable to parse 'id': attempt to access JSON non-string as string") == "json-member:id"
    assert error_class("'id' is int; it must be a string") == "json-member:id"
    assert error_class("who knows").startswith("unclassified")


def test_a_body_that_contradicts_its_headers_has_a_problem() -> None:
    assert taken_apart(_ok(b"plain", content_encoding="gzip")).problem
    assert not taken_apart(_ok(gzip.compress(b"{}"), content_encoding="gzip")).problem


# --- deviations are narrow


def _exchange(request: Request, triton: Answer, taxiway: Answer) -> Exchange:
    return Exchange(request, triton, taxiway, tuple(differences(request, triton, taxiway)))


def _deviation(**match: Any) -> Deviation:
    return Deviation("x", "what", "triton", "taxiway", "reason", Match(**match))


REFUSED: Final = _exchange(
    Request("POST", "/v2/models/add_sub/infer", (("Content-Encoding", "br"),), b"BODY"),
    _ok('{"error":"Not Found"}', 500),
    _ok('{"error":"Method Not Allowed"}', 400),
)
KINDS: Final = ("status", "error")


@pytest.mark.parametrize(
    ("match", "covered"),
    [
        ({}, True),
        ({"kinds": ("status",)}, False),
        ({"method": "GET"}, False),
        ({"path": "/v2/models/[^/]+/infer"}, True),
        ({"path": "/v2/models"}, False),
        ({"body": "OD"}, True),
        ({"body": "^$"}, False),
        ({"headers": {"content-encoding": "br"}}, True),
        ({"headers": {"content-encoding": "b"}}, False),
        ({"headers": {"accept": ".*"}}, False),
        ({"triton_status": 500, "taxiway_status": 400}, True),
        ({"triton_status": 400}, False),
        ({"taxiway_status": 500}, False),
        ({"triton_error": "route-not-found", "taxiway_error": "method-not-allowed"}, True),
        ({"triton_error": "method-not-allowed"}, False),
        ({"taxiway_error": "route-not-found"}, False),
        ({"predicate": "fp64-last-digits"}, False),
    ],
)
def test_a_deviation_covers_only_what_it_says(match: dict[str, Any], covered: bool) -> None:
    deviation = _deviation(**({"kinds": KINDS} | match))

    assert bool(declared(REFUSED, [deviation])) == covered


@pytest.mark.parametrize(
    ("taxiway", "covered"),
    [("0.10000000000000002", True), ("0.1000000000000001", False), ("-0.1", False), ("NaN", False)],
)
def test_last_digits_are_few(taxiway: str, covered: bool) -> None:
    request = _identity("FP64", [0.1])
    exchange = _exchange(request, _ok('{"data":[0.1]}'), _ok(f'{{"data":[{taxiway}]}}'))
    deviation = _deviation(kinds=("value",), predicate="fp64-last-digits")

    assert bool(declared(exchange, [deviation])) == covered


def test_a_declaration_with_an_unknown_key_is_refused(tmp_path: Path) -> None:
    text = DEVIATIONS.read_text(encoding="utf-8")
    (tmp_path / "d.toml").write_text(text.replace("[deviation.match]", "[deviation.match]\nmaybe = 1", 1))

    with pytest.raises(TypeError, match="maybe"):
        load_deviations(tmp_path / "d.toml")


def test_a_declaration_given_twice_is_refused(tmp_path: Path) -> None:
    text = DEVIATIONS.read_text(encoding="utf-8")
    (tmp_path / "d.toml").write_text(text + text)

    with pytest.raises(ValueError, match="twice"):
        load_deviations(tmp_path / "d.toml")


# --- what is generated


def test_what_breaks_triton_is_recognised() -> None:
    broken = {name for name in EXAMPLES if breaks_triton(EXAMPLES[name])}

    assert broken == {"classification-of-bytes", "classification-of-nothing", "empty-batch"}
    assert not breaks_triton(_identity("FP32", [1.0], outputs=CLASSIFIED))
    assert not breaks_triton(_identity("FP32", []))


@settings(settings.get_profile("oracle"), max_examples=60)
@given(drafts())
def test_valid_drafts_state_their_sizes(draft: Draft) -> None:
    sizes = [entry["parameters"]["binary_data_size"] for entry in draft.inputs if "parameters" in entry]
    request = draft.finished()
    lengths = [int(value) for name, value in request.headers if name == INFERENCE_HEADER]
    text = request.body[: lengths[0]] if lengths else request.body

    assert json.loads(text)["inputs"] == json.loads(json.dumps(draft.inputs)) or "NaN" in text.decode()
    assert len(request.body) == len(text) + sum(sizes)


def test_requests_are_repeatable_from_their_dump() -> None:
    request = dataclasses.replace(INFER, headers=(("A", "b"),), body=b"{'\\\x00%\xff")

    said = described(_exchange(request, _ok("{}"), _ok("{}", 400)))

    assert "printf %b '{\\0047\\0134\\0000%\\0377' | curl -i -X POST -H 'A: b' --data-binary @-" in said
