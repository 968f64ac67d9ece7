"""Real Triton and taxiway answer gRPC calls alike, except where `deviations.toml` says so.

pytest tests/oracle/test_calls.py                              400 calls
pytest tests/oracle/test_calls.py --oracle-examples=5000       the full run
pytest tests/oracle/test_calls.py --oracle-against=triton      two real Tritons: nothing may differ
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.oracle.calls import SPOILS, call_breaks_triton, call_drafts, call_kinds
from tests.oracle.deviations import CallMatch, Deviation, declared
from tests.oracle.replies import (
    NO_REPLY,
    OK,
    STREAM,
    TOLD,
    Call,
    Reply,
    call_of,
    exchanges,
    reply_type,
)
from tests.oracle.survey import Survey, explore

if TYPE_CHECKING:
    from tests.oracle.servers import Pair


@pytest.mark.timeout(1800)
def test_generated_calls_are_answered_alike(
    pair: Pair, deviations: tuple[Deviation, ...], report: list[str], pytestconfig: pytest.Config
) -> None:
    total = pytestconfig.getoption("--oracle-examples")
    survey = Survey("gRPC calls", pair.call, deviations)

    explore(call_kinds(), total, pytestconfig.getoption("--oracle-seed"), survey)

    report.append(survey.summary())
    assert survey.compared >= total
    survey.verdict()


# --- the comparer catches differences, and only those


def _reply(rpc: str, *texts: str) -> Reply:
    parsed = [text_format.Parse(text, reply_type(rpc)()) for text in texts]
    return Reply(OK, messages=tuple(message.SerializeToString() for message in parsed))


def _refused(code: str, details: str) -> Reply:
    return Reply(code, details)


INFER: Final = call_of("ModelInfer", 'model_name: "add_sub"')
INEXACT: Final = call_of("ModelInfer", 'model_name: "mlp"')
STATISTICS: Final = call_of("ModelStatistics", "")
CONFIG: Final = call_of("ModelConfig", 'name: "add_sub"')
STREAMED: Final = call_of(STREAM, 'model_name: "add_sub"', 'model_name: "nope"')


def _infer(text: str) -> Reply:
    return _reply("ModelInfer", text)


DIFFERENT: Final[dict[str, tuple[Call, Reply, Reply, set[str]]]] = {
    "code": (INFER, _infer(""), _refused("INTERNAL", "Not Found"), {"status", "body"}),
    "code of an error": (
        INFER,
        _refused("INVALID_ARGUMENT", "Not Found"),
        _refused("INTERNAL", "Not Found"),
        {"status"},
    ),
    "error's meaning": (
        INFER,
        _refused("INTERNAL", "Not Found"),
        _refused("INTERNAL", "Method Not Allowed"),
        {"error"},
    ),
    "error's words": (INFER, _refused("INTERNAL", "Not Found"), _refused("INTERNAL", ""), {"error"}),
    "field": (INFER, _infer('id: "a"'), _infer('id: "b"'), {"value"}),
    "field unset": (INFER, _infer('id: "a"'), _infer(""), {"value"}),
    "field unknown": (INFER, _infer(""), Reply(OK, messages=(b"\xa2\x06\x01a",)), {"message"}),
    "presence": (
        INFER,
        _infer('outputs { name: "a" contents { } }'),
        _infer('outputs { name: "a" }'),
        {"message"},
    ),
    "oneof": (
        INFER,
        _infer('parameters { key: "a" value { int64_param: 0 } }'),
        _infer('parameters { key: "a" value { bool_param: false } }'),
        {"message"},
    ),
    "key of a map": (INFER, _infer('parameters { key: "a" }'), _infer('parameters { key: "b" }'), {"message"}),
    "value of a map": (
        INFER,
        _infer('parameters { key: "a" value { int64_param: 1 } }'),
        _infer('parameters { key: "a" value { int64_param: 2 } }'),
        {"value"},
    ),
    "order of outputs": (
        INFER,
        _infer('outputs { name: "a" } outputs { name: "b" }'),
        _infer('outputs { name: "b" } outputs { name: "a" }'),
        {"value"},
    ),
    "outputs missing": (INFER, _infer('outputs { name: "a" }'), _infer(""), {"message"}),
    "shape": (INFER, _infer("outputs { shape: [1, 2] }"), _infer("outputs { shape: [2, 1] }"), {"value"}),
    "tensor": (
        INFER,
        _infer(r'raw_output_contents: "\0\0\0\0"'),
        _infer(r'raw_output_contents: "\0\0\0\1"'),
        {"binary"},
    ),
    "last bit of an exact tensor": (
        INFER,
        _infer(r'raw_output_contents: "\0\0\0?"'),
        _infer(r'raw_output_contents: "\1\0\0?"'),
        {"binary"},
    ),
    "beyond tolerance": (
        INEXACT,
        _infer(r'raw_output_contents: "\0\0\0?"'),
        _infer(r'raw_output_contents: "\0\0\1?"'),
        {"binary"},
    ),
    "class": (
        INEXACT,
        _infer(r'raw_output_contents: "\016\0\0\0000.500000:1:one"'),
        _infer(r'raw_output_contents: "\016\0\0\0000.500000:2:one"'),
        {"binary"},
    ),
    "statistics member": (
        STATISTICS,
        _reply("ModelStatistics", "model_stats { inference_stats { success { count: 1 } } }"),
        _reply("ModelStatistics", "model_stats { inference_stats { } }"),
        {"message"},
    ),
    "configuration": (
        CONFIG,
        _reply("ModelConfig", "config { max_batch_size: 8 }"),
        _reply("ModelConfig", "config { max_batch_size: 4 }"),
        {"value"},
    ),
    "no reply": (INFER, Reply(NO_REPLY, "Socket closed"), _infer(""), {"status"}),
    "answers of a stream": (STREAMED, _reply(STREAM, "", ""), _reply(STREAM, ""), {"body"}),
    "error told in a stream": (
        STREAMED,
        _reply(STREAM, "", 'error_message: "Not Found"'),
        _reply(STREAM, "", 'error_message: "Method Not Allowed"'),
        {"error"},
    ),
    "error in place of an answer": (
        STREAMED,
        _reply(STREAM, "", 'error_message: "Not Found"'),
        _reply(STREAM, "", ""),
        {"status"},
    ),
    "end of a stream": (
        STREAMED,
        _reply(STREAM, ""),
        Reply("INTERNAL", "Not Found", _reply(STREAM, "").messages),
        {"status"},
    ),
}

ALIKE: Final[dict[str, tuple[Call, Reply, Reply]]] = {
    "words of an error": (
        INFER,
        _refused("NOT_FOUND", "Request for unknown model: 'a' is not found"),
        _refused("NOT_FOUND", "unknown model: 'a' is not found, but 'b' is"),
    ),
    "order of a map": (
        INFER,
        _infer('parameters { key: "a" } parameters { key: "b" }'),
        _infer('parameters { key: "b" } parameters { key: "a" }'),
    ),
    "within tolerance": (
        INEXACT,
        _infer(r'raw_output_contents: "\0\0\0?"'),
        _infer(r'raw_output_contents: "\1\0\0?"'),
    ),
    "class within tolerance": (
        INEXACT,
        _infer(r'raw_output_contents: "\016\0\0\0000.500000:1:one"'),
        _infer(r'raw_output_contents: "\016\0\0\0000.500001:1:one"'),
    ),
    "statistics": (
        STATISTICS,
        _reply("ModelStatistics", "model_stats { inference_count: 1 batch_stats { batch_size: 1 } }"),
        _reply("ModelStatistics", "model_stats { inference_count: 2 }"),
    ),
    "backend": (
        CONFIG,
        _reply("ModelConfig", 'config { backend: "python" }'),
        _reply("ModelConfig", 'config { backend: "onnxruntime" }'),
    ),
}


def _kinds(call: Call, triton: Reply, taxiway: Reply) -> set[str]:
    return {difference.kind for each in exchanges(call, triton, taxiway) for difference in each.differences}


@pytest.mark.parametrize("name", DIFFERENT)
def test_a_difference_is_caught(name: str) -> None:
    call, triton, taxiway, expected = DIFFERENT[name]

    assert _kinds(call, triton, taxiway) == expected
    assert _kinds(call, taxiway, triton) == expected


@pytest.mark.parametrize("name", DIFFERENT)
def test_a_reply_is_like_itself(name: str) -> None:
    call, triton, taxiway, _ = DIFFERENT[name]

    assert not _kinds(call, triton, triton)
    assert not _kinds(call, taxiway, taxiway)


@pytest.mark.parametrize("name", ALIKE)
def test_what_does_not_count_is_not_reported(name: str) -> None:
    assert not _kinds(*ALIKE[name])


def test_a_stream_is_judged_request_by_request() -> None:
    triton, taxiway = _reply(STREAM, "", 'error_message: "Not Found"'), _reply(STREAM, "", "")

    first, second = exchanges(STREAMED, triton, taxiway)

    assert not first.differences
    assert second.outcomes == (TOLD, OK)
    assert "nope" in second.call.text()
    assert "nope" not in first.call.text()


# --- deviations are narrow

REFUSED: Final = exchanges(
    Call("ModelInfer", INFER.messages, (("a", "b"),)),
    _refused("INTERNAL", "Not Found"),
    _refused("OK", "Method Not Allowed"),
)[0]


@pytest.mark.parametrize(
    ("match", "covered"),
    [
        ({}, True),
        ({"kinds": ("status",)}, False),
        ({"rpc": "ModelConfig"}, False),
        ({"rpc": "Model(Infer|Config)"}, True),
        ({"message": "add"}, True),
        ({"message": "^$"}, False),
        ({"metadata": {"a": "b"}}, True),
        ({"metadata": {"a": "c"}}, False),
        ({"triton_code": "INTERNAL", "taxiway_code": "OK"}, True),
        ({"triton_code": "OK"}, False),
        ({"taxiway_code": "INTERNAL"}, False),
        ({"triton_error": "route-not-found", "taxiway_error": "method-not-allowed"}, True),
        ({"triton_error": "method-not-allowed"}, False),
        ({"taxiway_error": "route-not-found"}, False),
        ({"taxiway_says": "Allowed$"}, True),
        ({"taxiway_says": "^Allowed"}, False),
    ],
)
def test_a_deviation_covers_only_what_it_says(match: dict[str, Any], covered: bool) -> None:
    call = CallMatch(**({"kinds": ("status", "error", "body")} | match))
    deviation = Deviation("x", "what", "triton", "taxiway", "reason", call=call)

    assert bool(declared(REFUSED, [deviation])) == covered


# --- what is generated


@settings(settings.get_profile("oracle"), max_examples=60)
@given(call_drafts())
def test_valid_drafts_give_every_input_once(draft: Any) -> None:
    inputs = draft.message.inputs
    typed = [each.HasField("contents") for each in inputs]

    assert {each.name for each in inputs} == {tensor.name for tensor in draft.model.inputs}
    assert len(draft.message.raw_input_contents) == (0 if all(typed) else len(inputs))
    assert all(typed) or not any(typed)


@st.composite
def _before_and_after(draw: st.DrawFn, name: str) -> tuple[bytes, bytes]:
    draft = draw(call_drafts())
    before = draft.finished()
    SPOILS[name](draw, draft)
    return before, draft.finished()


@pytest.mark.parametrize("name", SPOILS)
def test_every_mistake_changes_what_is_sent(name: str) -> None:
    changed = []

    @settings(settings.get_profile("oracle"), max_examples=20)
    @given(_before_and_after(name))
    def each(pair: tuple[bytes, bytes]) -> None:
        changed.append(pair[0] != pair[1])

    each()
    assert any(changed)


def test_what_breaks_triton_is_recognised() -> None:
    sound = 'model_name: "identity_int32" inputs { name: "INPUT0" datatype: "INT32" shape: [1, 1] }'

    def breaks(more: str) -> bool:
        return call_breaks_triton(call_of("ModelInfer", more).messages[0])

    assert not breaks(sound)
    assert not breaks(sound.replace("[1, 1]", "[1, 0]"))
    assert breaks(sound.replace("[1, 1]", "[0, 0]"))
    assert breaks(sound.replace("[1, 1]", "[1, 4611686018427387904]"))
    asks = ' outputs { name: "OUTPUT0" parameters { key: "classification" value { int64_param: 1 } } }'
    assert not breaks(sound + asks)
    assert breaks(sound.replace("INT32", "BYTES") + asks)
    assert breaks(sound.replace("[1, 1]", "[1, 0]") + asks)
