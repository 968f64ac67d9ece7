"""Where a model can come from: a table of ways to a local path. A path is itself; other rooms add their URIs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from taxiway.core.errors import InvalidArgument


@dataclass(frozen=True, slots=True)
class Brought:
    """A model on this machine.

    Attributes:
        path: a file or a directory.
        origin: what is to be remembered of where it came from, as JSON; `source` and `kind` at least.
        name: what it is called there; empty if the path's own name says it.
        trained_by: the run that made it, as a URI; empty if nobody knows.
    """

    path: Path
    origin: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    trained_by: str = ""


Bring = Callable[[str], AbstractContextManager[Brought]]
"""Brings what a source names; what it downloaded is removed when the context ends."""


def bring_path(source: str) -> AbstractContextManager[Brought]:
    """A path is where it is."""
    path = Path(source)
    kind = "directory" if path.is_dir() else "file"
    return nullcontext(Brought(path, {"source": str(path.absolute()), "kind": kind}))


def choose_source(source: str, schemes: Mapping[str, Bring]) -> Bring:
    """Who brings `source`: the scheme before its colon says so; without one it is a path.

    Raises:
        InvalidArgument: nothing, or a URI of a scheme that nobody brings.
    """
    if not source:
        raise InvalidArgument("SOURCE is empty", hint="give a model's file or directory; . is the one you are in")
    scheme, colon, rest = source.partition(":")
    if colon and scheme in schemes:
        return schemes[scheme]
    if colon and (rest.startswith("//") or (rest.startswith("/") and scheme.isalpha() and len(scheme) > 1)):
        known = ", ".join(f"{name}:" for name in sorted(schemes)) or "none"
        raise InvalidArgument(
            f"nothing brings a model from {scheme}: URIs", hint=f"give a path; known are {known}", source=source
        )
    return bring_path
