"""What people may ask of a rollout: the same nouns for the command line, the HTTP API and the console.

Who asks, under which key it may be sent again, and which generation it was decided by, is said beside a command
(office.py, journal.py); what becomes of it says machine.py.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from taxiway.core.errors import InvalidArgument
from taxiway.registry.canonical import checked_text

MAX_EXTENSION_S: Final = 90 * 86400.0


class Command(Struct, frozen=True, tag=True, tag_field="type"):
    """What all of them have.

    Attributes:
        reason: why; some need one.
    """

    reason: str = ""

    @property
    def verb(self) -> str:
        """The word that the HTTP API and the command line have for it."""
        return verb_of(type(self))

    @property
    def needs_reason(self) -> bool:
        """Whether it goes past the guards, so that whoever comes later must find out why."""
        return False


class Pause(Command, frozen=True):
    """Hold everything as it is; what is harmful is still turned back."""


class Resume(Command, frozen=True):
    """Go on; the time that passed meanwhile does not count towards the deadline."""


class Advance(Command, frozen=True):
    """To the next step, whatever the guards say."""

    @property
    def needs_reason(self) -> bool:
        """Always: nothing was proved."""
        return True


class Promote(Command, frozen=True):
    """One step on by a person's word, or at once to the end.

    Attributes:
        full: to the end.
        arm: of an A/B/n test, the one that is to answer.
    """

    full: bool = False
    arm: str = ""

    @property
    def needs_reason(self) -> bool:
        """Only to the end."""
        return self.full


class Abort(Command, frozen=True):
    """Everything back to the version that served before, now; this always wins."""


class Extend(Command, frozen=True):
    """More time to decide, in seconds: after its deadline, or from now if that has passed."""

    by_s: float = 0.0


class Approve(Command, frozen=True):
    """Yes to what it waits for.

    Attributes:
        plan_digest: of the plan that was looked at; if it is another one now, nothing is approved. Empty: any.
    """

    plan_digest: str = ""


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


def verb_of(kind: type[Command]) -> str:
    """The word for a kind of command."""
    return kind.__name__.lower()


def check_command(command: Command) -> None:
    """Check what its types cannot say.

    Raises:
        InvalidArgument: naming the field and its rule.
    """
    checked_text("reason", command.reason, empty=True)
    if command.needs_reason and not command.reason.strip():
        raise InvalidArgument(
            f"reason is missing: {command.verb} goes past the guards", hint="say why: --why TEXT", field="reason"
        )
    if isinstance(command, Extend) and not 0 < command.by_s <= MAX_EXTENSION_S:
        raise InvalidArgument(
            f"by_s = {command.by_s}: must be above 0, and at most {MAX_EXTENSION_S:.0f} (90 days)",
            hint="seconds, as in --by-s 3600",
            field="by_s",
        )
