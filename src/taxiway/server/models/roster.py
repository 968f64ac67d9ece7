"""Which models and versions are known, and how each of them stands: what the routes and the index are made of.

Plain data, changed by the manager only; nothing here acts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from taxiway.config.ensemble_spec import Need
from taxiway.config.model_spec import ModelSpec
from taxiway.server.models.fingerprint import Fingerprint
from taxiway.server.models.machine import Chapter, ModelEvent, ModelLife, ModelState, step_life
from taxiway.server.models.repository import FoundModel
from taxiway.server.models.served import ServedModel

IN_ROUTES = frozenset({ModelState.READY, ModelState.STALLED, ModelState.LACKING})
"""States in which a version is sent requests."""


COMPANION = "/"
"""Stands in the keys of companions, after the model's name: no model can be called so, and no path can name it."""


@dataclass(slots=True)
class Version:
    """One version, from the begin of its loading until its number is used by another.

    Attributes:
        print: what it is made of.
        peers: the models that it asks, as they were when it was planned.
        served: what answers for it; None before it is loaded and after it is closed.
        note: what happened to its model since, if that did not change its state; shown beside the state.
    """

    number: int
    print: Fingerprint
    life: ModelLife
    peers: Mapping[Need, ModelSpec] = field(default_factory=dict)
    served: ServedModel | None = None
    note: str = ""

    @property
    def in_routes(self) -> bool:
        """Whether it is sent requests."""
        return self.life.now.state in IN_ROUTES

    @property
    def is_over(self) -> bool:
        """Whether nothing of it is left."""
        return self.life.now.state in {ModelState.GONE, ModelState.FAILED}

    def step(self, event: ModelEvent, reason: str, at_ns: int) -> None:
        """Something happened to it.

        Raises:
            InvalidTransition: that cannot happen in its state.
        """
        self.life = step_life(self.life, event, reason, at_ns)


@dataclass(slots=True)
class Model:
    """One name.

    Attributes:
        found: what its versions were loaded from; None if it was never loaded, or was unloaded.
        versions: by number: those in the routes, and the last story of each that is not.
        note: why it could not be loaded when that was last tried.
        cold: it was unloaded to make room, and is loaded again when it is asked for.
        since_ns: when it was last loaded; it has been used since then at the latest.
        implied: it is only served because another one asks it.
        specs: by version, what it was like when it was last loaded.
        wanting: what it asks, and was not there when it was last to be loaded.
        wanted: what it was to be loaded from then; None if it was loaded.
    """

    name: str
    found: FoundModel | None = None
    versions: dict[int, Version] = field(default_factory=dict)
    note: str = ""
    cold: bool = False
    since_ns: int = 0
    implied: bool = False
    specs: dict[int, ModelSpec] = field(default_factory=dict)
    wanting: tuple[Need, ...] = ()
    wanted: FoundModel | None = None

    @property
    def is_companion(self) -> bool:
        """Whether it was loaded beside the model whose requests it shares."""
        return COMPANION in self.name

    @property
    def service(self) -> str:
        """The name that its answers carry."""
        return self.name.partition(COMPANION)[0]

    @property
    def routed(self) -> list[Version]:
        """The versions that are sent requests, ascending."""
        return [self.versions[number] for number in sorted(self.versions) if self.versions[number].in_routes]

    @property
    def nbytes(self) -> int:
        """The size of the files of what is loaded."""
        return sum(version.print.nbytes for version in self.versions.values() if version.in_routes)

    def take_over(self, fresh: Sequence[Version], found: FoundModel, at_ns: int) -> None:
        """From now on `fresh` are its versions, beside those that stay; of the others, those on disk are remembered."""
        self.versions.update((version.number, version) for version in fresh)
        self.versions = {
            number: version
            for number, version in self.versions.items()
            if version.in_routes or number in found.versions
        }
        for version in self.versions.values():
            version.note = ""
        self.specs = {version.number: version.served.spec for version in self.routed if version.served is not None}
        self.note = ""
        self.wanting, self.wanted = (), None
        self.found, self.cold, self.since_ns = found, False, at_ns

    def wait_for(self, needs: Sequence[Need], found: FoundModel) -> None:
        """It is to be loaded from `found`, for which `needs` are missing: if it cannot be, it may be when they come."""
        self.wanting, self.wanted = tuple(needs), found

    def forget_failure(self) -> None:
        """What could not be loaded no longer matters: it is unloaded."""
        self.note = ""
        self.wanting, self.wanted = (), None
        for version in self.versions.values():
            version.note = ""

    def note_failure(self, message: str) -> None:
        """It could not be loaded (again); what serves goes on serving."""
        self.note = message
        for version in self.routed:
            version.note = f"loading it again failed: {message}"


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """One line of the repository index; a model that was never loaded has neither version nor state."""

    name: str
    version: int | None = None
    state: ModelState | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ModelRoutes:
    """Where requests for one model go.

    Attributes:
        served: the versions that answer.
        others: how the versions stand that are known and do not.
        cold: whether it is loaded again when it is asked for.
    """

    served: Mapping[int, ServedModel]
    others: Mapping[int, Chapter]
    cold: bool


