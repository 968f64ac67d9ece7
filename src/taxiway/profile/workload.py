"""What is asked: requests with their inputs, read from and written to JSON Lines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from taxiway.core.errors import InvalidArgument


@dataclass(frozen=True, slots=True)
class Request:
    """One request; `inputs` are tensors as OIP's JSON has them, `body` is a whole body of another protocol."""

    at_s: float | None = None
    inputs: list[dict[str, Any]] | None = None
    body: dict[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    input_tokens: int | None = None
    output_tokens: int | None = None
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Workload:
    """Requests in their order, and where they come from."""

    requests: list[Request]
    source: str


def read_workload(path: Path) -> Workload:
    """The requests of a JSON Lines file.

    Raises:
        InvalidArgument: a line is not a request.
    """
    requests = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if line.strip():
            try:
                requests.append(msgspec.json.decode(line, type=Request))
            except msgspec.MsgspecError as error:
                raise InvalidArgument(f"{path}:{number}: {error}", hint="each line is one JSON object") from None
    return Workload(requests, str(path))
