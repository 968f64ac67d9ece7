"""The readers of foreign bytes: whatever they are given, they answer or refuse, and never run away."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.malicious import making

from taxiway.core.errors import OversizedArtifact, UnsafeArtifact
from taxiway.intake.limits import DEFAULT_LIMITS
from taxiway.intake.read.documents import read_json, read_yaml
from taxiway.intake.read.flatbuffer import Table
from taxiway.intake.read.gguf import read_gguf
from taxiway.intake.read.onnx import read_onnx
from taxiway.intake.read.pickles import UNKNOWN, read_stream
from taxiway.intake.read.safetensors import read_safetensors
from taxiway.intake.read.ubjson import read_ubjson
from taxiway.intake.scan.content import Kind, identify

SMALL = replace(DEFAULT_LIMITS, max_document_depth=20, max_document_nodes=1000, max_message_fields=10_000)


def ubjson(value: Any) -> bytes:
    """As XGBoost writes it."""
    match value:
        case dict():
            items = (
                b"L" + struct.pack(">q", len(key.encode())) + key.encode() + ubjson(item) for key, item in value.items()
            )
            return b"{" + b"".join(items) + b"}"
        case list() if value and all(isinstance(item, float) for item in value):
            return b"[$d#L" + struct.pack(">q", len(value)) + b"".join(struct.pack(">f", item) for item in value)
        case list():
            return b"[" + b"".join(ubjson(item) for item in value) + b"]"
        case str():
            return b"SL" + struct.pack(">q", len(value.encode())) + value.encode()
        case bool():
            return b"T" if value else b"F"
        case None:
            return b"Z"
    return b"L" + struct.pack(">q", value)


ONNX = making.field(7, making.field(11, making.field(1, b"x"))) + making.field(8, b"\x10\x11")
SAFETENSORS = making.safetensors({"a": ("F32", [2], (0, 8)), "b": ("I64", [], (8, 16))}, 16)
UBJSON = ubjson({"learner": {"name": "x", "list": [1, 2, None, True], "weights": [1.0, 2.0]}})

FLATBUFFER = struct.pack("<IHHHi", 8, 6, 8, 0, 4) + bytes(40)

READERS: dict[str, tuple[Callable[[bytes], Any], bytes]] = {
    "onnx": (lambda data: read_onnx(data, "x", SMALL), ONNX),
    "safetensors": (lambda data: read_safetensors(data, "x", SMALL), SAFETENSORS),
    "gguf": (lambda data: read_gguf(data, "x", SMALL), making.gguf()),
    "ubjson": (lambda data: read_ubjson(data, "x", SMALL), UBJSON),
    "flatbuffer": (
        lambda data: list(Table.root(data, "x").tables(0)),
        struct.pack("<IHHHi", 8, 6, 8, 0, 4) + bytes(40),
    ),
    "json": (lambda data: read_json(data, "x", SMALL), b'{"a": [1, 2, {"b": null}]}'),
    "yaml": (lambda data: read_yaml(data, "x", SMALL), b"a: [1, 2]\nb: {c: d}\n"),
}


@pytest.mark.parametrize("name", READERS)
@given(data=st.data())
def test_a_file_that_was_damaged_is_read_or_refused(name: str, data: st.DataObject) -> None:
    read, whole = READERS[name]
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        damaged[at] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(damaged)))
    with contextlib.suppress(UnsafeArtifact):
        read(bytes(damaged[:end]))


@pytest.mark.parametrize("name", READERS)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(name: str, data: bytes) -> None:
    with contextlib.suppress(UnsafeArtifact):
        READERS[name][0](data)


@given(st.binary(max_size=200))
def test_any_bytes_are_of_some_kind(data: bytes) -> None:
    assert identify(data) in Kind


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@given(values)
def test_binary_json_is_read_as_it_was_written(value: Any) -> None:
    assert read_ubjson(ubjson(value), "x", SMALL) == value


def test_binary_json_that_nests_is_refused() -> None:
    with pytest.raises(OversizedArtifact) as refused:
        read_ubjson(b"[" * 1000, "x", SMALL)
    assert refused.value.facts["rule"] == "max_document_depth"


def test_json_that_nests_is_refused() -> None:
    with pytest.raises(OversizedArtifact):
        read_json(b"[" * 100_000, "x", DEFAULT_LIMITS)


def test_a_header_of_safetensors() -> None:
    found = read_safetensors(SAFETENSORS, "x", DEFAULT_LIMITS)
    assert [(tensor.name, tensor.dtype, tensor.shape) for tensor in found.tensors] == [
        ("a", "F32", (2,)),
        ("b", "I64", ()),
    ]
    assert found.parameters == 3


def test_a_header_of_gguf() -> None:
    found = read_gguf(making.gguf(), "x", DEFAULT_LIMITS)
    assert found.metadata == {"general.architecture": "llama"}
    assert (found.parameters, found.types) == (8, {"F32": 1})


# --- pickles -------------------------------------------------------------------------------------------


@given(values, st.integers(0, 5))
def test_what_python_pickles_is_read_to_its_end(value: Any, protocol: int) -> None:
    stream = read_stream(io.BytesIO(pickle.dumps(value, protocol)), 10_000)
    assert (stream.ends, stream.globals, stream.acts) == (True, (), False)


@pytest.mark.parametrize("protocol", range(6))
def test_a_global_is_named_in_every_protocol(protocol: int) -> None:
    assert read_stream(io.BytesIO(pickle.dumps(json.loads, protocol)), 1000).globals == ("json.loads",)


def test_a_global_of_a_name_that_no_text_holds() -> None:
    joined = b"\x80\x04\x8c\x02os(\x8c\x03sys\x8c\x03temt\x93."
    assert read_stream(io.BytesIO(joined), 1000).globals == (UNKNOWN,)


@pytest.mark.parametrize(
    "prose",
    ["hello", "cat\ndog\nRat\n", "import os\nos.system('x')\n", "(a) b", "]]]", "class X:\n    pass\n", "the lot", "."],
)
def test_prose_is_no_pickle(prose: str) -> None:
    assert identify(prose.encode()) is Kind.TEXT


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", Kind.EMPTY),
        (b"GGUF\x03\0\0\0", Kind.GGUF),
        (b"ftrt\0\0", Kind.PLAN),
        (SAFETENSORS, Kind.SAFETENSORS),
        (ONNX, Kind.ONNX),
        (UBJSON, Kind.UBJSON),
        (pickle.dumps({"a": 1}), Kind.PICKLE),
        (pickle.dumps({"a": 1}, 0), Kind.PICKLE),
        (making.tarred([("a", b"b")]), Kind.TAR),
        (making.zipped_items([("a", b"b")]), Kind.ZIP),
        (b"\x7fELF\x02\x01", Kind.NATIVE),
        (b'{"a": 1}', Kind.TEXT),
        ("ünïcode\n".encode(), Kind.TEXT),
        (bytes(range(128, 256)), Kind.UNKNOWN),
    ],
)
def test_the_kind_is_told_by_the_bytes(data: bytes, kind: Kind) -> None:
    assert identify(data) is kind
