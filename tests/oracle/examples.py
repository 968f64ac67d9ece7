"""For every declared deviation a request, a call or a walk that shows both behaviours."""

from __future__ import annotations

import dataclasses
import gzip
import json
import math
from typing import Any, Final

from tests.oracle.lifecycle import (
    AFTER_OVERRIDE,
    SERVED_ALREADY,
    SOME_BROKEN,
    Change,
    Line,
    Question,
    Walk,
    bad_body,
    load,
    marked,
    overriding,
)
from tests.oracle.replies import SPOILT_TWICE, STREAM, Call, call_of
from tests.oracle.requests import INFERENCE_HEADER, Request

# --- over HTTP


def raw_infer(model: str, body: bytes, headers: dict[str, str] | None = None) -> Request:
    """POST that body to a model's /infer."""
    return Request("POST", f"/v2/models/{model}/infer", tuple((headers or {}).items()), body, "directed")


def _nested(depth: int) -> list[Any]:
    data: list[Any] = [1]
    for _ in range(depth):
        data = [data]
    return data


def identity(
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
    return raw_infer(f"identity_{datatype.lower()}", json.dumps(document).encode(), headers)


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
    "classification-of-bytes": identity("BYTES", ["a"], outputs=CLASSIFIED),
    "classification-of-nothing": identity("FP32", [], outputs=CLASSIFIED),
    "claimed-shape-too-large": identity("INT32", [1], shape=[1, 2**61]),
    "claimed-shape-overflows": identity("INT32", None, shape=[1, 2**62]),
    "empty-batch": identity("INT32", [], shape=[0, 0]),
    "json-doubles-exact": identity("FP64", [-943305.0469559873]),
    "errors-are-json": Request("GET", "/nope"),
    "no-body": Request("POST", "/v2/models/identity_int32/infer"),
    "integers-in-range": identity("UINT8", [300]),
    "repeated-members": raw_infer("identity_int32", b'{"id":"a","id":"b","inputs":[' + ONE + b"]}"),
    "any-coding-accepted": identity("INT32", [1], headers={"Accept-Encoding": "*"}),
    "codings-in-any-case": raw_infer(
        "identity_int32", gzip.compress(b'{"inputs":[' + ONE + b"]}", mtime=0), headers={"Content-Encoding": "GZIP"}
    ),
    "accepted-codings-in-any-case": identity("INT32", [1], headers={"Accept-Encoding": "GZIP"}),
    "header-length-is-a-number": raw_infer("identity_int32", bytes(4), headers={INFERENCE_HEADER: "abc"}),
    "nesting-is-bounded": identity("INT32", _nested(110), shape=[1, 1]),
    "server-metadata": Request("GET", "/v2"),
    "id-with-nul": raw_infer("identity_int32", b'{"id":"a\\u0000b","inputs":[' + ONE + b"]}"),
    "data-of-nothing-is-checked": identity("INT32", [1], shape=[1, 0]),
    "batch-of-no-rows": raw_infer(
        "versions", EIGHT_BYTES_OF_NO_ROWS + bytes(8), headers={INFERENCE_HEADER: str(len(EIGHT_BYTES_OF_NO_ROWS))}
    ),
    "bytes-length-past-the-end": raw_infer(
        "identity_bytes", FOUR_BYTES_OF_TEXT + b"\xff" * 4, headers={INFERENCE_HEADER: str(len(FOUR_BYTES_OF_TEXT))}
    ),
    "broken-compression": raw_infer("identity_int32", b"plain", headers={"Content-Encoding": "gzip"}),
    "nothing-after-the-document": raw_infer("identity_int32", b'{"inputs":[' + ONE + b"]}\0more"),
    "booleans-are-0-or-1": raw_infer("identity_bool", b"\2", headers={INFERENCE_HEADER: "0"}),
    "classes-without-a-score": identity("FP32", [math.nan, 1.0], outputs=CLASSIFIED),
    "extensions-not-served": Request("POST", "/v2/cudasharedmemory/region/r/register", body=b"{}"),
    "reserved-keys": Request(
        "POST",
        "/v2/systemsharedmemory/region/r/register",
        body=b'{"key":"triton_python_backend_shm_region_1","byte_size":4}',
    ),
    "settings-checked": Request("POST", "/v2/trace/setting", body=b'{"trace_rat": "5"}'),
    "log-format": Request("GET", "/v2/logging"),
    "every-answer-compressed": Request("GET", "/v2/models/stats", (("Accept-Encoding", "gzip"),)),
    "every-body-decoded": Request("GET", "/v2/models/add_sub", (("Content-Encoding", "br"),)),
    "empty-coding": identity("INT32", [1], headers={"Content-Encoding": ""}),
    "coding-in-two-lines": dataclasses.replace(
        identity("INT32", [1]), headers=(("Content-Encoding", "identity"), ("Content-Encoding", "br"))
    ),
    "half-a-surrogate-pair": raw_infer("identity_int32", b'{"id":"\\udddf","inputs":[' + ONE + b"]}"),
    "which-input-is-told": raw_infer("int_add", b'{"inputs":[%b,%b]}' % (A_TOO_DEEP, B_OF_FLOATS)),
    "request-timeout": identity("INT32", [1], headers={"Request-Timeout": "x"}),
}
"""For every declared deviation one request that shows both behaviours."""

