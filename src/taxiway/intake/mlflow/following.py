"""Follows aliases in MLflow: takes in what they point to, and moves ours after them, never over somebody else's head.

Any number of followers may run at once, and be killed at any moment: the same files are one version whoever registers
them, and what was seen changes together with our alias, by compare-and-swap.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from taxiway.core.errors import AliasMoved, AlreadyRegistered, ErrorKind, InvalidArgument, NotFound, TaxiwayError
from taxiway.intake.mlflow.deciding import Agree, Rest, TakeIn, decide_follow
from taxiway.intake.mlflow.server import Mlflow
from taxiway.intake.mlflow.source import Connect
from taxiway.intake.mlflow.uris import MlflowUri, version_uri
from taxiway.intake.naming import model_name
from taxiway.intake.walk import Office, Wanted, import_models
from taxiway.registry.canonical import canonical_json, digest_of
from taxiway.registry.following import Followed
from taxiway.registry.registry import Registry

PASSING = frozenset(
    {ErrorKind.UNAVAILABLE, ErrorKind.RESOURCE_EXHAUSTED, ErrorKind.DEADLINE_EXCEEDED, ErrorKind.CANCELLED}
)
"""What says nothing of the model: the next look may fare better."""


@dataclass(frozen=True, slots=True)
class Wish:
    """One alias in MLflow to be followed by one of ours.

    Attributes:
        uri: `models:/NAME@ALIAS`.
        alias: ours.
        name: of our model; empty: as MLflow calls it.
        trust, require_signature, public_keys: as in an import.
    """

    uri: MlflowUri
    alias: str
    why: str
    actor: str
    name: str = ""
    trust: frozenset[str] = frozenset()
    require_signature: bool = False
    public_keys: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        if not self.uri.alias:
            raise InvalidArgument(
                f"{self.uri.text} always means the same, so there is nothing to follow",
                hint="write models:/NAME@ALIAS; `taxiway import` takes in what does not move",
                value=self.uri.text,
            )

    @property
    def model(self) -> str:
        """What our model is called."""
        return self.name or model_name(self.uri.name)

    @property
    def terms(self) -> str:
        """Under which models come in, as one text."""
        keys = sorted(str(key.absolute()) for key in self.public_keys)
        return digest_of(canonical_json([sorted(self.trust), self.require_signature, keys]))


@dataclass(frozen=True, slots=True)
class Look:
    """What came of one look at one alias.

    Attributes:
        version: where MLflow's alias points; empty: it is not there.
        ref: what that is here.
        outcome: `placed` if our alias was moved, `rested` if nothing was to be done, or what kept it from moving;
            `raced` if another follower was quicker.
        problem: in words.
    """

    source: str
    alias: str
    version: str
    ref: str
    outcome: Literal["placed", "rested", "refused", "conflict", "raced"]
    problem: str = ""


class Follower:
    """Looks at aliases, one after the other; `tell` is called with what came of each."""

    def __init__(self, connect: Connect, registry: Registry, office: Office, tell: Callable[[Look], None]) -> None:
        self._connect = connect
        self._registry = registry
        self._office = office
        self._tell = tell

    def reconcile_followed(self, wishes: Sequence[Wish]) -> None:
        """Look at each alias once, and do what is to be done.

        Raises:
            TaxiwayError: the first that kept one from being looked at, or from coming in for now; the others are done.
        """
        mlflow, failed = self._connect(), list[TaxiwayError]()
        for wish in wishes:
            try:
                self._tell(self._reconcile(mlflow, wish))
            except TaxiwayError as error:
                failed.append(error)
        if failed:
            raise failed[0]

    def _reconcile(self, mlflow: Mlflow, wish: Wish) -> Look:
        registry = self._registry
        there = _alias(mlflow, wish.uri)
        kept = registry.followings.begin(wish.uri.text, wish.model, wish.alias, actor=wish.actor)
        ours = registry.aliases(wish.model).get(wish.alias)
        match decide_follow(there, kept, ours, wish.terms):
            case TakeIn(version):
                return self._take_in(wish, kept, version)
            case Agree(number):
                return self._place(wish, kept, kept.seen, number)
            case Rest(reason):
                return _look(kept, there or "", "rested", reason)

    def _take_in(self, wish: Wish, kept: Followed, version: str) -> Look:
        try:
            number = self._import(wish, version)
        except TaxiwayError as error:
            if error.kind in PASSING:
                raise
            problem = f"{error.code}: {error.message}"
            after = replace(kept, seen=version, outcome="refused", number=None, terms=wish.terms, problem=problem)
            return self._record(wish, kept, after)
        return self._place(wish, kept, version, number)

    def _import(self, wish: Wish, version: str) -> int:
        wanted = Wanted(
            version_uri(wish.uri.name, version),
            name=wish.model,
            trust=wish.trust,
            why=_reason(wish, version),
            actor=wish.actor,
            require_signature=wish.require_signature,
            public_keys=wish.public_keys,
        )
        try:
            (imported,) = import_models(wanted, self._office, self._registry)
        except AlreadyRegistered as already:
            return int(already.facts["version"])
        assert imported.version is not None, "a registry was given"  # noqa: S101 - for the type checker
        return imported.version.number

    def _place(self, wish: Wish, kept: Followed, version: str, number: int) -> Look:
        followings = self._registry.followings
        try:
            placed = followings.place(kept, version, number, actor=wish.actor, why=_reason(wish, version))
        except AliasMoved as moved:
            after = replace(kept, seen=version, outcome="conflict", number=number, terms="", problem=moved.message)
            return self._record(wish, kept, after)
        return _look(replace(kept, number=number), version, "placed" if placed else "raced")

    def _record(self, wish: Wish, kept: Followed, after: Followed) -> Look:
        recorded = self._registry.followings.record(kept, after, actor=wish.actor)
        if not recorded or after.outcome not in ("refused", "conflict"):
            return _look(after, after.seen, "raced")
        return _look(after, after.seen, after.outcome, after.problem)


def _alias(mlflow: Mlflow, uri: MlflowUri) -> str | None:
    """Where MLflow's alias points; a model that is not there has no aliases."""
    try:
        return mlflow.aliases(uri.name).get(uri.alias)
    except NotFound:
        return None


def _reason(wish: Wish, version: str) -> str:
    return f"{wish.why} ({wish.uri.text} is version {version})"


def _look(
    kept: Followed,
    version: str,
    outcome: Literal["placed", "rested", "refused", "conflict", "raced"],
    problem: str = "",
) -> Look:
    ref = f"{kept.name}:{kept.number}" if kept.number is not None else ""
    return Look(kept.source, f"{kept.name}@{kept.alias}", version, ref, outcome, problem)
