"""What a person may ask of a rollout: the same words for the command line, the HTTP API and the console.

A command says who asks, why, under which key it may be sent again, and which generation it was decided by. machine.py
says what becomes of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec
from msgspec import Struct

from taxiway.core.errors import InvalidArgument
from taxiway.registry.canonical import checked_text

MAX_EXTENSION_S = 90 * 86400.0


class Command(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="verb"):
    """What every command says.

    Attributes:
        actor: who asks; a person, or what acts for one.
        reason: why, for those who come later.
        idempotency_key: sent again under the same key it is done once; empty: it cannot be sent again.
        expect_generation: it is refused unless the rollout is of this generation; None: whatever it is.
    """

    actor: str
    reason: str = ""
    idempotency_key: str = ""
    expect_generation: int | None = None

    verb: ClassVar[str]
    words: ClassVar[str]
    """How the command line spells it, `{service}` being the service."""

    @property
    def needs_reason(self) -> bool:
        """Whether it goes past the guards, so that whoever comes later must find out why."""
        return False


class Start(Command, frozen=True, tag="start"):
    """Begin a rollout.

    Attributes:
        plan: as `config.rollout_plan.RolloutPlan` reads it.
        force: although this very version was rolled back before.
    """

    service: str
    plan: dict[str, Any]
    force: bool = False

    verb: ClassVar[str] = "start"
    words: ClassVar[str] = "taxiway rollout start {service} --to VERSION"

    @property
    def needs_reason(self) -> bool:
        """Only by force."""
        return self.force


class Pause(Command, frozen=True, tag="pause"):
    """Hold everything as it is. Guards and fuses still turn a harmful candidate back."""

    verb: ClassVar[str] = "pause"
    words: ClassVar[str] = "taxiway rollout pause {service}"


class Resume(Command, frozen=True, tag="resume"):
    """Go on after a pause; what time passed in it does not count towards the deadline."""

    verb: ClassVar[str] = "resume"
    words: ClassVar[str] = "taxiway rollout resume {service}"


class Advance(Command, frozen=True, tag="advance"):
    """Go to the next step without waiting for the guards."""

    verb: ClassVar[str] = "advance"
    words: ClassVar[str] = "taxiway rollout advance {service} --why TEXT"

    @property
    def needs_reason(self) -> bool:
        """Always: nothing was proved."""
        return True


class Promote(Command, frozen=True, tag="promote"):
    """Go one step on, or to the end. Of an A/B/n test: end it with an arm that gets everything.

    Attributes:
        full: at once to all of the traffic, whatever the guards say.
        arm: of an A/B/n test, whom.
    """

    full: bool = False
    arm: str = ""

    verb: ClassVar[str] = "promote"
    words: ClassVar[str] = "taxiway rollout promote {service} [--full --why TEXT]"

    @property
    def needs_reason(self) -> bool:
        """Only to the end."""
        return self.full


class Abort(Command, frozen=True, tag="abort"):
    """Everything back to the version that served before, now; this always wins."""

    verb: ClassVar[str] = "abort"
    words: ClassVar[str] = "taxiway rollout abort {service}"


class Undo(Command, frozen=True, tag="undo"):
    """Back to the version before. Of a rollout that is over this begins a new one, see `plan.undoing`.

    Attributes:
        to: the version's number; None: the one before.
    """

    to: int | None = None

    verb: ClassVar[str] = "undo"
    words: ClassVar[str] = "taxiway rollout undo {service}"


class Extend(Command, frozen=True, tag="extend"):
    """Give it more time to decide.

    Attributes:
        by_s: seconds after its deadline, or after now if that has passed.
    """

    by_s: float

    verb: ClassVar[str] = "extend"
    words: ClassVar[str] = "taxiway rollout extend {service} --by-s SECONDS"


class Approve(Command, frozen=True, tag="approve"):
    """Say yes to what it waits for.

    Attributes:
        plan_digest: of the plan that was looked at; if it is another one now, nothing is approved. Empty: any.
    """

    plan_digest: str = ""

    verb: ClassVar[str] = "approve"
    words: ClassVar[str] = "taxiway rollout approve {service}"


COMMANDS: Mapping[str, type[Command]] = {
    kind.verb: kind for kind in (Start, Pause, Resume, Advance, Promote, Abort, Undo, Extend, Approve)
}
"""All of them, by verb."""


def read_command(verb: str, words: Mapping[str, Any], actor: str) -> Command:
    """The command that a request's body means.

    Args:
        verb: one of `COMMANDS`.
        words: its other fields, by name; `actor` is not theirs to say.
        actor: who sent it, as the entrance knows them.

    Raises:
        InvalidArgument: a field is unknown, missing, or breaks its rule; or a reason is missing.
    """
    try:
        command = msgspec.convert({**words, "verb": verb, "actor": actor}, COMMANDS[verb])
    except msgspec.ValidationError as problem:
        fields = ", ".join(name for name in COMMANDS[verb].__struct_fields__ if name != "actor")
        raise InvalidArgument(f"{verb}: {problem}", hint=f"{verb} takes {fields}", verb=verb) from None
    check_command(command)
    return command


def check_command(command: Command) -> None:
    """Check what its types cannot say.

    Raises:
        InvalidArgument: naming the field and its rule.
    """
    checked_text("actor", command.actor, at_most=256)
    checked_text("reason", command.reason, empty=True)
    checked_text("idempotency_key", command.idempotency_key, at_most=256, empty=True)
    if command.needs_reason and not command.reason.strip():
        raise InvalidArgument(
            f"{command.verb} needs a reason: it goes past the guards",
            hint='say why: `--why "..."`, or "reason" in the request',
            field="reason",
        )
    if isinstance(command, Extend) and not 0 < command.by_s <= MAX_EXTENSION_S:
        raise InvalidArgument(
            f"by_s = {command.by_s}: must be above 0 and at most {MAX_EXTENSION_S:.0f} (90 days)", field="by_s"
        )