# --- over gRPC

INT32 = 'model_name: "identity_int32" inputs { name: "INPUT0" datatype: "INT32" shape: %s %s }'
ONE_INT32: Final = INT32 % ("[1, 1]", "contents { int_contents: 1 }")


BEST_CLASS: Final = ' outputs { name: "OUTPUT0" parameters { key: "classification" value { int64_param: 1 } } }'


def _raw_call(datatype: str, shape: str, raw: str, more: str = "") -> Call:
    """ModelInfer of an identity with one raw tensor, its bytes as protobuf text."""
    tensor = f'inputs {{ name: "INPUT0" datatype: "{datatype}" shape: {shape} }} raw_input_contents: "{raw}"'
    return call_of("ModelInfer", f'model_name: "identity_{datatype.lower()}" {tensor}{more}')


CALL_EXAMPLES: Final[dict[str, Call]] = {
    "classification-of-bytes": _raw_call("BYTES", "[1, 1]", r"\001\000\000\000a", BEST_CLASS),
    "empty-batch": _raw_call("INT32", "[0, 0]", ""),
    "claimed-shape-overflows": _raw_call("INT32", "[1, 4611686018427387904]", ""),
    "server-metadata": call_of("ServerMetadata", ""),
    "extensions-not-served": call_of("CudaSharedMemoryRegister", 'name: "r" byte_size: 4'),
    "version-is-a-number": call_of("ModelMetadata", 'name: "versions" version: "1x"'),
    "message-not-readable": Call("ModelInfer", (b"\xff",)),
    "negative-dimension": call_of("ModelInfer", INT32 % ("[-1, 1]", "contents { int_contents: 1 }")),
    "claimed-shape-too-large-told": call_of(
        "ModelInfer", INT32 % ("[1, 1099511627776]", "contents { int_contents: 1 }")
    ),
    "typed-contents-counted-first": call_of("ModelInfer", INT32 % ("[9, 1]", "contents { int_contents: 1 }")),
    "id-with-nul": call_of("ModelInfer", ONE_INT32 + r' id: "a\000b"'),
    "integers-in-range": call_of(
        "ModelInfer",
        'model_name: "identity_uint8" inputs { name: "INPUT0" datatype: "UINT8" shape: [1, 1]'
        " contents { uint_contents: 300 } }",
    ),
    "booleans-are-0-or-1": _raw_call("BOOL", "[1, 1]", r"\002"),
    "bytes-length-past-the-end": _raw_call("BYTES", "[1, 2]", r"\377\377\377\377"),
    "batch-of-no-rows": call_of(
        "ModelInfer",
        'model_name: "versions" inputs { name: "X" datatype: "FP32" shape: [0, 2] } raw_input_contents: "8 bytes "',
    ),
    "output-listed-twice": call_of(
        "ModelInfer",
        ONE_INT32 + ' outputs { name: "OUTPUT0" } outputs { name: "OUTPUT0"'
        ' parameters { key: "classification" value { int64_param: 1 } } }',
    ),
    "classes-without-a-score": call_of(
        "ModelInfer",
        'model_name: "identity_fp32" inputs { name: "INPUT0" datatype: "FP32" shape: [1, 2]'
        ' contents { fp32_contents: [nan, 1] } } outputs { name: "OUTPUT0"'
        ' parameters { key: "classification" value { int64_param: 2 } } }',
    ),
    "which-input-is-told": call_of(
        "ModelInfer",
        'model_name: "int_add" inputs { name: "A" datatype: "INT32" shape: [1, 1, 1] contents { int_contents: 1 } }'
        ' inputs { name: "B" datatype: "FP32" shape: [1, 1] contents { fp32_contents: 1 } }',
    ),
    "all-classes-at-most": call_of(
        "ModelInfer",
        ONE_INT32 + ' outputs { name: "OUTPUT0" parameters { key: "classification"'
        " value { int64_param: 4611686018427387904 } } }",
    ),
    "reserved-keys": call_of(
        "SystemSharedMemoryRegister", 'name: "r" key: "triton_python_backend_shm_region_1" byte_size: 4'
    ),
    "region-needs-a-name": call_of("SystemSharedMemoryRegister", 'key: "/nope" byte_size: 4'),
    "log-format": call_of("LogSettings", ""),
    "settings-checked": call_of("TraceSetting", 'settings { key: "nope" value { value: "1" } }'),
    "numbers-below-0": call_of("ModelInfer", ONE_INT32 + ' parameters { key: "timeout" value { int64_param: -1 } }'),
    "streamed-refusals": call_of(
        STREAM,
        'model_name: "identity_bytes" inputs { name: "INPUT0" datatype: "BYTES" shape: [1, 1] }'
        r' raw_input_contents: "\002\000\000\000a"',
    ),
    "parameters-of-more-kinds": call_of(
        "ModelInfer", ONE_INT32 + ' parameters { key: "custom" value { uint64_param: 7 } }'
    ),
    "region-parameters": call_of(
        "ModelInfer",
        INT32 % ("[1, 1]", 'parameters { key: "shared_memory_region" value { string_param: "r" } }'),
    ),
    "which-mistake-is-told": call_of(
        "ModelInfer", ONE_INT32 + ' raw_input_contents: "1234" outputs { name: "UNKNOWN" }', label=SPOILT_TWICE
    ),
    "stream-errors-as-status": call_of(
        STREAM, 'model_name: "nope"', ONE_INT32, metadata=(("triton_grpc_error", "true"),), lockstep=True
    ),
}
"""The same for those that are declared for calls."""

