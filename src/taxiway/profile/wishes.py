"""What is wanted of a target besides its address."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Wishes:
    """How a target is asked.

    Attributes:
        headers: of every request.
        binary: tensors as binary data, where the protocol has that.
        shapes: of inputs that are made up.
        model: which one, where the address does not say.
        serve_flags: of `taxiway serve`, where a server is started for it.
    """

    headers: Mapping[str, str] = field(default_factory=dict)
    binary: bool = False
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    model: str = ""
    serve_flags: tuple[str, ...] = ()
