"""Requests that Hypothesis invents: valid ones of every form the protocol allows, and each kind of mistake.

In: the models of models.py. Out: raw HTTP requests, labelled with what they try.
Never: sequences, decoupled models, repository changes, or what is known to kill real Triton
(`breaks_triton`; those are asked of a server that may die, in test_oracle.py).
"""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import json
import math
import re
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from hypothesis import strategies as st
from tests.oracle.models import BY_NAME, MODELS, Model, Tensor

INFERENCE_HEADER: Final = "Inference-Header-Content-Length"

STRUCT_CODES: Final[Mapping[str, str]] = {
    "BOOL": "?",
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "FP16": "e",
    "FP32": "f",
    "FP64": "d",
}
BINARY_ONLY: Final = ("FP16",)
FLOAT_WIDTHS: Final = {"FP16": 16, "FP32": 32, "FP64": 64}
CODINGS: Final[Mapping[str, Callable[[bytes], bytes]]] = {
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "deflate": zlib.compress,
    "identity": bytes,
}
ACCEPTED: Final = (
    "gzip",
    "deflate",
    "gzip, deflate",
    "deflate;q=0.5, gzip;q=0.9",
    "gzip;q=0.2, identity",
    "gzip;q=0",
    "identity",
    "*",
    "br",
    "br, gzip;q=0.5",
    "GZIP",
)
UNKNOWN_MODELS: Final = ("nope", "add%5Fsub", "ADD_SUB", "add_sub.")
VERSIONS: Final = ("1", "2", "3", "0", "01", "99999999999999999999", "x", "-1")
FUZZ: Final = b'{}[]",:0123456789-+.eE \\\tnulltrue\x00NIa'


@dataclasses.dataclass(frozen=True)
class Request:
    """One HTTP request as it goes out; `label` says what it tries, for the report.

    Content-Length is added when it is sent; `Transfer-Encoding: chunked` among the headers chunks the body.
    """

    method: str
    path: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    label: str = ""


@dataclasses.dataclass
class Draft:
    """An inference request while it is being put together, and spoilt."""

    model: Model
    document: dict[str, Any]
    chunks: list[bytes] = dataclasses.field(default_factory=list)
    path: str = ""
    headers: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    spoil_text: Callable[[bytes], bytes] = bytes
    header_length: str | None = None
    """A value for Inference-Header-Content-Length other than the true one."""
    label: str = "infer"

    @property
    def inputs(self) -> list[dict[str, Any]]:
        """The inputs of the document, to spoil in place."""
        inputs: list[dict[str, Any]] = self.document["inputs"]
        return inputs

    def finished(self) -> Request:
        """The draft as it goes out."""
        text = self.spoil_text(json.dumps(self.document).encode("utf-8", "surrogatepass"))
        headers = list(self.headers)
        if self.header_length is not None:
            headers.append((INFERENCE_HEADER, self.header_length))
        elif self.chunks or "binary_data_size" in text.decode("utf-8", "replace"):
            headers.append((INFERENCE_HEADER, str(len(text))))
        body = text + b"".join(self.chunks)
        return Request("POST", self.path, tuple(headers), body, self.label)


ZERO_IN_SHAPE: Final = re.compile(rb'"shape": *\[[^]]*\b0\b')
EMPTY_BATCH: Final = re.compile(rb'"shape": *\[ *-?0 *,[^]]*\b0\b')


def breaks_triton(request: Request) -> bool:
    """Whether this may end real Triton 2.51.0, or be left without an answer for ever.

    It dies of classifying BYTES or a tensor without elements, and never answers an empty batch of empty rows.
    Asked before compression, and generous: a request too many is left out, never one too few.
    """
    classified = b'"classification"' in request.body
    fatal = b'"BYTES"' in request.body or ZERO_IN_SHAPE.search(request.body) is not None
    return (classified and fatal) or EMPTY_BATCH.search(request.body) is not None


# --- values


def values(datatype: str) -> st.SearchStrategy[Any]:
    """One element of that datatype, corners included."""
    if datatype == "BOOL":
        return st.booleans()
    if datatype == "BYTES":
        return st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
    if datatype in FLOAT_WIDTHS:
        return st.floats(width=FLOAT_WIDTHS[datatype])  # type: ignore[arg-type]
    bits = int(datatype.removeprefix("UINT").removeprefix("INT"))
    low, high = (0, 2**bits - 1) if datatype.startswith("U") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return st.integers(low, high)


