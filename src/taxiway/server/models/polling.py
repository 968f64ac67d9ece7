"""What a look at the paths means, given the looks before it. Pure: a change counts once it has stood still."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from taxiway.server.models.fingerprint import Stamps

Seen = Mapping[str, Stamps | None]
"""Each model's files; None for one that is there, or may be, and cannot be looked at now."""


@dataclass(frozen=True, slots=True)
class Followed:
    """What is remembered between looks.

    Attributes:
        seen: what the last look saw.
        acted: each model's files as they were last acted upon, whether that succeeded or not.
    """

    seen: Seen = field(default_factory=dict)
    acted: Mapping[str, Stamps] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PollDecision:
    """What to do after a look.

    Attributes:
        load: models that are new or changed, and stand still.
        unload: models that are gone for the second look in a row.
        then: what to remember for the next look.
    """

    load: tuple[str, ...]
    unload: tuple[str, ...]
    then: Followed


def decide_poll(before: Followed, look: Seen) -> PollDecision:
    """Follow what has stood still since the last look.

    A model that could not be loaded counts as acted upon all the same: it is tried again when it changes again.
    """
    still = {name: stamps for name, stamps in look.items() if stamps is not None and before.seen.get(name) == stamps}
    load = sorted(name for name, stamps in still.items() if before.acted.get(name) != stamps)
    unload = sorted(name for name in before.acted if name not in look and name not in before.seen)
    acted = {name: stamps for name, stamps in before.acted.items() if name not in unload}
    acted.update((name, still[name]) for name in load)
    return PollDecision(tuple(load), tuple(unload), Followed(dict(look), acted))
