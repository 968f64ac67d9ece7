"""Pickles: found in every disguise, told apart by who will read them, and never believed to be harmless."""

from __future__ import annotations

import ast
import io
import struct
from collections.abc import Iterator
from typing import Any

from taxiway.core.errors import MalformedArtifact, UntrustedPickle
from taxiway.intake.read.pickles import UNKNOWN, Source, Stream, read_stream
from taxiway.intake.scan.look import FoundPickle, Look
from taxiway.intake.scan.opinions import Opinion

_MAX_TOLD = 6
_MAX_STREAMS = 100
_MAX_NPY_HEADER = 64 << 10
"""NumPy itself refuses headers of more than 10,000 characters, unless told that the file is trusted."""


def scan_pickle(look: Look, offset: int = 0) -> None:
    """Note the pickle that begins at `offset`, unless its reader can call nothing beyond its allow-list."""
    with look.mapped() as data:
        source = io.BytesIO(data) if isinstance(data, bytes) else data
        source.seek(offset)
        streams = list(_streams(source, look.limits.max_pickle_ops))
    if all(_is_within(stream, look) for stream in streams):
        return
    names = tuple(dict.fromkeys(name for stream in streams for name in stream.globals))
    look.shared.pickles.append(FoundPickle(look.shown, look.owner, look.at, offset, names, streams[0].problem))


def _streams(source: Source, max_ops: int) -> Iterator[Stream]:
    """The pickle, and those that follow it: torch's old files have five, one after the other."""
    stream = read_stream(source, max_ops)
    yield stream
    for _ in range(_MAX_STREAMS):
        if not stream.ends:
            return
        stream = read_stream(source, max_ops)
        if not stream.is_pickle:
            return
        yield stream


def scan_npy(look: Look) -> None:
    """An array of numbers is data; an array of objects is a pickle behind a header.

    Raises:
        MalformedArtifact: its header cannot be read.
    """
    with look.mapped() as data:
        head = data[:12]
        wide = head[6:7] != b"\x01"
        try:
            (size,) = struct.unpack("<I" if wide else "<H", head[8 : 12 if wide else 10])
            start = (12 if wide else 10) + size
            header = ast.literal_eval(data[start - size : min(start, start - size + _MAX_NPY_HEADER)].decode("latin-1"))
            has_objects = _has_objects(header["descr"])
        except (struct.error, ValueError, SyntaxError, LookupError, TypeError, RecursionError, MemoryError) as problem:
            raise MalformedArtifact(
                f"{look.shown} has a broken NumPy header: {problem}", file=look.shown, rule="npy"
            ) from problem
    if has_objects:
        scan_pickle(look, start)


def _has_objects(descr: Any) -> bool:  # noqa: ANN401 - as the header has it
    """Whether a datatype, or a field of it, is Python's objects; a field may be called anything."""
    if isinstance(descr, list):
        return any(_has_objects(field[1]) for field in descr)
    if isinstance(descr, tuple):
        return _has_objects(descr[0])
    return not isinstance(descr, str) or "O" in descr


def _is_within(stream: Stream, look: Look) -> bool:
    reader = look.reader
    return reader is not None and stream.ends and all(reader.allows(name) for name in stream.globals)


def refusal(found: FoundPickle, opinions: tuple[Opinion, ...]) -> UntrustedPickle:
    """Why this pickle is not let in."""
    return UntrustedPickle(
        f"{found.shown} is a pickle: to read it is to run it. {describe(found, opinions)}",
        hint=(
            "export the model to ONNX, skops or safetensors; "
            f"if you made this file yourself, say --trust {found.owner.digest}"
        ),
        file=found.shown,
        rule="pickle",
        digest=found.owner.digest,
        globals=list(found.globals),
        opinions=[opinion.told() for opinion in opinions],
    )


def describe(found: FoundPickle, opinions: tuple[Opinion, ...]) -> str:
    """What the pickle imports, and what the scanners think of it."""
    names = [name if name != UNKNOWN else f"({name})" for name in found.globals]
    more = f" and {len(names) - _MAX_TOLD} more" if len(names) > _MAX_TOLD else ""
    said = [f"It imports {', '.join(names[:_MAX_TOLD])}{more}." if names else "It imports nothing."]
    if found.problem:
        said.append(f"It cannot be read to its end: {found.problem}.")
    said += [f"{opinion.told()}." for opinion in opinions]
    return " ".join(said)
