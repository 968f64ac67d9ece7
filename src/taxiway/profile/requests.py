"""The nouns of a workload: a request, and what may be wrong with one that is written down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

FORMAT: Final = "taxiway-workload/1"
"""What the first line of a workload says that it is."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request.

    Attributes:
        at_s: seconds from the first one; None: whenever the arrivals say.
        inputs: tensors as the Open Inference Protocol has them in JSON: name, datatype, shape, and data (flat or
            nested); one without data stands for any content of that shape. None: see `body`.
        body: a whole JSON body of another protocol.
        headers: sent beside those of the protocol.
        input_tokens: of the prompt, where only its length is known.
        output_tokens: that are asked for.
        weight: how often this one is chosen beside others, where requests are drawn.
    """

    at_s: float | None = None
    inputs: list[dict[str, Any]] | None = None
    body: dict[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    input_tokens: int | None = None
    output_tokens: int | None = None
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Problem:
    """A line that breaks a rule.

    Attributes:
        line: its number, from 1.
        field: the member, with a dot between it and one of its own; empty: the line as a whole.
        rule: that is broken, with the value that breaks it.
        step: what to do about it.
    """

    line: int
    field: str
    rule: str
    step: str

    def __str__(self) -> str:
        where = f"line {self.line}" + (f", {self.field}" if self.field else "")
        return f"{where}: {self.rule}; {self.step}"