def packed(datatype: str, elements: Sequence[Any]) -> bytes:
    """Elements as the binary tensor extension lays them out."""
    if datatype == "BYTES":
        encoded = [element.encode() for element in elements]
        return b"".join(struct.pack("<I", len(item)) + item for item in encoded)
    return struct.pack(f"<{len(elements)}{STRUCT_CODES[datatype]}", *elements)


def nested(elements: Sequence[Any], shape: Sequence[int]) -> list[Any]:
    """Flat elements as lists of lists in that shape."""
    if len(shape) <= 1:
        return list(elements)
    step = math.prod(shape[1:])
    return [nested(elements[i * step : (i + 1) * step], shape[1:]) for i in range(shape[0])]


# --- valid inference


@st.composite
def _input(draw: st.DrawFn, tensor: Tensor, batch: Sequence[int], variable: int) -> tuple[dict[str, Any], bytes]:
    """One input, and its chunk when it is sent in binary."""
    shape = [*batch, *(variable if dim < 0 else dim for dim in tensor.dims)]
    count = math.prod(shape)
    elements = draw(st.lists(values(tensor.datatype), min_size=count, max_size=count))
    entry: dict[str, Any] = {"name": tensor.name, "shape": shape, "datatype": tensor.datatype}
    if tensor.datatype in BINARY_ONLY or draw(st.integers(0, 3)) == 0:
        chunk = packed(tensor.datatype, elements)
        return entry | {"parameters": {"binary_data_size": len(chunk)}}, chunk
    return entry | {"data": nested(elements, shape) if draw(st.booleans()) else elements}, b""


@st.composite
def _outputs(draw: st.DrawFn, model: Model) -> list[dict[str, Any]]:
    chosen = draw(st.lists(st.sampled_from(model.outputs), unique=True))
    entries = []
    for tensor in chosen:
        parameters: dict[str, Any] = {}
        binary = [True] if tensor.datatype in BINARY_ONLY else [None, True, False]
        if (wanted := draw(st.sampled_from(binary))) is not None:
            parameters["binary_data"] = wanted
        if tensor.datatype not in ("BOOL", "FP16") and draw(st.integers(0, 3)) == 0:
            parameters["classification"] = draw(st.integers(0, 5))
        entries.append({"name": tensor.name} | ({"parameters": parameters} if parameters else {}))
    return entries


def _parameters(model: Model) -> st.SearchStrategy[dict[str, Any]]:
    """Request parameters; a datatype that JSON cannot carry is asked for in binary."""
    custom = st.one_of(st.integers(-(2**63), 2**64 - 1), st.booleans(), st.text(max_size=3), st.just(1.5))
    optional = {"priority": st.integers(0, 9), "timeout": st.integers(10**6, 10**9), "custom": custom}
    if model.outputs[0].datatype in BINARY_ONLY:
        return st.fixed_dictionaries({"binary_data_output": st.just(True)}, optional=optional)
    return st.fixed_dictionaries({}, optional=optional | {"binary_data_output": st.booleans()})


IDS: Final = st.one_of(st.just(""), st.text(st.characters(exclude_categories=["Cs"]), max_size=5), st.just("id-1"))


def shape_of(draw: st.DrawFn, model: Model) -> tuple[list[int], Callable[[], int]]:
    """A batch, and where variable dimensions come from: mostly one size for all, so that sums fit."""
    batch = [draw(st.integers(1, min(3, model.max_batch_size)))] if model.max_batch_size else []
    common = draw(st.integers(0, 3))
    uneven = draw(st.integers(0, 9)) == 0
    return batch, (lambda: draw(st.integers(0, 3))) if uneven else (lambda: common)


@st.composite
def drafts(draw: st.DrawFn) -> Draft:
    """A valid inference request, as yet neither compressed nor spoilt."""
    model = draw(st.sampled_from(MODELS))
    batch, variable = shape_of(draw, model)
    inputs = [draw(_input(tensor, batch, variable())) for tensor in model.inputs]
    if draw(st.integers(0, 4)) == 0:
        inputs.reverse()
    document: dict[str, Any] = {"inputs": [entry for entry, _ in inputs]}
    extras = draw(st.sets(st.sampled_from(["id", "outputs", "parameters"])))
    if "id" in extras:
        document = {"id": draw(IDS)} | document
    if "outputs" in extras:
        document["outputs"] = draw(_outputs(model))
    if "parameters" in extras or model.outputs[0].datatype in BINARY_ONLY:
        document["parameters"] = draw(_parameters(model))
    version = draw(st.sampled_from(["", "", "", *(f"/versions/{number}" for number in model.graphs)]))
    path = f"/v2/models/{model.name}{version}/infer"
    return Draft(model, document, [chunk for _, chunk in inputs if chunk], path, label="infer valid")


