"""What is wrong with a configuration, collected so that all of it can be told at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from taxiway.core.errors import InvalidConfig

MAX_SHOWN_CHARS = 120
"""Characters of a wrong value that a message repeats; the rest of a long one helps nobody."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One broken rule.

    Attributes:
        path: the key, dotted: `http.port`, `input[0].dims`; empty if the whole text is at fault.
        value: what was given, as plain data.
        rule: what it should have been, as the end of the sentence "PATH = VALUE: ...".
        where: `taxiway.yaml:12:5`, `environment TAXIWAY_HTTP__PORT`, `flag --http.port`, `default`.
    """

    path: str
    value: object
    rule: str
    where: str

    def __str__(self) -> str:
        if not self.path:
            return f"{self.where}: {self.rule}"
        return f"{self.where}: {self.path} = {shown(self.value)}: {self.rule}"


def shown(value: object) -> str:
    """A value as a message repeats it: its repr, cut at MAX_SHOWN_CHARS."""
    text = repr(value)
    return text if len(text) <= MAX_SHOWN_CHARS else text[:MAX_SHOWN_CHARS] + "..."


def suggest(unknown: str, known: Iterable[str]) -> str:
    """`; did you mean 'port'?`, or nothing if no known name is close."""
    close = difflib.get_close_matches(unknown, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def invalid_config(what: str, problems: Sequence[Problem], *, hint: str) -> InvalidConfig:
    """One error telling every problem, a line each; `facts['problems']` holds them as plain data."""
    noun = "problem" if len(problems) == 1 else "problems"
    lines = "".join(f"\n  {problem}" for problem in problems)
    return InvalidConfig(
        f"{what} has {len(problems)} {noun}:{lines}", hint=hint, problems=[asdict(p) for p in problems]
    )
