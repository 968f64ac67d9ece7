"""Tells MLflow what became of its models here: delivers the letters of our outbox that are for it.

At least once, each subject's in order. MLflow has no compare-and-swap, so each delivery looks first: what is so already
is not written again, and an alias that is not where we left it is somebody else's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from taxiway.core.errors import NotFound, TaxiwayError
from taxiway.core.refs import ModelRef
from taxiway.intake.mlflow.deciding import Conflict, Point, Same, decide_mirror, decide_tags, delay_after
from taxiway.intake.mlflow.following import PASSING
from taxiway.intake.mlflow.server import Mlflow, RegisteredVersion
from taxiway.intake.mlflow.source import KIND, Connect
from taxiway.registry import mirroring
from taxiway.registry.outbox import Letter
from taxiway.registry.registry import Registry

TARGET = KIND


@dataclass(frozen=True, slots=True)
class Told:
    """What came of one letter.

    Attributes:
        outcome: `written`, `same` (it was so already), `conflict` or `refused` (given up), `dropped` (it has nothing to
            tell MLflow), or `lost` (somebody else delivers it).
        problem: in words.
    """

    subject: str
    outcome: Literal["written", "same", "conflict", "refused", "dropped", "lost"]
    problem: str = ""


@dataclass(frozen=True, slots=True)
class _Theirs:
    """The version in MLflow that `ref` came from, as its origin tells."""

    ref: str
    model: str
    version: str
    created_ms: int

    def require(self, mlflow: Mlflow) -> RegisteredVersion:
        """It, as MLflow has it now.

        Raises:
            NotFound: this MLflow does not have it: it was deleted, or this is another MLflow.
        """
        found = mlflow.version(self.model, self.version)
        if found.created_ms != self.created_ms:
            raise NotFound(
                f"version {self.version} of {self.model!r} at {mlflow.url} is not the one that {self.ref} came from",
                hint="check mlflow.tracking_uri: it came from another MLflow",
            )
        return found


class _LeaseLost(Exception):
    """Somebody else has claimed the letter since."""


class Deliverer:
    """Delivers letters, one after the other; `tell` is called with what came of each."""

    def __init__(self, connect: Connect, registry: Registry, actor: str, tell: Callable[[Told], None]) -> None:
        self._connect = connect
        self._registry = registry
        self._actor = actor
        self._told = tell

    def reconcile_mirror(self) -> None:
        """Deliver every letter that may be delivered now.

        Raises:
            TaxiwayError: MLflow or our registry cannot be used; what was not delivered waits.
        """
        while (letter := self._registry.outbox.claim(TARGET)) is not None:
            self._told(self._deliver(letter))

    def _deliver(self, letter: Letter) -> Told:
        outbox = self._registry.outbox
        try:
            told = self._tell(self._connect(), letter)
        except _LeaseLost:
            return Told(letter.subject, "lost")
        except TaxiwayError as error:
            if error.kind in PASSING:
                outbox.postpone(letter, f"{error.code}: {error.message}", delay_s=delay_after(letter.tries, 1.0))
                raise
            told = Told(letter.subject, "refused", f"{error.code}: {error.message}")
        settled = outbox.refuse(letter, told.problem, actor=self._actor) if told.problem else outbox.settle(letter)
        return told if settled else Told(letter.subject, "lost")

    def _tell(self, mlflow: Mlflow, letter: Letter) -> Told:
        if letter.kind == mirroring.ALIAS:
            return self._tell_alias(mlflow, letter)
        return self._tell_version(mlflow, letter)

    # --- an alias --------------------------------------------------------------------------------------

    def _tell_alias(self, mlflow: Mlflow, letter: Letter) -> Told:
        """The alias of the same name."""
        name, alias = letter.args["name"], letter.args["alias"]
        old, new = (self._theirs(name, letter.args[end]) for end in ("from", "to"))
        theirs = new or old
        if theirs is None:
            return Told(letter.subject, "dropped")
        theirs.require(mlflow)
        found = mlflow.aliases(theirs.model).get(alias)
        match decide_mirror(new.version if new else None, found, self._left(letter, old)):
            case Same():
                return Told(letter.subject, "same")
            case Conflict(problem):
                return Told(letter.subject, "conflict", problem)
            case Point(version):
                self._require_lease(letter)
                mlflow.point(theirs.model, alias, version)
                return Told(letter.subject, "written")

    def _left(self, letter: Letter, old: _Theirs | None) -> set[str | None]:
        """Where we may have left the alias: where it was here, and where the last letter that arrived put it."""
        last = self._registry.outbox.last_delivered(TARGET, letter.kind, letter.subject)
        put = self._theirs(letter.args["name"], last.args["to"]) if last else None
        left: set[str | None] = {old.version} if old else set()
        return left | {put.version if put else None}

    # --- a version -------------------------------------------------------------------------------------

    def _tell_version(self, mlflow: Mlflow, letter: Letter) -> Told:
        """The tags of a version."""
        theirs = self._theirs(letter.args["name"], letter.args["number"])
        if theirs is None:
            return Told(letter.subject, "dropped")
        changed = decide_tags(letter.args, theirs.require(mlflow).tags)
        for key, value in changed.items():
            self._require_lease(letter)
            mlflow.tag(theirs.model, theirs.version, key, value)
        return Told(letter.subject, "written" if changed else "same")

    # --- both ------------------------------------------------------------------------------------------

    def _theirs(self, name: str, number: int | None) -> _Theirs | None:
        """What one of our versions is in MLflow; None if it is no registered version there."""
        if number is None:
            return None
        version = self._registry.resolve(ModelRef(name, number))
        origin: Any = version.origin
        if origin.get("kind") != KIND or "registered_model" not in origin:
            return None
        return _Theirs(version.ref, origin["registered_model"], origin["model_version"], origin["created_ms"])

    def _require_lease(self, letter: Letter) -> None:
        """The last moment to stop: whoever claimed the letter after us delivers it, and perhaps the one after it."""
        if not self._registry.outbox.holds(letter):
            raise _LeaseLost