@st.composite
def _raw(draw: st.DrawFn) -> Request:
    """A raw binary request: the body is the one input's bytes, the header says 0."""
    model = draw(st.sampled_from(MODELS))
    tensor = model.inputs[0]
    count = math.prod(draw(st.integers(0, 3)) if dim < 0 else dim for dim in tensor.dims)
    elements = draw(st.lists(values(tensor.datatype), min_size=count, max_size=count))
    body = "".join(elements).encode() if tensor.datatype == "BYTES" else packed(tensor.datatype, elements)
    cut = draw(st.sampled_from([0, 0, 0, 1]))
    path = f"/v2/models/{model.name}/infer"
    return Request("POST", path, ((INFERENCE_HEADER, "0"),), body[: len(body) - cut], "infer raw")


@st.composite
def _wrapped(draw: st.DrawFn, request: Request) -> Request:
    """The same request compressed, chunked, or asking for a compressed answer; mostly none of it."""
    headers, body = list(request.headers), request.body
    match draw(st.integers(0, 12)):
        case 0:
            coding = draw(st.sampled_from(sorted(CODINGS)))
            headers.append(("Content-Encoding", coding))
            body = CODINGS[coding](body)
        case 1:
            headers.append(("Accept-Encoding", draw(st.sampled_from(ACCEPTED))))
        case 2:
            headers.append(("Transfer-Encoding", "chunked"))
        case 3:
            headers.append(("Content-Type", draw(st.sampled_from(["application/json", "text/plain", "x"]))))
        case 4:
            headers.append(("Request-Timeout", draw(st.sampled_from(["30", "1.5", "x"]))))
    return dataclasses.replace(request, headers=tuple(headers), body=body)


@st.composite
def _with_headers(draw: st.DrawFn, request: Request) -> Request:
    """The same request with headers that mean something to /infer, and to this route perhaps not."""
    headers, body = list(request.headers), request.body
    match draw(st.integers(0, 11)):
        case 0:
            headers.append(("Accept-Encoding", draw(st.sampled_from(ACCEPTED))))
        case 1:
            coding = draw(st.sampled_from(sorted(CODINGS)))
            headers.append(("Content-Encoding", coding))
            body = CODINGS[coding](body)
        case 2:
            headers.append(("Content-Encoding", draw(st.sampled_from(["br", "GZIP", "gzip", "", "identity, gzip"]))))
        case 3:
            headers.append((INFERENCE_HEADER, draw(st.sampled_from(["0", "1", "999", "-1", "abc"]))))
        case 4:
            headers.append(("Request-Timeout", draw(st.sampled_from(["30", "1.5", "x"]))))
    return dataclasses.replace(request, headers=tuple(headers), body=body)


# --- mistakes: each takes a valid draft and spoils it

Spoil = Callable[[st.DrawFn, Draft], None]


def _some_input(draw: st.DrawFn, draft: Draft) -> dict[str, Any]:
    return draw(st.sampled_from(draft.inputs))


def _drop_input(draw: st.DrawFn, draft: Draft) -> None:
    draft.inputs.remove(_some_input(draw, draft))


def _add_unknown_input(draw: st.DrawFn, draft: Draft) -> None:
    draft.inputs.append({"name": "UNKNOWN", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]})


def _rename_input(draw: st.DrawFn, draft: Draft) -> None:
    _some_input(draw, draft)["name"] = draw(st.sampled_from(["UNKNOWN", "", "input0", 3, None]))


def _duplicate_input(draw: st.DrawFn, draft: Draft) -> None:
    entry = _some_input(draw, draft)
    if "data" in entry:
        draft.inputs.append(dict(entry))


def _drop_member(draw: st.DrawFn, draft: Draft) -> None:
    entry = _some_input(draw, draft)
    entry.pop(draw(st.sampled_from(sorted(entry))))


