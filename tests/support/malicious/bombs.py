"""What unpacks, nests or repeats without bound, and archives that contradict themselves."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.support.malicious.case import Case
from tests.support.malicious.making import (
    field,
    hugging_face,
    mar,
    triton,
    write,
    zipped_items,
)
from tests.support.malicious.paths import plain_mar
from tests.support.malicious.pickles import command

from taxiway.core.errors import (
    MalformedArtifact,
    OversizedArtifact,
    ScanFailed,
)

_MANY = 16 << 20


def zip_of_zeros(directory: Path, size: int) -> Path:
    return write(directory / "model.mar", mar([("zeros.txt", b"0" * size)]))


def gzip_of_zeros(directory: Path, size: int) -> Path:
    return write(directory / "model.mar", mar([("w.gz", gzip.compress(b"0" * size))]))


def nested_zips(directory: Path, depth: int) -> Path:
    data = b"hello"
    for _ in range(depth):
        data = zipped_items([("inner", data)])
    return write(directory / "model.mar", mar([("z", data)]))


def overlapping(directory: Path, canary: Path) -> Path:
    """Two entries of the directory of one archive that mean the same bytes."""
    data = bytearray(mar([("a.txt", b"a" * 100), ("b.txt", b"a" * 100)]))
    with zipfile.ZipFile(io.BytesIO(bytes(data))) as archive:
        offsets = {member.filename: member.header_offset for member in archive.infolist()}
    at = data.rindex(b"PK\x01\x02", 0, data.rindex(b"b.txt"))
    struct.pack_into("<I", data, at + 42, offsets["a.txt"])
    return write(directory / "model.mar", bytes(data))


def twice_named(directory: Path, canary: Path) -> Path:
    data = bytearray(mar([("aa.txt", b"1"), ("bb.txt", b"2")]))
    return write(directory / "model.mar", bytes(data).replace(b"bb.txt", b"aa.txt"))


def encrypted(directory: Path, canary: Path) -> Path:
    data = bytearray(mar([("a.txt", b"1")]))
    at = data.rindex(b"PK\x01\x02")
    data[at + 8] |= 1
    return write(directory / "model.mar", bytes(data))


def deep_onnx(directory: Path, depth: int) -> Path:
    """Graphs within graphs; written by hand, since protobuf's own library refuses to build them."""
    graph = b""
    for _ in range(depth):
        graph = field(1, field(4, b"If") + field(5, field(6, graph)))  # a node, its attribute, the graph in that
    opset = field(8, b"\x10\x11")
    return write(directory / "model.onnx", b"\x08\x0a" + opset + field(7, graph))


def mlmodel(directory: Path, more: str) -> Path:
    model = directory / "mlflow"
    model.mkdir()
    write(model / "MLmodel", f"flavors:\n  python_function:\n    loader_module: x\n{more}".encode())
    return model


LAUGHS = "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nd: [*c, *c]\n"


def _sized(name: str, build: Callable[[Path, int], Path], large: int, small: int, rule: str) -> Case:
    return Case(name, lambda d, c: build(d, large), lambda d: build(d, small), OversizedArtifact, rule)


def cases() -> Iterator[Case]:
    yield _sized("zip-bomb", zip_of_zeros, _MANY, 1 << 16, "max_ratio")
    yield _sized("zip-nesting", nested_zips, 9, 1, "max_archive_depth")
    yield _sized("gzip-bomb", gzip_of_zeros, _MANY, 1024, "unpacked-size")
    yield _sized("onnx-nesting", deep_onnx, 60, 3, "max_message_depth")
    yield Case("zip-overlap", overlapping, plain_mar, MalformedArtifact, "overlap")
    yield Case("zip-duplicate", twice_named, plain_mar, MalformedArtifact, "duplicate-name")
    yield Case("zip-encrypted", encrypted, plain_mar, ScanFailed, "encrypted")
    yield Case(
        "yaml-laughs",
        lambda d, c: mlmodel(d, LAUGHS),
        lambda d: mlmodel(d, "a: [x, x]\n"),
        OversizedArtifact,
        "yaml-alias",
    )
    yield Case(
        "yaml-depth", lambda d, c: mlmodel(d, f"a: {'[' * 500}{']' * 500}\n"), lambda d: mlmodel(d, "a: [[x]]\n"),
        OversizedArtifact, "max_document_depth",
    )  # fmt: skip
    yield Case(
        "yaml-python",
        lambda d, c: mlmodel(d, f"a: !!python/object/apply:os.system ['{command(c)}']\n"),
        lambda d: mlmodel(d, "a: !!str x\n"),
        MalformedArtifact,
        "yaml",
    )
    yield Case(
        "json-depth",
        lambda d, c: hugging_face(d, {"tokenizer.json": b"[" * 100_000}),
        lambda d: hugging_face(d, {"tokenizer.json": b'{"a": [[["[[[["]]]}'}),
        OversizedArtifact,
        "max_nesting",
    )
    yield Case(
        "pbtxt-depth",
        lambda d, c: triton(d, "ensemble_scheduling {" * 5000 + "}" * 5000),
        lambda d: triton(d, "max_batch_size: 4\n"),
        OversizedArtifact,
        "max_nesting",
    )
    yield Case(
        "xml-entities",
        lambda d, c: hugging_face(d, {"a.xml": b'<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "lol">]><l>&a;</l>'}),
        lambda d: hugging_face(d, {"a.xml": b'<?xml version="1.0"?><l>lol</l>'}),
        OversizedArtifact,
        "xml-entity",
    )
