"""Files that are two things at once, and pickles that some readers of opcodes give up on before they run."""

from __future__ import annotations

import pickle
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.support.malicious.case import Case
from tests.support.malicious.making import (
    gguf,
    hugging_face,
    mar,
    mlflow_model,
    safetensors,
    tarred,
    write,
    zipped_items,
)
from tests.support.malicious.pickles import HARMLESS, command

from taxiway.core.errors import MalformedArtifact, UnsafeArtifact, UntrustedPickle


def payload(canary: Path) -> bytes:
    """Opcodes of protocol 0: what is on the stack before does not matter."""
    return f"cos\nsystem\n(S'{command(canary)}'\ntR.".encode()


def in_safetensors(canary: Path) -> bytes:
    """Whole and valid: the header's length begins a text, whose end and a dictionary's opcode stand in the JSON."""
    run = b"0" + payload(canary)
    head = b'{"w":{"dtype":"U8","shape":[%d],"data_offsets":[0,%d]},"__metadata__":{"p":"%%b","k":"v"\n}}' % (
        (len(run),) * 2
    )
    size = int.from_bytes(b'S"', "little")
    return struct.pack("<Q", size) + head % (b"x" * (size - len(head % b""))) + run


POLYGLOTS: dict[str, Callable[[Path], bytes]] = {
    "hexadecimal-number": lambda canary: b"I0x10\n0" + payload(canary),
    "hexadecimal-long": lambda canary: b"L0x10L\n0" + payload(canary),
    "image": lambda canary: b"GIF8xxxxx0" + payload(canary),
    "catboost": lambda canary: b"CBM1" + b"x" * 64 + b"0" + payload(canary),
    "gguf": lambda canary: b"GGUF\x03\0\0\0\0" + b"0" + payload(canary),
    "safetensors": in_safetensors,
    "long-text": lambda canary: b"V" + b"x" * 200_000 + b"\n0" + payload(canary),
    "long-bytes": lambda canary: b"B" + struct.pack("<I", 200_000) + b"x" * 200_000 + b"0" + payload(canary),
    "copyreg": lambda canary: pickle.dumps(Reducing(command(canary)), 4),
    "out-of-band": lambda canary: b"\x80\x05\x8a\x01\x000" + payload(canary)[:-1] + b"\x97.",
}
"""By name: bytes that Python's unpickler runs, whatever else they are."""


_REFUSED_IN_FULL = ("hexadecimal-number", "safetensors", "catboost")
"""The others differ in what tells their kind, which costs no second opinions."""


def harmless_model(directory: Path) -> Path:
    """The twin of them all."""
    return mlflow_model(directory, HARMLESS)


class Reducing:
    """Pickles by `__reduce_ex__`, as what copyreg knows does."""

    def __init__(self, line: str) -> None:
        self.line = line

    def __reduce_ex__(self, protocol: object) -> tuple[object, tuple[str, str]]:
        return eval, (f"__import__('os').system({self.line!r})",)  # type: ignore[return-value]


def _hidden(
    name: str,
    build: Callable[[Path, Path], Path],
    twin: Callable[[Path], Path],
    error: type[UnsafeArtifact] = MalformedArtifact,
    rule: str = "two-formats",
) -> Case:
    return Case(f"polyglot-{name}", build, twin, error, rule)


def _with_zip(data: bytes) -> bytes:
    return data + zipped_items([("archive/data.pkl", HARMLESS)])


def _split_zlib(canary: Path) -> bytes:
    """Two streams: what a reader of the first alone sees is text."""
    return zlib.compress(b"N0" * 40) + zlib.compress(payload(canary))


def _prefixed(directory: Path) -> Path:
    """A zip archive in front of a zip archive; the first has no end, so that only some readers see it."""
    first = mar([])
    return write(directory / "model.mar", first[: first.rindex(b"PK\x05\x06")] + mar([]))


def cases() -> Iterator[Case]:
    for name in _REFUSED_IN_FULL:
        build = POLYGLOTS[name]
        yield Case(
            f"polyglot-pickle-{name}",
            lambda directory, canary, build=build: mlflow_model(directory, build(canary)),  # type: ignore[misc]
            harmless_model,
            UntrustedPickle,
            "pickle",
            trusted=True,
        )
    yield Case(
        "polyglot-zlib-streams",
        lambda directory, canary: mlflow_model(directory, _split_zlib(canary)),
        lambda directory: mlflow_model(directory, zlib.compress(b"text") + zlib.compress(b" and text")),
        UntrustedPickle,
        "pickle",
    )
    row = safetensors({"a": ("F32", [2], (0, 8))}, 8)
    archive = zipped_items([("archive/data.pkl", HARMLESS)])
    inside = safetensors({"a": ("U8", [len(archive)], (0, len(archive)))}, 0) + archive
    yield _hidden(
        "safetensors-zip", lambda d, c: write(d / "m.safetensors", inside), lambda d: write(d / "m.safetensors", row)
    )
    yield _hidden(
        "gguf-zip", lambda d, c: write(d / "m.gguf", _with_zip(gguf())), lambda d: write(d / "m.gguf", gguf())
    )
    yield _hidden(
        "text-zip",
        lambda d, c: hugging_face(d, {"notes.txt": _with_zip(b"words\n" * 200_000)}),
        lambda d: hugging_face(d, {"notes.txt": b"words\n" * 200_000}),
    )
    yield _hidden("zip-zip", lambda d, c: _prefixed(d), lambda d: write(d / "model.mar", mar([])))
    yield _hidden(
        "tar-zip",
        lambda d, c: write(d / "model.mar", mar([("w.tar", _with_zip(tarred([("a", b"a")])))])),
        lambda d: write(d / "model.mar", mar([("w.tar", tarred([("a", b"a")]))])),
    )
