"""Real Triton and taxiway answer alike, except where `deviations.toml` says so.

pytest tests/oracle                              400 requests
pytest tests/oracle --oracle-examples=10000      the full run
pytest tests/oracle --oracle-against=triton      two real Tritons: nothing may differ
"""

from __future__ import annotations

import dataclasses
import gzip
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import given, settings
from tests.oracle.compare import NO_ANSWER, Answer, Exchange, differences, taken_apart
from tests.oracle.deviations import DEVIATIONS, Deviation, Match, declared, load_deviations
from tests.oracle.examples import CLASSIFIED, EXAMPLES, identity
from tests.oracle.requests import INFERENCE_HEADER, Draft, Request, breaks_triton, drafts, kinds
from tests.oracle.survey import Survey, explore
from tests.oracle.words import ERROR_CLASSES, GRPC_WORDS, OWN_CLASSES, TAXIWAY_WORDS, error_class

if TYPE_CHECKING:
    from tests.oracle.servers import Pair

# --- the generated comparison


@pytest.mark.timeout(1800)
def test_generated_requests_are_answered_alike(
    pair: Pair, deviations: tuple[Deviation, ...], report: list[str], pytestconfig: pytest.Config
) -> None:
    total = pytestconfig.getoption("--oracle-examples")
    survey = Survey("HTTP requests", lambda request: (pair.exchange(request),), deviations)

    explore(kinds(), total, pytestconfig.getoption("--oracle-seed"), survey)

    report.append(survey.summary())
    assert survey.compared >= total
    survey.verdict()


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
    assert {name for name, _ in GRPC_WORDS} <= set(names)
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
    request = identity("FP64", [0.1])
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
    broken = {name for name, request in EXAMPLES.items() if breaks_triton(request)}

    assert broken == {"classification-of-bytes", "classification-of-nothing", "empty-batch"}
    assert not breaks_triton(identity("FP32", [1.0], outputs=CLASSIFIED))
    assert not breaks_triton(identity("FP32", []))


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

    said = _exchange(request, _ok("{}"), _ok("{}", 400)).described()

    assert "printf %b '{\\0047\\0134\\0000%\\0377' | curl -i -X POST -H 'A: b' --data-binary @-" in said
