"""Pickles in files that do not look like pickles."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator

from tests.support.malicious.case import Case
from tests.support.malicious.making import (
    hugging_face,
    mar,
    mlflow_model,
    npy_of_objects,
    skops_archive,
    torch_export,
    torch_legacy,
    torch_saved,
    torch_script,
    torch_tar,
    write,
    zipped_items,
)
from tests.support.malicious.pickles import HARMLESS, os_system

from taxiway.core.errors import (
    UntrustedPickle,
)


def gzipped_twice(pickled: bytes) -> bytes:
    """The twin is packed once: what is packed twice is no format's, though the scan looks into it."""
    return gzip.compress(pickled if pickled is HARMLESS else gzip.compress(pickled))


def zipped_twice(data: bytes) -> bytes:
    return zipped_items([("z", zipped_items([("w", data)]))])


def _disguised(name: str, file: str, wrap: Callable[[bytes], bytes]) -> Case:
    return Case(
        f"disguise-{name}",
        lambda directory, canary: write(directory / file, wrap(os_system(canary))),
        lambda directory: write(directory / file, wrap(HARMLESS)),
        UntrustedPickle,
        "pickle",
        trusted=True,
    )


SCRIPT_OBJECT = b"\x80\x02c__torch__\nM\n)\x81}b."
"""What torch.jit.save writes for a module without attributes."""


def cases() -> Iterator[Case]:
    yield _disguised("gzip", "model.joblib", gzip.compress)
    yield _disguised("zlib", "model.joblib", zlib.compress)
    yield _disguised("bz2", "model.bz2", bz2.compress)
    yield _disguised("xz", "model.xz", lzma.compress)
    yield _disguised("gzip-in-gzip", "model.gz", gzipped_twice)
    yield _disguised("named-onnx", "model.onnx", bytes)
    yield _disguised("named-safetensors", "model.safetensors", bytes)
    yield _disguised("named-text", "model.txt", bytes)
    yield _disguised("torch-saved", "model.pt", torch_saved)
    yield _disguised("torch-legacy", "model.pth", torch_legacy)
    yield _disguised("mar", "model.mar", lambda data: mar([("w.bin", data)]))
    yield _disguised("zip-in-mar", "model.mar", lambda data: mar([("w.bin", zipped_items([("w", data)]))]))
    yield _disguised("zip-in-zip-in-mar", "model.mar", lambda data: mar([("w.bin", zipped_twice(data))]))
    yield _disguised("npy-of-objects", "model.mar", lambda data: mar([("w.npy", npy_of_objects(data))]))
    yield _disguised("npz", "model.mar", lambda data: mar([("w.npz", zipped_items([("a.npy", npy_of_objects(data))]))]))
    yield _disguised("tar", "model.mar", lambda data: mar([("w.tar", torch_tar(data))]))
    yield Case(
        "disguise-torchscript",
        lambda directory, canary: write(directory / "model.pt", torch_script(os_system(canary))),
        lambda directory: write(directory / "model.pt", torch_script(SCRIPT_OBJECT)),
        UntrustedPickle,
        "pickle",
    )
    yield Case(
        "disguise-weights-of-an-export",
        lambda d, canary: write(d / "model.pt2", torch_export(os_system(canary))),
        lambda d: write(d / "model.pt2", torch_export(b"\0" * 32)),
        UntrustedPickle,
        "pickle",
    )
    yield Case(
        "disguise-mlflow",
        lambda directory, canary: mlflow_model(directory, os_system(canary)),
        lambda directory: mlflow_model(directory, HARMLESS),
        UntrustedPickle,
        "pickle",
        trusted=True,
    )
    yield Case(
        "disguise-hugging-face",
        lambda directory, canary: hugging_face(directory, {"pytorch_model.bin": torch_saved(os_system(canary))}),
        lambda directory: hugging_face(directory, {"tokenizer.json": b'{"a": ["{[", "]"]}'}),
        UntrustedPickle,
        "pickle",
    )
    yield Case(
        "skops-unknown-type",
        lambda directory, canary: write(directory / "m.skops", skops_archive("Popen", "subprocess", "ObjectNode")),
        lambda directory: write(directory / "m.skops", skops_archive("Ridge", "sklearn.linear_model", "ObjectNode")),
        UntrustedPickle,
        "skops-types",
    )
    yield Case(
        "skops-method",
        lambda directory, canary: write(
            directory / "m.skops", skops_archive("Ridge", "sklearn.linear_model", "MethodNode")
        ),
        lambda directory: write(directory / "m.skops", skops_archive("Ridge", "sklearn.linear_model", "ObjectNode")),
        UntrustedPickle,
        "skops-types",
    )
