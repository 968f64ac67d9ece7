"""PyTorch's zip archives: which of their members are bare numbers, and what reads the pickles in them.

`torch.jit.load` reads its pickles with an unpickler in C++ that knows TorchScript's own types and calls no Python.
`torch.export.load` reads tensors with torch's weights-only unpickler. `torch.load` is Python's pickle: no exception.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from taxiway.intake.scan.look import RestrictedReader

_STORAGES = (
    r"torch\.(Float|Double|Half|BFloat16|Long|Int|Short|Char|Byte|Bool|ComplexFloat|ComplexDouble|Untyped)Storage"
)
_REBUILD = (
    rf"{_STORAGES}|torch\._utils\._rebuild_(tensor|tensor_v2|parameter)|collections\.OrderedDict|torch\.(Size|device)"
    r"|torch\.storage\.(UntypedStorage|TypedStorage)|torch\.serialization\._get_layout"
)
_SCRIPT: Final = re.compile(rf"__torch__\.[\w.]+|torch\.jit\._pickle\.\w+|{_REBUILD}")
_WEIGHTS: Final = re.compile(_REBUILD)


def _script_allows(name: str) -> bool:
    return _SCRIPT.fullmatch(name) is not None


def _weights_allows(name: str) -> bool:
    return _WEIGHTS.fullmatch(name) is not None


SCRIPT_READER: Final = RestrictedReader("torch.jit.load", _script_allows)
EXPORT_READER: Final = RestrictedReader("torch.export.load", _weights_allows)


@dataclass(frozen=True, slots=True)
class Layout:
    """What a zip archive of PyTorch is. `raw` matches the members that are bare numbers."""

    name: str
    raw: re.Pattern[str]
    reader: RestrictedReader | None

    def is_raw(self, member: str) -> bool:
        """Whether the member is bare numbers."""
        return self.raw.fullmatch(member) is not None


_TENSORS = (
    r"[^/]+/(data/\d+|constants/\d+|\.data/serialization_id|byteorder|version|\.format_version|\.storage_alignment)"
)

SCRIPT: Final = Layout("torchscript", re.compile(_TENSORS), SCRIPT_READER)
EXPORT: Final = Layout(
    "torch-export",
    re.compile(
        r"([^/]+/)?(data/weights/weight_\d+|data/constants/tensor_\d+|\.data/serialization_id|byteorder|version)"
    ),
    EXPORT_READER,
)
SAVED: Final = Layout("torch-saved", re.compile(_TENSORS), None)


def layout_of(names: Sequence[str]) -> Layout | None:
    """Which of PyTorch's archives has members of these names."""
    heads = {name.partition("/")[0] for name in names}
    tails = {name.partition("/")[2] for name in names}
    if tails & {"archive_format"} or "serialized_exported_program.json" in names:
        return EXPORT
    if len(heads) != 1 or "data.pkl" not in tails:
        return None
    if "constants.pkl" in tails and any(tail.startswith("code/") for tail in tails):
        return SCRIPT
    return SAVED
