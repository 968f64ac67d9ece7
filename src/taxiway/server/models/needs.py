"""Who asks whom: the models that ensembles need, whether they are there, and who has to be told when they change."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from taxiway.config.ensemble_spec import Need
from taxiway.config.model_spec import ModelSpec
from taxiway.core.errors import InvalidConfig
from taxiway.server.models.loading import Prepared
from taxiway.server.models.machine import ModelEvent, ModelState
from taxiway.server.models.roster import Model, Roster, Version
from taxiway.telemetry.logs import Log

_log = Log("taxiway.models")
NOTHING: Mapping[str, Prepared] = MappingProxyType({})


def load_order(prepared: Mapping[str, Prepared]) -> list[str]:
    """Names, each after those that it needs as far as they are among them; otherwise as they come.

    Who asks in a circle comes as it comes: that is told when it is loaded.
    """
    order: dict[str, None] = {}

    def visit(name: str, way: tuple[str, ...]) -> None:
        if name in prepared and name not in order and name not in way:
            for need in prepared[name].needs:
                visit(need.model, (*way, name))
            order.setdefault(name)

    for name in prepared:
        visit(name, ())
    return list(order)


@dataclass(frozen=True, slots=True)
class Supply:
    """What a version lacks; nothing if `missing` is empty."""

    missing: tuple[Need, ...]

    @property
    def reason(self) -> str:
        """In words."""
        names = ", ".join(f"'{need}'" for need in self.missing)
        return f"it asks {names}, which {'is' if len(self.missing) == 1 else 'are'} not ready"


def decide_supply(state: ModelState, supply: Supply) -> ModelEvent | None:
    """What a version's state has to be told of its supply."""
    if state is ModelState.READY and supply.missing:
        return ModelEvent.LACKS
    if state is ModelState.LACKING and not supply.missing:
        return ModelEvent.SUPPLIED
    return None


class Needs:
    """The needs of every model in a roster."""

    def __init__(self, roster: Roster, now_ns: Callable[[], int]) -> None:
        self._roster = roster
        self._now_ns = now_ns

    def specs(self, needs: Iterable[Need]) -> dict[Need, ModelSpec]:
        """The models that are there, as they are served; of one that was unloaded to make room, as it was last."""
        found = ((need, self._spec(need)) for need in needs)
        return {need: spec for need, spec in found if spec is not None}

    def missing(self, needs: Iterable[Need]) -> list[Need]:
        """Those of which nothing is known."""
        return [need for need in needs if self._spec(need) is None]

    def changed(self, name: str) -> list[str]:
        """Who is to be planned anew, now that `name` is another one: who asks it, and who waited for it."""
        return [model.name for model in self._roster.models.values() if self._is_changed(model, name)]

    def idle(self, needs: Iterable[Need]) -> list[str]:
        """Those that were only loaded because somebody needed them, and that nobody needs any more."""
        names = dict.fromkeys(need.model for need in needs)
        asked = {need.model for model in self._roster.models.values() for need in _needs_of(model)}
        models = self._roster.models
        return [name for name in names if name in models and models[name].implied and name not in asked]

    def of(self, name: str) -> tuple[Need, ...]:
        """What the versions of a model ask."""
        model = self._roster.models.get(name)
        return () if model is None else tuple(dict.fromkeys(_needs_of(model)))

    def are_cold(self, needs: Iterable[Need]) -> bool:
        """Whether one of them is known by name only, since there was no room to load it."""
        models = [self._roster.models.get(need.model) for need in self.missing(needs)]
        return any(model is not None and model.cold for model in models)

    def check_circle(self, name: str, needs: Iterable[Need], others: Mapping[str, Prepared] = NOTHING) -> None:
        """Refuse models that would ask each other for ever.

        Args:
            name: of a model that is to be loaded.
            needs: what it asks.
            others: those that are to be loaded with it.

        Raises:
            InvalidConfig: one of `needs` asks `name`, itself or through others.
        """

        def walk(needs: Iterable[Need], way: tuple[str, ...]) -> None:
            for need in needs:
                if need.model == name:
                    raise circle((*way, name))
                if need.model not in way:
                    other = others.get(need.model)
                    walk(self.of(need.model) if other is None else other.needs, (*way, need.model))

        walk(needs, (name,))

    def look(self) -> None:
        """Bring the state of every version up to date; where one asks the other, one after the other."""
        while any(self._judge(version) for version in self._roster.in_routes()):
            pass

    def _judge(self, version: Version) -> bool:
        if version.served is None or version.served.spec.ensemble is None:
            return False
        needs = version.served.spec.ensemble.needs
        supply = Supply(tuple(need for need in needs if not self._is_ready(need)))
        event = decide_supply(version.life.now.state, supply)
        if event is None:
            return False
        served = version.served
        if event is ModelEvent.LACKS:
            version.step(event, supply.reason, self._now_ns())
            _log.warning("model_lacks", model=served.name, version=str(served.version), reason=supply.reason)
        else:
            version.step(event, "all the models that it asks are ready", self._now_ns())
            _log.info("model_supplied", model=served.name, version=str(served.version))
        return True

    def _is_ready(self, need: Need) -> bool:
        model = self._roster.models.get(need.model)
        if model is None:
            return False
        if model.cold:
            return True
        version = _version(model, need)
        return version is not None and version.life.now.state is ModelState.READY

    def _spec(self, need: Need) -> ModelSpec | None:
        model = self._roster.models.get(need.model)
        if model is None:
            return None
        version = _version(model, need)
        if version is not None and version.served is not None:
            return version.served.spec
        if not model.cold:
            return None
        number = max(model.specs, default=0) if need.version is None else need.version
        return model.specs.get(number)

    def _is_changed(self, model: Model, name: str) -> bool:
        if any(need.model == name for need in model.wanting):
            return True
        return any(
            need.model == name and (now := self._spec(need)) is not None and now != then
            for version in model.routed
            for need, then in version.peers.items()
        )


def circle(way: Sequence[str]) -> InvalidConfig:
    """Models that would ask each other for ever."""
    return InvalidConfig(
        f"circular dependency between ensembles: {' -> '.join(way)}",
        hint="no ensemble may ask itself, nor through others; take one of the steps out",
    )


def _needs_of(model: Model) -> Iterator[Need]:
    for version in model.routed:
        if version.served is not None and version.served.spec.ensemble is not None:
            yield from version.served.spec.ensemble.needs


def _version(model: Model, need: Need) -> Version | None:
    """The version that is meant, if it is sent requests."""
    routed = model.routed
    if need.version is None:
        return routed[-1] if routed else None
    return next((version for version in routed if version.number == need.version), None)
