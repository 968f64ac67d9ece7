"""What an error text means: real Triton's words for each kind of refusal, and taxiway's own.

In: the text of an error, from either server and either protocol. Out: the name of its kind (`error_class`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

ERROR_CLASSES: Final[Sequence[tuple[str, str]]] = (
    ("route-not-found", r"^Not Found$"),
    ("method-not-allowed", r"^Method Not Allowed$"),
    ("unknown-version", r"unknown model: '.*' version -?\d+ is not found"),
    ("version-not-ready", r"unknown model: '.*' version \d+ is not at ready state"),
    ("no-versions", r"unknown model: '.*' has no available versions"),
    ("unknown-model", r"unknown model: '.*' is not found"),
    ("bad-version", r"version should be an integral value > 0"),
    ("not-ready", r"^Model version not ready$"),
    ("load-no-version", r"at least one version must be available|version_policy of model '.*' chooses none"),
    ("load-broken", r"load failed for model '.*': "),
    ("load-failed", r"failed to load '.*', failed to poll from model repository"),
    ("load-parameter", r"unrecognized load parameter|unexpected error on creating Triton parameter"),
    ("load-parameter-kind", r"invalid value type for (load parameter '.*'|'unload_dependents' parameter)"),
    ("repository-name", r"'repository_name' specification is not supported"),
    ("message-syntax", r"Unable to parse request"),
    ("contents-both", r"contents field must not be specified when using raw_input_contents"),
    ("contents-none", r"unable to find data for input tensor"),
    ("region-field", r"Shared memory register request has no '(?P<field>\w+)' field"),
    ("region-taken", r"shared memory region '.*' already in manager"),
    ("region-place", r"Invalid offset( \+ byte size)? for shared memory region"),
    ("region-small", r"shared memory size specified with the request for output"),
    ("region-alone", r"can not be specified without 'shared_memory_region'"),
    ("region-size", r"'shared_memory_byte_size' must be specified along"),
    ("shape-wildcard", r"All input dimensions should be specified"),
    (
        "region-arguments",
        r"failed to register shared memory region|(Invalid|Unable to open) shared memory region: '/?[^']*'$",
    ),
    ("settings-count", r"(?i)expect only (1 value|one trace level)"),
    ("settings-value", r"invalid argument for (--)?(?P<field>log_format)"),
    ("settings-fixed", r"(trace|log) file location can not be updated"),
    ("trace-model", r"Request for unknown model : "),
    ("trace-value", r"Unable to parse '(?P<field>trace_\w+|log_frequency)'"),
    ("no-statistics", r"requested model .*is not available"),
    ("compression-unsupported", r"^Unsupported (compression type|content-encoding)"),
    ("compression-broken", r"nothing to be decompressed"),
    ("header-length", r"inference header size should be in range"),
    ("json-syntax", r"failed to parse the request JSON buffer"),
    ("generate-shape", r"schema can not convert input"),
    ("data-count", r"Shape does not match true shape of 'data' field"),
    ("json-member", r"Unable to (parse|set) '(?P<field>\w+)'"),
    ("json-bytes", r"Unable to parse JSON bytes array"),
    ("json-parameters", r"failed to get request params|Expected JSON object for keyword: 'parameters'"),
    ("json-kind", r"attempt to (access|get members)|^expect (boolean|string|unsigned|uint32|int32) for"),
    ("input-duplicate", r"already exists in request"),
    ("input-content", r"Input must set only one of the following fields"),
    ("input-count", r"expected \d+ inputs but got \d+ inputs"),
    ("input-unknown", r"unexpected inference input"),
    ("output-unknown", r"unexpected inference output"),
    ("output-conflict", r"[Oo]utput can't set both"),
    ("output-fp16-json", r"sending \w+ data via JSON is not supported"),
    ("input-fp16-json", r"receiving \w+ data via JSON is not supported"),
    ("datatype-unknown", r"invalid datatype for input|data-type is '<invalid>'|expected datatype '<invalid>'"),
    ("contents-datatype", r"unexpected explicit tensor data for input tensor"),
    ("datatype", r"data-type is '\w+', but model"),
    ("batch-size", r"batch-size must be <="),
    ("batch-mismatch", r"batch size does not match other inputs"),
    ("batch-missing", r"has no shape but model requires batch dimension"),
    ("shape", r"unexpected shape for input"),
    ("byte-size", r"input byte size mismatch"),
    ("bytes-count", r"unexpected number of string elements|expected \d+ string elements"),
    ("bytes-broken", r"incomplete string (data|length indicator)"),
    ("binary-left", r"unexpected additional input data"),
    ("binary-short", r"unexpected size for input"),
    ("raw-inputs", r"Raw request must only have 1 input"),
    ("raw-shape", r"shape of the raw input .* can not be deduced"),
    ("raw-bytes", r"For BYTE datatype raw input"),
    ("parameter-reserved", r"parameter keys starting with 'triton_'"),
    ("parameter-type", r"parameter '.*' has invalid type"),
    ("region", r"Unable to find .*shared memory region"),
    ("class-type", r"class result not available"),
    ("execution", r"ONNXRuntimeError|Failed to process the request"),
)
"""Kinds of refusal, by the words Triton uses for them; the first that matches names the error."""

GRPC_WORDS: Final[Sequence[tuple[str, str]]] = (("json-member", r"invalid value (type )?for '(?P<field>\w*)'"),)
"""Triton's words for the same kinds where it says them otherwise over gRPC."""

