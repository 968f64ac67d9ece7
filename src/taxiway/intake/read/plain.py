"""Foreign text as a terminal may be shown it: a model's names must not move the cursor or hide a line."""

from __future__ import annotations

import json


def plain(text: str) -> str:
    """The text with everything that does not print as its escape, line breaks too."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def plain_lines(text: str) -> str:
    """As `plain`, but line breaks are kept."""
    return "\n".join(map(plain, text.split("\n")))


def plain_json(text: str) -> str:
    """JSON in which everything that does not print stands as JSON escapes it: it means the same."""
    if text.replace("\n", "").isprintable():
        return text
    return "".join(char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1] for char in text)
