"""What kind of thing is to be converted, by its name and nothing else. Pure but for looking whether a path is there."""

from __future__ import annotations

import enum
import re
from pathlib import Path

from taxiway.convert.outcome import NotConverted, Reason

_FUNCTION = re.compile(r"(?P<place>[\w./~+-]+\.py|[A-Za-z_][\w.]*):(?P<name>[A-Za-z_]\w*)")


class Kind(enum.Enum):
    """Which way a source is converted."""

    TABLE = "table"
    TORCH = "torch"
    FUNCTION = "function"
    HUGGING_FACE = "hugging-face"
    KERAS = "keras"


_BY_SUFFIX = {".pt2": Kind.TORCH, ".pt": Kind.TORCH, ".pth": Kind.TORCH, ".ts": Kind.TORCH, ".keras": Kind.KERAS}


def kind_of(source: str) -> Kind:
    """A directory is Hugging Face's, `module:function` is a function, a file is what its name ends with."""
    path = Path(source)
    if path.is_dir():
        return Kind.HUGGING_FACE
    if not path.exists() and _FUNCTION.fullmatch(source):
        return Kind.FUNCTION
    return _BY_SUFFIX.get(path.suffix.lower(), Kind.TABLE)


def function_of(source: str) -> tuple[str, str]:
    """The module (or the file of one) and the function."""
    match = _FUNCTION.fullmatch(source)
    assert match is not None, "kind_of said so"  # noqa: S101 - a broken promise of ours
    return match["place"], match["name"]


_INSTALLS = {Kind.KERAS: "keras torch onnxscript", Kind.HUGGING_FACE: "transformers safetensors torch onnxscript"}


def missing_for_network(source: str, library: str, python: str) -> NotConverted:
    """The verdict where the interpreter lacks a library of a network's."""
    needed = _INSTALLS.get(kind_of(source), "torch onnxscript")
    return NotConverted(
        reason=Reason.LIBRARY_MISSING,
        message=f"{source} needs {library}, which {python} does not have",
        hint=f"name a Python that has it: --python PATH; or {python} -m pip install {needed} onnx onnxruntime msgspec",
    )
