"""Foreign text as a terminal may be shown it: a model's names must not move the cursor or hide a line."""

from __future__ import annotations


def plain(text: str) -> str:
    """The text with everything that does not print as its escape, line breaks too."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)
