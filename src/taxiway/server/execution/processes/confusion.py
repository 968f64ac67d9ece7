"""Model processes that say what cannot be true."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from taxiway.core.errors import TaxiwayError, error_from_data


class Confused(Exception):
    """What a model process says cannot be true: it has gone mad or means harm, and nothing that it says is believed."""


def error_told(data: Mapping[str, Any]) -> TaxiwayError:
    """The error that a model process told.

    Raises:
        Confused: it is none.
    """
    try:
        problem = error_from_data(data)
    except (KeyError, TypeError, AttributeError) as reason:
        raise Confused(f"it told an error that is none: {reason!r}") from reason
    words: Any = (problem.message, problem.hint)
    if not all(isinstance(word, str) for word in words):
        raise Confused("it told an error without words")
    return problem