class Roster:
    """Every model that is known, by name."""

    def __init__(self) -> None:
        self.models: dict[str, Model] = {}

    def of(self, name: str) -> Model:
        """The model of this name, known from now on."""
        return self.models.setdefault(name, Model(name))

    def forget_unserved(self, name: str) -> None:
        """Forget a model of which nothing is left: callers may bring any number of them, under any name."""
        model = self.models.get(name)
        if model is not None and model.found is None and all(one.is_over for one in model.versions.values()):
            del self.models[name]

    def in_routes(self) -> list[Version]:
        """Every version that is sent requests, by name and number."""
        return [version for name in sorted(self.models) for version in self.models[name].routed]

    def twice(self) -> list[tuple[str, int]]:
        """Name and number of each version that is sent requests in more than one copy."""
        counts = Counter((model.service, version.number) for model in self.models.values() for version in model.routed)
        return sorted(key for key, count in counts.items() if count > 1)

    def routes(self) -> dict[str, ModelRoutes]:
        """Where requests for each model go."""
        return {name: routes_of(model) for name, model in self.models.items()}

    def index(self, loadable: Iterable[str]) -> list[IndexEntry]:
        """The lines of every model, and of those in `loadable` that are not known."""
        names = sorted({*self.models, *loadable})
        entries = [entry for name in names for entry in index_of(self.models.get(name) or Model(name))]
        return _without_twins(entries)


def routes_of(model: Model) -> ModelRoutes:
    """Where requests for `model` go now."""
    served = {version.number: version.served for version in model.routed if version.served is not None}
    others = {number: version.life.now for number, version in model.versions.items() if not version.in_routes}
    return ModelRoutes(MappingProxyType(served), MappingProxyType(others), model.cold)


def _without_twins(entries: Sequence[IndexEntry]) -> list[IndexEntry]:
    """One line for each version: of several copies, one that is ready."""
    ready = {(entry.name, entry.version) for entry in entries if entry.state is ModelState.READY}
    told: dict[tuple[str, int | None], IndexEntry] = {}
    for entry in entries:
        key = (entry.name, entry.version)
        if key not in ready or entry.state is ModelState.READY:
            told.setdefault(key, entry)
    return list(told.values())


def index_of(model: Model) -> Iterator[IndexEntry]:
    """The lines of `model`."""
    if not model.versions and not model.is_companion:
        yield IndexEntry(model.name, reason=model.note)
    for number in sorted(model.versions):
        version = model.versions[number]
        now = version.life.now
        told = "" if now.state is ModelState.READY else now.reason
        yield IndexEntry(model.service, number, now.state, "; ".join(part for part in (told, version.note) if part))
