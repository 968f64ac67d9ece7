"""What `taxiway serve` is told to serve: paths, or references to registered models, which become paths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from taxiway.config.places import RegistryPlaces, registry_places
from taxiway.config.settings import RegistrySettings
from taxiway.core.errors import InvalidArgument, NotFound, VersionNotRegistered
from taxiway.core.refs import ModelRef

if TYPE_CHECKING:
    from taxiway.registry import Registry
    from taxiway.registry.nouns import Version


@dataclass(frozen=True, slots=True)
class Sources:
    """What is to be served.

    Attributes:
        paths: one for each word.
        trust: digests by the name of a registered model: what its import was told to trust, its server may load.
    """

    paths: tuple[Path, ...]
    trust: Mapping[str, tuple[str, ...]]


def find_sources(words: Sequence[str], settings: RegistrySettings, environ: Mapping[str, str]) -> Sources:
    """A path for each word: itself if it is there, else where the model it names was laid out from the registry.

    Raises:
        NotFound: a word is neither.
        InvalidArgument: two words mean versions of one model.
    """
    refs = {word: ref for word in words if (ref := _ref_of(word)) is not None}
    if not refs:
        return Sources(tuple(map(Path, words)), {})
    found = _materialised(refs, registry_places(settings, environ))
    paths = tuple(found[word][0] if word in found else Path(word) for word in words)
    return Sources(paths, {version.name: trust for _, version in found.values() if (trust := version.trusted)})


def _ref_of(word: str) -> ModelRef | None:
    """None: it is a path, or can be nothing else."""
    if Path(word).exists():
        return None
    try:
        return ModelRef.parse(word)
    except InvalidArgument:
        return None


def _materialised(refs: Mapping[str, ModelRef], places: RegistryPlaces) -> dict[str, tuple[Path, Version]]:
    if len({ref.name for ref in refs.values()}) < len(refs):
        raise InvalidArgument(
            f"{' and '.join(refs)} name versions of one model, and a server has one of each",
            hint="name one of them",
        )
    file = places.url.removeprefix("sqlite:///")
    if "://" not in file and not Path(file).exists():  # nothing is registered, and a mistyped path makes no database
        raise _neither(next(iter(refs)), places)
    from taxiway.registry import Registry  # noqa: PLC0415 - who serves paths needs no database

    with Registry.open(places.url, places.blobs) as registry:
        return {word: _one(registry, word, ref, places) for word, ref in refs.items()}


def _one(registry: Registry, word: str, ref: ModelRef, places: RegistryPlaces) -> tuple[Path, Version]:
    try:
        version = registry.resolve(ref)
    except VersionNotRegistered as error:
        raise _neither(word, places, error.hint) from None
    return registry.cached([ModelRef(version.name, version.number, version.variant)], places.cache), version


def _neither(word: str, places: RegistryPlaces, hint: str = "") -> NotFound:
    return NotFound(
        f"{word!r} is neither a path that exists nor a model registered in {places.shown_url}",
        hint=hint or "check the path; `taxiway models` lists what is registered",
        value=word,
    )
