"""Which version answers: an immutable snapshot from names to served versions, replaced whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from taxiway.core.errors import ColdModel, InvalidArgument, ModelNotFound, TaxiwayError, Unavailable, VersionNotServed
from taxiway.server.models.machine import ModelState
from taxiway.server.models.roster import COMPANION, ModelRoutes
from taxiway.server.models.served import ServedModel
from taxiway.server.splitting.split import Split
from taxiway.server.splitting.units import GetHeader


@dataclass(frozen=True, slots=True)
class Service:
    """One name: its versions by number, and the one that answers when none is asked for."""

    name: str
    versions: Mapping[int, ServedModel]
    default: ServedModel


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All services at one moment.

    Attributes:
        services: the models that are served.
        routes: how every model stands that is known; None while the first ones are being loaded.
        splits: the services whose requests are split between versions.
    """

    services: Mapping[str, Service] = field(default_factory=lambda: MappingProxyType({}))
    routes: Mapping[str, ModelRoutes] | None = None
    splits: Mapping[str, Split] = field(default_factory=lambda: MappingProxyType({}))

    def choose(self, name: str, version: str | None, header: GetHeader, caller: str = "") -> tuple[ServedModel, bool]:
        """What answers a caller's request, and whether another one just like it would be answered by the same.

        Args:
            name: of the service.
            version: None: whichever the split of the service's traffic says, else the latest.
            header: gives the request's headers, by names in lower case.
            caller: the name of the key that it was sent with; empty if there was none.

        Raises:
            TaxiwayError: as `find`.
        """
        if version is None and (split := self.splits.get(name)) is not None:
            return split.choose(header, caller)
        return self.find(name, version), True

    def find(self, name: str, version: str | None) -> ServedModel:
        """The version that answers for `name`; the latest if `version` is None.

        Raises:
            ModelNotFound: no such model or version.
            Unavailable: it is being loaded; ColdModel if it is loaded again once it is asked for.
        """
        number = None if version is None else version_number(version)
        if number is None and (split := self.splits.get(name)) is not None:
            return split.default
        service = self.services.get(name)
        if service is None:
            raise self._absent(name, number)
        if number is None:
            return service.default
        served = service.versions.get(number)
        if served is None:
            raise self._absent(name, number)
        return served

    def _absent(self, name: str, number: int | None) -> TaxiwayError:
        """Why nothing answers for this name and number, in Triton's words."""
        if self.routes is None:
            return Unavailable("the server is loading its models", hint="retry shortly, or ask another replica")
        routes = self.routes.get(name)
        if routes is None or not (routes.served or routes.others):
            known = ", ".join(sorted(self.services)[:10]) or "none"
            text = f"Request for unknown model: '{name}' is not found"
            return ModelNotFound(text, hint=f"served models: {known}", model=name)
        if routes.cold and (number is None or number in routes.others):
            text = f"model '{name}' was unloaded to make room for others"
            return ColdModel(text, hint="an inference request for it has it loaded again", model=name)
        if number is None:
            return _no_version(name, routes)
        chapter = routes.others.get(number)
        hint = f"versions of {name}: {', '.join(map(str, sorted(routes.served))) or 'none that is loaded'}"
        if chapter is None:
            text = f"Request for unknown model: '{name}' version {number} is not found"
            return ModelNotFound(text, hint=hint, model=name, version=number)
        text = f"Request for unknown model: '{name}' version {number} is not at ready state"
        if chapter.state is ModelState.LOADING:
            return Unavailable(text, hint="it is being loaded; retry shortly", model=name, version=number)
        return VersionNotServed(text, hint=f"{chapter.reason}; {hint}", model=name, version=number)


def _no_version(name: str, routes: ModelRoutes) -> TaxiwayError:
    text = f"Request for unknown model: '{name}' has no available versions"
    if any(chapter.state is ModelState.LOADING for chapter in routes.others.values()):
        return Unavailable(text, hint="it is being loaded; retry shortly", model=name)
    return ModelNotFound(text, hint=f"it is not loaded: POST /v2/repository/models/{name}/load", model=name)


def snapshot_of(routes: Mapping[str, ModelRoutes], splits: Mapping[str, Split] = MappingProxyType({})) -> Snapshot:
    """A snapshot in which the latest version of each model answers for its name, unless its requests are split."""
    versions: dict[str, dict[int, ServedModel]] = {}
    defaults: dict[str, ServedModel] = {}
    for name, own in sorted(routes.items()):  # a companion's key comes after its model's name
        if own.served:
            service = name.partition(COMPANION)[0]
            versions[service] = dict(own.served) | versions.get(service, {})
            defaults.setdefault(service, own.served[max(own.served)])
    services = {name: Service(name, MappingProxyType(served), defaults[name]) for name, served in versions.items()}
    return Snapshot(MappingProxyType(services), MappingProxyType(dict(routes)), splits)


def version_number(text: str) -> int:
    """A version as the routes write it.

    Raises:
        InvalidArgument: over 64 bits.
    """
    number = int(text) if len(text) <= 19 else 2**63
    if number >= 2**63:
        raise InvalidArgument(
            f"failed to get model version from specified version string '{text[:40]}', "
            "version should be an integral value > 0"
        )
    return number