def _datatype(draw: st.DrawFn, draft: Draft) -> None:
    wrong = ["FP32", "INT32", "INT64", "BOOL", "BYTES", "FP16", "BF16", "UINT8", "fp32", "FLOAT", "", 7, None]
    _some_input(draw, draft)["datatype"] = draw(st.sampled_from(wrong))


def _shape_value(draw: st.DrawFn, draft: Draft) -> None:
    """One dimension changed; not to 2**31 or 2**61, which Triton allocates before it looks at the data."""
    shape = _some_input(draw, draft)["shape"]
    where = draw(st.integers(0, len(shape) - 1))
    shape[where] = draw(st.sampled_from([-1, 0, 1, 2, 5, 9, 65536, 2**64, 1.0, "1", None, True]))


def _shape_rank(draw: st.DrawFn, draft: Draft) -> None:
    entry = _some_input(draw, draft)
    entry["shape"] = draw(st.sampled_from([[], entry["shape"][1:], [1, *entry["shape"]], [*entry["shape"], 1]]))


def _shape_kind(draw: st.DrawFn, draft: Draft) -> None:
    _some_input(draw, draft)["shape"] = draw(st.sampled_from([4, "4", {}, None, True]))


def _batch_everywhere(draw: st.DrawFn, draft: Draft) -> None:
    """A consistent batch that is too large, or none at all."""
    size = draw(st.sampled_from([0, 9, 100]))
    for entry in draft.inputs:
        inner = math.prod(entry["shape"][1:])
        entry["shape"] = [size, *entry["shape"][1:]]
        if "data" in entry:
            entry["data"] = [0] * (size * inner)


def _data_count(draw: st.DrawFn, draft: Draft) -> None:
    entry = _some_input(draw, draft)
    data = entry.get("data", [1])
    entry["data"] = draw(st.sampled_from([data[1:], [*data, *data[:1]], [*data, 1], []]))


def _flat(data: Any) -> list[Any]:
    return [element for each in data for element in _flat(each)] if isinstance(data, list) else [data]


def _data_element(draw: st.DrawFn, draft: Draft) -> None:
    """One element of another kind, or out of the datatype's range."""
    entry = _some_input(draw, draft)
    strange: list[Any] = [
        None,
        True,
        "x",
        "1",
        1.0,
        1.5,
        -1,
        300,
        70000,
        2**31,
        2**32,
        2**63,
        2**64,
        -(2**63) - 1,
        {},
        [],
    ]
    data = _flat(entry.get("data", [0]))  # a row replaced would be two mistakes: the count is wrong then, too
    where = draw(st.integers(0, max(0, len(data) - 1)))
    data[where : where + 1] = [draw(st.sampled_from([*strange, 1e39, -0.0, 1e300]))]
    entry["data"] = data


def _data_kind(draw: st.DrawFn, draft: Draft) -> None:
    _some_input(draw, draft)["data"] = draw(st.sampled_from([None, 1, "x", {}, True]))


def _data_nesting(draw: st.DrawFn, draft: Draft) -> None:
    entry = _some_input(draw, draft)
    data: Any = entry.get("data", [1])
    for _ in range(draw(st.sampled_from([1, 2, 50, 98, 110]))):
        data = [data]
    entry["data"] = draw(st.sampled_from([data, [[], data], [data, []]]))


def _input_kind(draw: st.DrawFn, draft: Draft) -> None:
    draft.inputs[0] = draw(st.sampled_from([1, "x", None, [], {}]))


def _inputs_kind(draw: st.DrawFn, draft: Draft) -> None:
    draft.document["inputs"] = draw(st.sampled_from([[], {}, None, 1, "x"]))
    draft.document.pop("outputs", None)


def _top_kind(draw: st.DrawFn, draft: Draft) -> None:
    text = draw(st.sampled_from([b"[]", b"1", b"null", b'"x"', b"{}", b"true"]))
    draft.spoil_text = lambda _: text


def _id_kind(draw: st.DrawFn, draft: Draft) -> None:
    draft.document["id"] = draw(st.sampled_from([1, None, True, [], {}, 1.5]))


def _parameter(draw: st.DrawFn, draft: Draft) -> None:
    names = ["custom", "triton_x", "triton_", "priority", "timeout", "binary_data_output", "headers", ""]
    odd: list[Any] = [None, [], {}, "x", 1, -1, 1.5, True, 2**64, 2**63, 0]
    draft.document["parameters"] = {draw(st.sampled_from(names)): draw(st.sampled_from(odd))}


