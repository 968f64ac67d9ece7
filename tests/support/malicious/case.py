"""What one malicious artifact is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from taxiway.core.errors import (
    UnsafeArtifact,
)


@dataclass(frozen=True, slots=True)
class Case:
    """One artifact.

    Attributes:
        build: makes it in a directory and says where; `canary` is the file that it would make.
        twin: the same, harmless; `trusted` if it is a pickle all the same.
        error, rule: what it is refused as, and the rule that the refusal names.
        runs: whether Python's own `pickle.load` runs it: then the corpus can be proven to be alive.
    """

    name: str
    build: Callable[[Path, Path], Path]
    twin: Callable[[Path], Path]
    error: type[UnsafeArtifact]
    rule: str
    trusted: bool = False
    runs: bool = False
