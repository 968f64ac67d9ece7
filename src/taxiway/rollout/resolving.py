"""What a plan's `to` means: a version that the server was told to serve, or one of the registry, laid out for it.

Blocking: a version that is laid out is copied and verified.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import msgspec

from taxiway.core.errors import AlreadyRegistered, InvalidArgument, NotFound, RegistryUnavailable, VersionNotRegistered
from taxiway.core.refs import ModelRef, is_name
from taxiway.core.traffic import Companion
from taxiway.registry import NewVersion, Registry, Version
from taxiway.rollout.nouns import Candidate

OpenRegistry = Callable[[], AbstractContextManager[Registry] | None]
"""Opens the registry; None if there is none: who serves files needs no database."""


class Resolver:
    """Finds versions.

    Args:
        open_registry: see `OpenRegistry`.
        cache: where registered versions are laid out.
    """

    def __init__(self, open_registry: OpenRegistry, cache: Path) -> None:
        self._open_registry = open_registry
        self._cache = cache

    def candidate(self, service: str, arm: str, to: str, served: Mapping[int, bool], percent: float = 0.0) -> Candidate:
        """The version that `to` means for `service`, ready to be loaded.

        Args:
            service: the model's name.
            arm: which it is to be.
            to: a number, a variant as 3-int8, or an alias of the registry.
            served: the versions that the server was told to serve: of them nothing is laid out.
            percent: its share, where the plan fixes it.

        Raises:
            InvalidArgument: `to` is none of them.
            NotFound: there is no such version.
            DataLoss: its files are damaged.
        """
        variant = _variant(service, to)
        number = None if variant is not None else _number(to)
        with self._registry() as registry:
            version = _of_variant(registry, variant) if variant is not None and registry is not None else None
            version = version or _registered(registry, service, to, number)
            if version is None and number is None:
                raise _unknown(service, to, served)
            number = version.number if version is not None else number
            assert number is not None  # noqa: S101 - one of the two is known
            if number in served:
                digest = version.digest if version is not None else ""
                return Candidate(arm, number, digest, percent=percent)
            if version is None or registry is None:
                raise _unknown(service, to, served)
            directory = registry.cached([ModelRef(version.name, version.number, version.variant)], self._cache)
        path = str(directory / version.name)
        return Candidate(arm, version.number, version.digest, path, percent, version.trusted)

    def found_again(self, companion: Companion) -> Companion:
        """A version that was laid out before, where it lies now: the cache may be empty since, or another machine's.

        Raises:
            NotFound: the registry does not know it.
            DataLoss: its files are damaged.
        """
        if not companion.path or Path(companion.path).is_dir():
            return companion
        with self._registry() as registry:
            if registry is None:
                return companion
            directory = registry.cached([ModelRef(companion.service, companion.version)], self._cache)
        return msgspec.structs.replace(companion, path=str(directory / companion.service))

    def _registry(self) -> AbstractContextManager[Registry | None]:
        opened = self._open_registry()
        return nullcontext() if opened is None else opened


def _variant(service: str, to: str) -> ModelRef | None:
    """The variant that `3-int8` names; None: it names none."""
    number, dash, word = to.partition("-")
    if not (dash and word and number.isascii() and number.isdecimal() and is_name(service)):
        return None
    try:
        ref = ModelRef.parse(f"{service}:{to}")
    except InvalidArgument:
        return None
    return ref if ref.variant else None


def _of_variant(registry: Registry, variant: ModelRef) -> Version | None:
    """The version with a variant's files; None: there is no such variant, and the word may be an alias."""
    try:
        return _as_version(registry, variant)
    except VersionNotRegistered:
        return None


def _as_version(registry: Registry, variant: ModelRef) -> Version:
    """A version with a variant's files: a server tells versions apart by their numbers, and a variant has its parent's.

    Asked again, it is the version that was made before.
    """
    found = registry.resolve(variant)
    new = NewVersion(
        found.name,
        found.manifest,
        found.framework,
        signature=found.signature,
        origin={"source": found.ref},
        facts=found.facts,
    )
    try:
        return registry.register(new, actor="rollout", why=f"{found.ref} is to be rolled out")
    except AlreadyRegistered as known:
        return registry.resolve(ModelRef(found.name, known.facts["version"]))


def _number(to: str) -> int | None:
    if to.isascii() and to.isdecimal() and 0 < len(to) <= 18 and int(to) > 0:
        return int(to)
    if not is_name(to):
        raise InvalidArgument(
            f"to = {to!r}: is neither a version's number nor an alias",
            hint="write 7, a variant as 7-int8, or an alias as candidate",
        )
    return None


def _registered(registry: Registry | None, service: str, to: str, number: int | None) -> Version | None:
    """None: the registry does not know it; of one that cannot be asked nothing is known either."""
    if registry is None or not is_name(service):
        return None
    try:
        return registry.resolve(ModelRef(service, number, None, None if number is not None else to))
    except VersionNotRegistered:
        return None
    except RegistryUnavailable:
        if number is None:
            raise
        return None


def _unknown(service: str, to: str, served: Mapping[int, bool]) -> NotFound:
    known = ", ".join(map(str, sorted(served))) or "none"
    return NotFound(
        f"{service!r} has no version {to!r}: neither the registry nor the server knows it",
        hint=f"`taxiway models {service}` lists registered versions; the server was told to serve {known}",
        service=service,
        to=to,
    )
