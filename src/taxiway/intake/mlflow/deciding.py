"""What to do about an alias that is followed, and about one that is mirrored. Pure: what is there -> an instruction.

MLflow keeps no history of an alias and has no compare-and-swap, so whether somebody else moved one is told by what we
remember: where we left it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from taxiway.registry.following import Followed

# --- following: MLflow's alias -> ours -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TakeIn:
    """Import this version of MLflow's, then point our alias to it."""

    version: str


@dataclass(frozen=True, slots=True)
class Agree:
    """Somebody pointed our alias to this version of ours, as we would have: go on from there."""

    number: int


@dataclass(frozen=True, slots=True)
class Rest:
    """Nothing is to be done; `reason` if that is not as wanted."""

    reason: str = ""


def decide_follow(there: str | None, kept: Followed, ours: int | None, terms: str) -> TakeIn | Agree | Rest:
    """What to do about one followed alias.

    Args:
        there: the version that MLflow's alias points to; None: it is not there.
        kept: what was seen last, and what came of it.
        ours: where our alias points.
        terms: under which models are taken in now; a refusal under other terms is tried again.
    """
    if there is None:
        return Rest("the alias is not there")
    if there != kept.seen or (kept.outcome == "refused" and kept.terms != terms):
        return TakeIn(there)
    if kept.outcome == "conflict" and kept.number is not None and ours == kept.number:
        return Agree(kept.number)
    return Rest(kept.problem)


# --- mirroring: our alias -> MLflow's ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Point:
    """Point MLflow's alias to this version; None: delete it."""

    version: str | None


@dataclass(frozen=True, slots=True)
class Same:
    """It is so already: told before, or done by somebody else."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """Somebody else moved MLflow's alias; it is theirs."""

    problem: str


def decide_mirror(wanted: str | None, found: str | None, left: Collection[str | None]) -> Point | Same | Conflict:
    """What to do about one mirrored alias.

    Args:
        wanted: the version in MLflow that our alias means; None: none.
        found: the version that MLflow's alias points to; None: it is not there.
        left: where we may have left it.
    """
    if found == wanted:
        return Same()
    if found in left:
        return Point(wanted)
    where = "is gone" if found is None else f"points to version {found}"
    believed = " or ".join(sorted("nowhere" if version is None else f"version {version}" for version in left))
    return Conflict(f"the alias {where} in MLflow; we left it at {believed or 'nothing'}, so somebody else moved it")


TAG_VERSION: Final = "taxiway.version"
TAG_DIGEST: Final = "taxiway.digest"
TAG_ALIAS: Final = "taxiway.alias"
TAG_PREFIX: Final = "taxiway.tag."
"""Before the keys of our own tags: nobody else's are touched."""


def decide_tags(said: Mapping[str, Any], found: Mapping[str, str]) -> dict[str, str | None]:
    """Which tags of MLflow's version are to change, so that it tells what the letter says; None takes one away."""
    aliases = ",".join(sorted(said["aliases"]))
    wanted = {TAG_VERSION: f"{said['name']}:{said['number']}", TAG_DIGEST: str(said["digest"])}
    wanted |= {TAG_ALIAS: aliases} if aliases else {}
    wanted |= {f"{TAG_PREFIX}{key}": str(value) for key, value in said["tags"].items()}
    ours = {key for key in found if key == TAG_ALIAS or key.startswith(TAG_PREFIX)}
    changed: dict[str, str | None] = {key: value for key, value in wanted.items() if found.get(key) != value}
    return changed | dict.fromkeys(sorted(ours - wanted.keys()))


# --- both ----------------------------------------------------------------------------------------------

_LONGEST_DELAY_S: Final = 300.0


def delay_after(failures: int, usual_s: float) -> float:
    """How long to wait after so many failures in a row: twice as long each time, up to five minutes."""
    return min(usual_s * 2.0 ** min(failures, 30), max(_LONGEST_DELAY_S, usual_s))