BREAKING: Final = {
    name: request.path.split("/")[3]
    for name, request in EXAMPLES.items()
    if name.startswith(("classification-", "claimed-", "empty-"))
}
"""These end Triton, or one model in it, so they are asked of a Triton of their own with that model."""

# --- walks

TO_OPENTELEMETRY: Final = call_of("TraceSetting", 'settings { key: "trace_mode" value { value: "opentelemetry" } }')

WALK_EXAMPLES: Final[dict[str, Walk]] = {
    "trace-mode": Walk((Question(TO_OPENTELEMETRY, TO_OPENTELEMETRY, "TraceSetting"),)),
    "loads-are-whole": Walk(
        (
            Change("write_version", ("beta", 2, None)),
            marked(load("http", "beta"), SOME_BROKEN),
        )
    ),
    "repository-bodies-read": Walk((load("grpc", "alpha"), bad_body("alpha", "unload", b"[]"))),
    "load-errors-told": Walk((Change("break_config", ("alpha",)), load("grpc", "alpha"), load("http", "alpha"))),
    "index-tells-failures": Walk(
        (load("http", "alpha"), Change("break_config", ("alpha",)), load("http", "alpha"), load("grpc", "alpha"))
    ),
    "ready-despite-failed-load": Walk((Change("write_version", ("alpha", 2, None)), *[load("http", "alpha")] * 2)),
    "who-is-not-found": Walk(
        (
            load("http", "alpha", overriding("alpha", "", None, name="other")),
            load("grpc", "alpha", overriding("alpha", "", None, name="other")),
        )
    ),
    "files-given-are-served": Walk(
        (
            load("http", "beta"),
            load("http", "beta", overriding("beta", "all", None)),
            marked(load("http", "beta", overriding("beta", "all", {3: Line(7, 7)})), SERVED_ALREADY),
        )
    ),
    "files-count-again": Walk(
        (
            load("http", "beta"),
            load("grpc", "beta", overriding("beta", "latest 1", None, max_batch_size=2)),
            marked(load("grpc", "beta"), AFTER_OVERRIDE),
        )
    ),
    "uploads-are-forgotten": Walk((load("http", "alpha", overriding("alpha", "", {1: None})),)),
}
"""The same for those that only a walk shows."""