TAXIWAY_WORDS: Final[Sequence[tuple[str, str]]] = (
    ("compression-unsupported", r"content-encoding '.*' is not supported"),
    ("compression-broken", r"the body is not (one whole )?(gzip|deflate)"),
    ("header-length", r"header Inference-Header-Content-Length (is|says)"),
    ("json-syntax", r"the body is not JSON"),
    ("json-bytes", r"element \d+ of input '.*' is .*; BYTES takes"),
    ("json-member:data", r"element \d+ of input '.*' is .*; \w+ (takes|holds)"),
    ("data-count", r"'data' of input '.*' has \d+ elements; its shape says"),
    ("json-parameters", r"'parameters' must be an object"),
    ("json-member", r"(an element of '\w+'|the request) has no member '(?P<field>\w+)'"),
    ("json-member", r"'(?P<field>\w+)' (and '\w+' )?of an? (in|out)put( '.*')? .*must be"),
    ("json-member:shape", r"'shape' of input '.*' is .*a dimension cannot be negative"),
    ("json-kind", r"'(trace|log)_\w+' is .*; it must be (a|an|true|from)\b"),
    ("json-kind", r"'ready' is .*; it must be"),
    ("json-kind", r"^'(byte_size|offset|key)' is .*; it must be (an unsigned integer|a string)"),
    ("json-member", r"(parameter )?'(?P<field>\w+)' .*must be"),
    ("input-content", r"(?i)input ('.*' )?must (set only one of the following|be an object that sets)"),
    ("bytes-broken", r"element \d+ of input '.*' says \d+ bytes; \d+ are left|in the middle of an element"),
    ("bytes-count", r"input '.*' has (more|\d+) elements( than|; its shape says)"),
    ("byte-size", r"the raw input '.*' is \d+ bytes, not a multiple|input '.*' has no rows"),
    ("raw-inputs", r"a raw binary request is for models with one input"),
    ("class-type", r"classification needs numbers"),
    ("execution", r"an ONNX string tensor holds UTF-8 text"),
    ("json-member", r"parameter '(?P<field>\w*)' has no value"),
    ("json-member:data", r"an element of input '.*' does not fit \w+:"),
    ("bytes-count", r"input '.*' has \d+ elements in 'bytes_contents'"),
    ("byte-size", r"input '.*' has \d+ elements in '\w+_contents'"),
    ("load-broken", r"load of model '.*': files are given, and no configuration"),
    ("json-kind", r"log setting '\w+' has no value"),
    ("json-syntax", r"Shared memory register request has no body"),
    ("region-reserved", r"its key begins with the reserved prefix"),
    ("region-name", r"'region name' is necessary to register"),
    ("json-kind", r"load parameter '.*' must be a string|the (parameters|body) must be a JSON object"),
    ("message-syntax", r"the call's message is not an? inference\.\w+"),
    ("contents-datatype", r"input '.*' is \w+, which 'contents' cannot hold"),
    ("shm-disabled", r"Client shared memory is disabled"),
    ("no-body", r"the request has no body"),
    ("too-large", r"has \d+ elements; at most \d+ are taken|nests deeper than \d+ arrays"),
)
"""taxiway's own words for the same kinds, and for those that Triton does not know (`OWN_CLASSES`)."""

OWN_CLASSES: Final = frozenset({"no-body", "too-large", "shm-disabled", "region-name", "region-reserved"})

SAME_MEMBER: Final[Mapping[str, str]] = {"datatype": "name"}
"""Members of an input that taxiway refuses in one breath."""


def error_class(text: str) -> str:
    """What an error text means; a text of no known kind means only itself."""
    for name, pattern in (*ERROR_CLASSES, *GRPC_WORDS, *TAXIWAY_WORDS):
        if (found := re.search(pattern, text)) is not None:
            field = found.groupdict().get("field")
            return f"{name}:{SAME_MEMBER.get(field, field)}" if field else name
    return f"unclassified: {text}"