def _parameters_kind(draw: st.DrawFn, draft: Draft) -> None:
    draft.document["parameters"] = draw(st.sampled_from([[], None, 1, "x"]))


def _input_parameters(draw: st.DrawFn, draft: Draft) -> None:
    strange: list[Any] = [1, None, [], {"unknown": 1}, {"shared_memory_region": "r"}, {"binary_data_size": 4}]
    more: list[Any] = [
        {"binary_data_size": -1},
        {"binary_data_size": "4"},
        {"binary_data_size": 1.5},
        {"binary_data_size": 0},
    ]
    region = {"shared_memory_region": "r", "shared_memory_byte_size": 4, "shared_memory_offset": 0}
    _some_input(draw, draft)["parameters"] = draw(st.sampled_from([*strange, *more, region]))


def _output_unknown(draw: st.DrawFn, draft: Draft) -> None:
    known: list[Any] = [{"name": tensor.name} for tensor in draft.model.outputs]
    where = draw(st.integers(0, len(known)))
    known.insert(where, {"name": draw(st.sampled_from(["UNKNOWN", "", "output0"]))})
    draft.document["outputs"] = known


def _output_twice(draw: st.DrawFn, draft: Draft) -> None:
    name = draft.model.outputs[0].name
    draft.document["outputs"] = [
        {"name": name, "parameters": {"binary_data": draw(st.booleans())}},
        {"name": name},
    ]


def _output_kind(draw: st.DrawFn, draft: Draft) -> None:
    draft.document["outputs"] = draw(st.sampled_from([{}, None, 1, [1], [{}], [None], [{"name": 1}], ["x"]]))


def _output_parameters(draw: st.DrawFn, draft: Draft) -> None:
    region = {"shared_memory_region": "r", "shared_memory_byte_size": 4}
    strange: list[Any] = [
        1,
        None,
        [],
        {"unknown": 1},
        region,
        region | {"binary_data": True},
        region | {"binary_data": False},
    ]
    binary: list[Any] = [{"binary_data": 1}, {"binary_data": "true"}, {"binary_data": None}]
    names = [{"name": draft.model.outputs[0].name, "parameters": draw(st.sampled_from([*strange, *binary]))}]
    draft.document["outputs"] = names


def _classification(draw: st.DrawFn, draft: Draft) -> None:
    count = draw(st.sampled_from([-1, "2", 1.5, True, None, 2**64, 0, 100]))
    region = draw(st.sampled_from([{}, {"shared_memory_region": "r", "shared_memory_byte_size": 4}]))
    name = draft.model.outputs[-1].name
    draft.document["outputs"] = [{"name": name, "parameters": {"classification": count} | region}]


def _binary_size(draw: st.DrawFn, draft: Draft) -> None:
    """The chunk sizes no longer add up."""
    for entry in draft.inputs:
        if isinstance(entry.get("parameters"), dict) and "binary_data_size" in entry["parameters"]:
            entry["parameters"]["binary_data_size"] += draw(st.sampled_from([-4, -1, 1, 4, 1000]))


def _chunk_bytes(draw: st.DrawFn, draft: Draft) -> None:
    body = b"".join(draft.chunks)
    draft.chunks = [draw(st.sampled_from([b"", body[:-1], body + b"\0", body[1:], body * 2]))]


def _bytes_lengths(draw: st.DrawFn, draft: Draft) -> None:
    """A BYTES tensor whose length prefixes are wrong."""
    draft.model = BY_NAME["identity_bytes"]
    draft.path = f"/v2/models/{draft.model.name}/infer"
    sound = packed("BYTES", ["ab", "c"])
    chunks = [sound[:-1], sound[:6], sound[:3], sound + b"\0", b"\xff\xff\xff\xff", sound * 2, b""]
    chunk = draw(st.sampled_from(chunks))
    entry = {
        "name": "INPUT0",
        "shape": [1, 2],
        "datatype": "BYTES",
        "parameters": {"binary_data_size": len(chunk)},
    }
    draft.document, draft.chunks = {"inputs": [entry]}, [chunk]


def _header_length(draw: st.DrawFn, draft: Draft) -> None:
    odd: list[Any] = ["-1", "abc", "99999", "1", "1.5", "0x10", "99999999999999999999", "0"]
    draft.header_length = draw(st.sampled_from(odd))


