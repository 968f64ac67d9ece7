"""Which version answers: an immutable snapshot from names to served versions, replaced whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from taxiway.core.errors import InvalidArgument, ModelNotFound, Unavailable
from taxiway.server.models.served import ServedModel


@dataclass(frozen=True, slots=True)
class Service:
    """One name: its versions by number, and the one that answers when none is asked for."""

    name: str
    versions: Mapping[int, ServedModel]
    default: ServedModel | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All services at one moment."""

    services: Mapping[str, Service] = field(default_factory=lambda: MappingProxyType({}))

    def find(self, name: str, version: str | None) -> ServedModel:
        """The version that answers for `name`; the latest if `version` is None.

        Raises:
            ModelNotFound: no such model or version.
            Unavailable: the model has no version that is ready.
        """
        number = None if version is None else version_number(version)
        service = self.services.get(name)
        if service is None:
            known = ", ".join(sorted(self.services)[:10]) or "none"
            raise ModelNotFound(
                f"Request for unknown model: '{name}' is not found", hint=f"served models: {known}", model=name
            )
        if number is None:
            if service.default is None:
                raise Unavailable(f"Request for unknown model: '{name}' has no available versions", model=name)
            return service.default
        served = service.versions.get(number)
        if served is None:
            raise ModelNotFound(
                f"Request for unknown model: '{name}' version {number} is not found",
                hint=f"versions of {name}: {', '.join(map(str, sorted(service.versions)))}",
                model=name,
                version=number,
            )
        return served


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
