"""Somebody's Python function that gives scores: what it is called, what it is asked, and what came of it.

It is run by whoever implements `Functions`, in a process of its own that may crash, hang or eat memory; here it is only
asked, and never waited for.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, Self

from taxiway.core.errors import InvalidArgument

_SPEC: Final = re.compile(r"(?P<file>[^:\0]+\.py):(?P<name>[A-Za-z_][A-Za-z0-9_]*)")
BUILT_IN: Final = ("rating", "match")
"""Metrics that are no functions."""

Tensors = Sequence[Mapping[str, Any]]
"""Of one answer: `{"name", "datatype", "shape", "data"}`, data raw as in binary tensors."""


@dataclass(frozen=True, slots=True)
class Function:
    """One function in a file below `control.python`.

    Attributes:
        arguments: that it takes: 1, an answer; 2, an answer and the feedback for it.
    """

    file: str
    name: str
    arguments: int

    @classmethod
    def parse(cls, field: str, text: str, arguments: int) -> Self:
        """From a plan's `quality.metric` or `quality.judge`.

        Raises:
            InvalidArgument: it names none.
        """
        found = _SPEC.fullmatch(text)
        if found is None:
            raise InvalidArgument(
                f"{field} = {text!r} names no function",
                hint="FILE.py:NAME, a file below control.python; metrics may also be rating or match",
                field=field,
            )
        return cls(found["file"], found["name"], arguments)

    def __str__(self) -> str:
        return f"{self.file}:{self.name}"


@dataclass(frozen=True, slots=True)
class Question:
    """One call.

    Attributes:
        rollout: for which it is asked; each has a process of its own for each of its functions.
        key: of whoever asks: comes back with what came of it.
        answers: inputs and outputs of each; the function is called for one after the other.
        feedback: kind and value, for a function of two arguments.
    """

    rollout: str
    key: Any
    answers: Sequence[tuple[Tensors, Tensors]]
    feedback: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of a call: a score of each answer, 0 to 1; None: it gave none, or failed for `problem`."""

    rollout: str
    key: Any
    scores: Sequence[float | None]
    problem: str = ""


class Functions(Protocol):
    """Runs functions. Blocking only in `check` and `keep`; everything else returns at once."""

    def check(self, function: Function) -> None:
        """Load it.

        Raises:
            InvalidArgument: there is none that takes so many arguments, or its file cannot be run.
        """

    def ask(self, function: Function, question: Question) -> bool:
        """Have it called; False: too many calls wait."""

    def replies(self, function: Function, rollout: str) -> list[Reply]:
        """What came of a rollout's calls since this was asked last."""

    def problem(self, function: Function, rollout: str) -> str:
        """Why a rollout's calls of it wait, as where its file has gone; empty: they do not, as far as is known."""

    def keep(self, rollouts: Collection[str]) -> None:
        """Be done with all others' functions: whoever asks again has them loaded anew."""