def _truncated(draw: st.DrawFn, draft: Draft) -> None:
    share = draw(st.integers(0, 99))
    draft.spoil_text = lambda text: text[: len(text) * share // 100]


def _fuzzed(draw: st.DrawFn, draft: Draft) -> None:
    """One character of the JSON text replaced, inserted or removed."""
    share, byte = draw(st.integers(0, 99)), draw(st.sampled_from(FUZZ))
    width = draw(st.sampled_from([0, 1]))
    new = draw(st.sampled_from([b"", bytes([byte])]))

    def spoil(text: bytes) -> bytes:
        at = len(text) * share // 100
        return text[:at] + new + text[at + width :]

    draft.spoil_text = spoil


def _surrounded(draw: st.DrawFn, draft: Draft) -> None:
    before = draw(st.sampled_from([b"", b"", b" \n\t", b"x", b"/**/"]))
    after = draw(st.sampled_from([b"", b" ", b"\n", b"x", b"{}", b",", b"]", b"\0"]))
    draft.spoil_text = lambda text: before + text + after


def _tokens(draw: st.DrawFn, draft: Draft) -> None:
    """The same document with a number spelt differently."""
    spelling = draw(st.sampled_from([b"NaN", b"Infinity", b"-Infinity", b"01", b"+1", b".5", b"1.", b"0x1", b"nan"]))
    entry = {"name": "X", "shape": [1, 4], "datatype": "FP32", "data": [0, 0, 0, "TOKEN"]}
    draft.model, draft.path, draft.chunks = BY_NAME["mlp"], "/v2/models/mlp/infer", []
    draft.document = {"inputs": [entry]}
    draft.spoil_text = lambda text: text.replace(b'"TOKEN"', spelling)


def _duplicate_member(draw: st.DrawFn, draft: Draft) -> None:
    first = draw(st.sampled_from([b'"id":"first",', b'"id":1,', b'"inputs":[],', b'"unknown":[1,{}],']))
    draft.spoil_text = lambda text: b"{" + first + text[1:]


def _strings(draw: st.DrawFn, draft: Draft) -> None:
    odd: list[Any] = [rb"\ud83d", rb"\ud83d\ude00", rb"\x", b"\n", rb"\u00", rb"\u0000", rb"\/", b"\x7f"]
    value = draw(st.sampled_from(odd))
    draft.document = {"id": "STRING"} | draft.document | {"id": "STRING"}
    draft.spoil_text = lambda text: text.replace(b"STRING", value)


def _path(draw: st.DrawFn, draft: Draft) -> None:
    name = draw(st.sampled_from([draft.model.name, *UNKNOWN_MODELS]))
    version = draw(st.sampled_from(["", *(f"/versions/{v}" for v in VERSIONS)]))
    suffix = draw(st.sampled_from(["", "", "/", "?x=1", "x"]))
    draft.path = f"/v2/models/{name}{version}/infer{suffix}"


def _content_encoding(draw: st.DrawFn, draft: Draft) -> None:
    coding = draw(st.sampled_from(["br", "zstd", "GZIP", "gzip, gzip", "compress", "gzip, identity", "", "identity"]))
    draft.headers.append(("Content-Encoding", coding))


SPOILS: Final[Mapping[str, Spoil]] = {
    spoil.__name__.strip("_").replace("_", "-"): spoil
    for spoil in (
        _drop_input,
        _add_unknown_input,
        _rename_input,
        _duplicate_input,
        _drop_member,
        _datatype,
        _shape_value,
        _shape_rank,
        _shape_kind,
        _batch_everywhere,
        _data_count,
        _data_element,
        _data_kind,
        _data_nesting,
        _input_kind,
        _inputs_kind,
        _top_kind,
        _id_kind,
        _parameter,
        _parameters_kind,
        _input_parameters,
        _output_unknown,
        _output_twice,
        _output_kind,
        _output_parameters,
        _classification,
        _binary_size,
        _chunk_bytes,
        _bytes_lengths,
        _header_length,
        _truncated,
        _fuzzed,
        _surrounded,
        _tokens,
        _duplicate_member,
        _strings,
        _path,
        _content_encoding,
    )
}


@st.composite
def _spoilt(draw: st.DrawFn, name: str) -> Request:
    draft = draw(drafts())
    SPOILS[name](draw, draft)
    draft.label = f"infer {name}"
    return draft.finished()


@st.composite
def _spoilt_twice(draw: st.DrawFn) -> Request:
    """Two mistakes in one request: which of them is told depends on the order of the checks."""
    draft = draw(drafts())
    for name in draw(st.lists(st.sampled_from(sorted(SPOILS)), min_size=2, max_size=2, unique=True)):
        with contextlib.suppress(AttributeError, LookupError, TypeError, ValueError):  # the first one took it away
            SPOILS[name](draw, draft)
    draft.label = "infer spoilt twice"
    return draft.finished()


@st.composite
def _damaged(draw: st.DrawFn) -> Request:
    """A compressed body that did not arrive whole, or is not what its header says."""
    request = draw(drafts().map(Draft.finished).filter(lambda each: not breaks_triton(each)))
    coding = draw(st.sampled_from(["gzip", "deflate"]))
    packed_body = CODINGS[coding](request.body)
    cut = draw(st.integers(1, len(packed_body)))
    other = CODINGS["deflate" if coding == "gzip" else "gzip"](request.body)
    damaged = [packed_body[:-cut], packed_body + b"more", packed_body * 2, request.body, other, b"", b"\x1f\x8b"]
    headers = (*request.headers, ("Content-Encoding", coding))
    body = draw(st.sampled_from(damaged))
    return dataclasses.replace(request, headers=headers, body=body, label="infer damaged")


# --- generate


@st.composite
def _generate(draw: st.DrawFn) -> Request:
    """generate and generate_stream: right kinds mostly, missing and wrong ones too."""
    model = draw(st.sampled_from(MODELS))
    body: dict[str, Any] = {"id": draw(IDS)} if draw(st.booleans()) else {}
    batch, variable = shape_of(draw, model)
    for tensor in model.inputs:
        count = math.prod([*batch, *(variable() if dim < 0 else dim for dim in tensor.dims)])
        elements = draw(st.lists(values(tensor.datatype), min_size=count, max_size=count))
        body[tensor.name] = elements[0] if count == 1 and draw(st.booleans()) else elements
    label = "generate valid"
    if draw(st.integers(0, 2)) == 0:
        label = "generate spoilt"
        key = draw(st.sampled_from([*(tensor.name for tensor in model.inputs), "extra", "parameters", "id"]))
        odd: list[Any] = [
            None,
            1,
            1.5,
            "x",
            True,
            [],
            {},
            [1, 2],
            [["x"]],
            {"extra": 1},
            {"triton_x": 1},
            {"extra": []},
        ]
        body[key] = draw(st.sampled_from(odd))
        if draw(st.integers(0, 2)) == 0:
            del body[key]
    text = json.dumps(body).encode()
    cut = draw(st.sampled_from([0] * 9 + [1]))
    verb = draw(st.sampled_from(["generate", "generate_stream"]))
    version = draw(st.sampled_from([""] * 6 + ["/versions/1", "/versions/9"]))
    path = f"/v2/models/{model.name}{version}/{verb}"
    coding = [("Content-Encoding", draw(st.sampled_from(["identity", "gzip", "br"])))]
    headers = tuple(coding if draw(st.integers(0, 20)) == 0 else [])
    return Request("POST", path, headers, text[: len(text) - cut], label)


# --- everything else

ROUTES: Final = (
    "/v2",
    "/v2?x=1",
    "/v2/health/live",
    "/v2/health/ready",
    "/v2/health",
    "/v2/models/stats",
    "/v2/models",
    "/",
    "/nope",
    "//v2",
    "/v2/repository/index",
    "/v2/repository/other/index",
    "/v2/trace/setting",
    "/v2/logging",
    "/v2/systemsharedmemory/status",
    "/v2/cudasharedmemory/region/r/status",
)
MODEL_ROUTES: Final = (
    "",
    "/config",
    "/ready",
    "/stats",
    "/infer",
    "/generate",
    "/generate_stream",
    "/trace/setting",
    "/nope",
    "/",
)


@st.composite
def _routes(draw: st.DrawFn) -> Request:
    method = draw(st.sampled_from(["GET"] * 8 + ["POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"]))
    if draw(st.integers(0, 3)) == 0:
        path = draw(st.sampled_from(ROUTES))
    else:
        name = draw(st.sampled_from([*BY_NAME, *UNKNOWN_MODELS]))
        version = draw(st.sampled_from([""] * 8 + [f"/versions/{v}" for v in VERSIONS]))
        path = f"/v2/models/{name}{version}{draw(st.sampled_from(MODEL_ROUTES))}"
    return Request(method, path, label="route")


@st.composite
def _index(draw: st.DrawFn) -> Request:
    odd: list[Any] = [
        b"",
        b"{}",
        b'{"ready":true}',
        b'{"ready":false}',
        b'{"ready":1}',
        b"{",
        b"[]",
        b'{"ready":null}',
    ]
    return Request("POST", "/v2/repository/index", body=draw(st.sampled_from(odd)), label="index")


TRACE_VALUES: Final[Mapping[str, Sequence[Any]]] = {
    "trace_level": (["OFF"], ["TIMESTAMPS"], ["OFF", "TENSORS"], [], "OFF", [5], None),
    "trace_rate": ("5", "1000", "", "x", "4294967296", 5, True, ["5"], {}, None),
    "trace_count": ("-1", "7", "-2", "x", "2147483648", 7, None),
    "log_frequency": ("0", "3", "x", "4294967296", 3, None),
    "trace_file": ("x", None),
}
LOG_VALUES: Final[Mapping[str, Sequence[Any]]] = {
    "log_file": ("x", None),
    "log_info": (True, False, "true", 1, None),
    "log_warning": (True, False, 0),
    "log_error": (True, False, []),
    "log_verbose_level": (0, 1, 2147483647, -1, 1.5, "1", True, None),
}
"""What both servers take, or both refuse: else they would go on with different settings."""


@st.composite
def _settings(draw: st.DrawFn) -> Request:
    model = draw(st.sampled_from(["", *(f"/models/{name}" for name in (*BY_NAME, *UNKNOWN_MODELS))]))
    forms = [(f"/v2{model}/trace/setting", TRACE_VALUES), ("/v2/logging", LOG_VALUES)]
    path, values = draw(st.sampled_from(forms))
    key = draw(st.sampled_from(sorted(values)))
    change = json.dumps({key: draw(st.sampled_from(values[key]))}).encode()
    body = draw(st.sampled_from([change] * 8 + [b"{", b""]))
    return Request("POST", path, body=body, label="settings")


REGION_BODIES: Final = (
    b"",
    b"{",
    b"[]",
    b"{}",
    b'{"key":"/nope-taxiway","byte_size":4}',
    b'{"key":"/nope-taxiway","byte_size":4,"offset":1}',
    b'{"key":"/nope-taxiway","byte_size":-1}',
    b'{"key":"/nope-taxiway","byte_size":"4"}',
    b'{"key":"/nope-taxiway"}',
    b'{"key":1,"byte_size":4}',
    b'{"byte_size":4}',
)


@st.composite
def _regions(draw: st.DrawFn) -> Request:
    """Regions of system shared memory of which there are none; test_regions.py has some."""
    region = draw(st.sampled_from(["", "/region/r", "/region/nope", "/region/"]))
    verb = draw(st.sampled_from(["status", "register", "register", "unregister"]))
    method = draw(st.sampled_from(["GET" if verb == "status" else "POST"] * 5 + ["GET", "POST"]))
    body = draw(st.sampled_from(REGION_BODIES)) if method == "POST" else b""
    return Request(method, f"/v2/systemsharedmemory{region}/{verb}", body=body, label="region")


def _sent(plain: st.SearchStrategy[Request]) -> st.SearchStrategy[Request]:
    return plain.filter(lambda request: not breaks_triton(request)).flatmap(_wrapped)


def kinds() -> dict[str, tuple[int, st.SearchStrategy[Request]]]:
    """Every kind of request with its weight; each kind gets its share of a run, however large it is.

    One strategy for all kinds would leave the proportions to Hypothesis, which repeats what it did last.
    """
    valid = _sent(drafts().map(Draft.finished))
    spoilt = {name: (2, _sent(_spoilt(name))) for name in SPOILS}
    return {
        "valid": (40, valid),
        "raw": (6, _sent(_raw())),
        **spoilt,
        "twice": (8, _sent(_spoilt_twice())),
        "damaged": (4, _damaged()),
        "generate": (18, _generate().flatmap(_with_headers)),
        "routes": (14, _routes().flatmap(_with_headers)),
        "settings": (8, _settings()),
        "regions": (4, _regions()),
        "index": (3, _index().flatmap(_with_headers)),
    }
