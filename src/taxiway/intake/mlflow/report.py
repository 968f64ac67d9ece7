"""What a person reads of aliases that are followed and of what MLflow is told: plain text, one line each."""

from __future__ import annotations

from collections.abc import Sequence

from taxiway.intake.mlflow.following import Look
from taxiway.intake.mlflow.mirror import Told
from taxiway.intake.read.plain import plain
from taxiway.registry.following import Followed
from taxiway.registry.outbox import Letter
from taxiway.registry.report import time_words

_OUTCOMES = {
    "placed": "now points to",
    "rested": "stays at",
    "refused": "stays where it is: refused",
    "conflict": "was moved by somebody else, and is left alone; it would point to",
    "raced": "is being moved by another follower to",
    "begun": "was not moved yet",
}

_TOLD = {
    "written": "told",
    "same": "was so already",
    "conflict": "conflict",
    "refused": "cannot be told",
    "dropped": "nothing to tell",
    "lost": "is told by another process",
}


def look_text(look: Look) -> str:
    """One look at an alias."""
    there = f"{look.source} is version {look.version}" if look.version else look.source
    line = f"{there}: {look.alias} {_OUTCOMES[look.outcome]} {look.ref}".rstrip()
    return plain(f"{line}: {look.problem}" if look.problem else line)


def told_text(told: Told) -> str:
    """One letter that was dealt with."""
    line = f"{told.subject} -> MLflow: {_TOLD[told.outcome]}"
    return plain(f"{line}: {told.problem}" if told.problem else line)


def letter_text(letter: Letter) -> str:
    """One letter that waits, or was given up."""
    if letter.done_at is None:
        state = f"waits, tried {letter.tries} times" if letter.tries else "waits"
    else:
        state = f"given up {time_words(letter.done_at)}"
    line = f"{letter.subject} -> MLflow: {state}"
    return plain(f"{line}: {letter.problem}" if letter.problem else line)


def status_text(followed: Sequence[Followed], mirrored: Sequence[str], letters: Sequence[Letter]) -> list[str]:
    """Everything at once."""
    lines = [_followed_text(one) for one in followed] or ["nothing is followed; see `taxiway mlflow follow --help`"]
    lines.append(f"mirrored: {', '.join(mirrored) or 'nothing'}")
    return lines + [letter_text(letter) for letter in letters]


def _followed_text(one: Followed) -> str:
    ref = f"{one.name}:{one.number}" if one.number is not None else ""
    there = f"{one.source} was version {one.seen}" if one.seen else one.source
    line = f"{there} ({time_words(one.at)}): {one.name}@{one.alias} {_OUTCOMES[one.outcome]} {ref}".rstrip()
    return plain(f"{line}: {one.problem}" if one.problem else line)
