"""Headers that lie, and bytes that nobody knows."""

from __future__ import annotations

from collections.abc import Iterator

from tests.support.malicious.case import Case
from tests.support.malicious.making import (
    gguf,
    hugging_face,
    mar,
    safetensors,
    write,
)
from tests.support.malicious.paths import plain_mar
from tests.support.onnx_models import doubler

from taxiway.core.errors import (
    MalformedArtifact,
    OversizedArtifact,
    UnknownContent,
    UnsafeArtifact,
)


def _safetensors(
    name: str, data: bytes, rule: str = "safetensors", error: type[UnsafeArtifact] = MalformedArtifact
) -> Case:
    return Case(
        f"safetensors-{name}",
        lambda directory, canary: write(directory / "model.safetensors", data),
        lambda directory: write(directory / "model.safetensors", safetensors({"a": ("F32", [2], (0, 8))}, 8)),
        error,
        rule,
    )


def _gguf(name: str, data: bytes, rule: str = "gguf", error: type[UnsafeArtifact] = MalformedArtifact) -> Case:
    return Case(
        f"gguf-{name}",
        lambda directory, canary: write(directory / "model.gguf", data),
        lambda directory: write(directory / "model.gguf", gguf()),
        error,
        rule,
    )


def cases() -> Iterator[Case]:
    row = '{"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}'
    yield _safetensors(
        "huge-header", safetensors({"a": ("F32", [2], (0, 8))}, 8, says=1 << 60), "max_header_bytes", OversizedArtifact
    )
    yield _safetensors("long-header", safetensors({"a": ("F32", [2], (0, 8))}, 8, says=5000))
    yield _safetensors("overlap", safetensors({"a": ("F32", [2], (0, 8)), "b": ("F32", [2], (4, 12))}, 12))
    yield _safetensors("beyond-end", safetensors({"a": ("F32", [100], (0, 400))}, 8))
    yield _safetensors("wrong-shape", safetensors({"a": ("F32", [1 << 40], (0, 8))}, 8))
    yield _safetensors("negative", safetensors({"a": ("F32", [-2], (8, 0))}, 8))
    yield _safetensors("duplicate", safetensors({}, 8, header=f'{{"a": {row}, "a": {row}}}'.encode()))
    yield _safetensors("hidden-bytes", safetensors({"a": ("F32", [2], (0, 8))}, 4096))
    yield _gguf("tensor-count", gguf(tensors=1 << 60), "max_tensors", OversizedArtifact)
    yield _gguf("pair-count", gguf(pairs=1 << 62), "max_entries", OversizedArtifact)
    yield _gguf("pairs-beyond-end", gguf(pairs=1000))
    yield _gguf("key-length", gguf(key_bytes=1 << 50))
    yield _gguf("tensor-beyond-end", gguf(offset=1 << 40))
    yield _gguf("unknown-type", gguf(kind=4000))
    yield Case(
        "native-code",
        lambda d, c: hugging_face(d, {"libcustom.so": b"\x7fELF" + b"\0" * 100}),
        lambda d: hugging_face(d, {"notes.md": b"# notes\n"}),
        UnknownContent,
        "native-code",
    )
    yield Case(
        "unknown-bytes",
        lambda d, c: hugging_face(d, {"weights.dat": bytes(range(200, 256)) * 4}),
        lambda d: hugging_face(d, {"vocab.txt": b"cat\ndog\nRat\n"}),
        UnknownContent,
        "unknown-content",
    )
    yield Case(
        "zip-cut-off",
        lambda d, c: write(d / "model.mar", mar([("a.txt", b"1" * 1000)])[:-30]),
        plain_mar,
        MalformedArtifact,
        "zip",
    )
    yield Case(
        "onnx-cut-off",
        lambda d, c: write(d / "model.onnx", doubler(d / "whole.onnx").read_bytes()[:-5]),
        lambda d: doubler(d / "model.onnx"),
        UnknownContent,
        "unknown-content",
    )
