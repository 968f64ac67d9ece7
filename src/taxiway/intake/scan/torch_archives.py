"""PyTorch's zip archives: which of their members are bare numbers, and what reads the pickles in them.

`torch.jit.load` reads its pickles with an unpickler in C++ that knows TorchScript's own types and calls no Python.
`torch.export.load` unpickles whatever it is given once its weights-only unpickler has refused it; so the names in its
pickles are held against a list here, and its JSON against exported.py. `torch.load` is Python's pickle: no exception.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from taxiway.core.errors import UntrustedPickle
from taxiway.intake.scan.look import Look, RestrictedReader

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


_EXPORT_MARKS: Final = frozenset({"archive_format", "serialized_exported_program.json"})
"""torch's own reader of zip archives does not mind upper and lower case."""


def layout_of(names: Sequence[str]) -> Layout | None:
    """Which of PyTorch's archives has members of these names."""
    heads = {name.partition("/")[0] for name in names}
    tails = {name.partition("/")[2] for name in names}
    if any(name.lower().rpartition("/")[2] in _EXPORT_MARKS for name in names):
        return EXPORT
    if len(heads) != 1 or "data.pkl" not in tails:
        return None
    if "constants.pkl" in tails and any(tail.startswith("code/") for tail in tails):
        return SCRIPT
    return SAVED


_TOUCHES_FILES: Final = re.compile(
    rb"\b(save|from_file|getattr)\b|\bops\W+(?!(aten|prim|prims|quantized|torchvision)\b)\w+"
)
"""TorchScript's words that write or map files, operators of libraries that may, and what finds one by a text."""


def scan_script(look: Look) -> None:
    """Refuse TorchScript that asks for files, unless it is trusted. Words in texts count: who can tell is its parser.

    Raises:
        UntrustedPickle: names the word.
    """
    with look.mapped() as code:
        found = _TOUCHES_FILES.search(code)
        word = "" if found is None else " ".join(found[0].decode("utf-8", "replace").split())
    if not word:
        return
    if look.trusted:
        look.vouch(f"says {word!r}, with which TorchScript reaches files")
        return
    raise UntrustedPickle(
        f"{look.shown} says {word!r}, with which TorchScript reaches files outside of the model",
        hint=f"leave it out of the module; if you made this file yourself, say --trust {look.owner.digest}",
        file=look.shown,
        rule="script-files",
        digest=look.owner.digest,
    )
