"""What people may ask of a rollout: the same nouns for the command line, the HTTP API and the console."""

from __future__ import annotations

from msgspec import Struct


class Command(Struct, frozen=True, tag=True, tag_field="type"):
    """What all of them have.

    Attributes:
        reason: why; some need one.
    """

    reason: str = ""


class Pause(Command, frozen=True):
    """Hold everything as it is; what is harmful is still turned back."""


class Resume(Command, frozen=True):
    """Go on."""


class Advance(Command, frozen=True):
    """To the next step, whatever the guards say."""


class Promote(Command, frozen=True):
    """One step on by a person's word, or at once to the end.

    Attributes:
        full: to the end.
        arm: of an A/B/n test, the one that is to answer.
    """

    full: bool = False
    arm: str = ""


class Abort(Command, frozen=True):
    """Everything back to the version that served before, now."""


class Extend(Command, frozen=True):
    """More time to decide, in seconds."""

    by_s: float = 0.0


class Approve(Command, frozen=True):
    """Yes to what it waits for."""


COMMANDS: dict[str, type[Command]] = {
    "pause": Pause,
    "resume": Resume,
    "advance": Advance,
    "promote": Promote,
    "abort": Abort,
    "extend": Extend,
    "approve": Approve,
}
"""By the word that the HTTP API and the command line have for it."""
