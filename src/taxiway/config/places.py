"""Where the registry and other kept things lie when nobody said so: the places that the XDG base directories name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from taxiway.config.settings import MlflowSettings, RegistrySettings, Settings

_SQLITE = "sqlite:///"


@dataclass(frozen=True, slots=True)
class RegistryPlaces:
    """The registry's settings, with every default filled in."""

    url: str
    blobs: str
    cache: Path

    @property
    def shown_url(self) -> str:
        """The URL without a password."""
        return re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", self.url)


def registry_places(settings: RegistrySettings, environ: Mapping[str, str]) -> RegistryPlaces:
    """Fill in what the settings leave to the environment."""
    data = _base(environ, "XDG_DATA_HOME", ".local/share") / "taxiway"
    url = settings.url or f"{_SQLITE}{data / 'registry.db'}"
    beside = Path(url.removeprefix(_SQLITE)).parent if url.startswith(_SQLITE) else data
    cache = Path(settings.cache) if settings.cache else _base(environ, "XDG_CACHE_HOME", ".cache") / "taxiway/models"
    return RegistryPlaces(url, settings.blobs or str(beside / "blobs"), cache)


@dataclass(frozen=True, slots=True)
class MlflowPlaces:
    """Which MLflow, with what its users' habit fills in; empty if nobody said."""

    tracking_uri: str
    registry_uri: str


def mlflow_places(settings: MlflowSettings, environ: Mapping[str, str]) -> MlflowPlaces:
    """Fill in what the settings leave to MLflow's own variables."""
    return MlflowPlaces(
        settings.tracking_uri or environ.get("MLFLOW_TRACKING_URI", ""),
        settings.registry_uri or environ.get("MLFLOW_REGISTRY_URI", ""),
    )


def journal_url(settings: Settings, environ: Mapping[str, str]) -> str:
    """The database of rollouts: beside the registry's, where that is a file."""
    if settings.control.journal:
        return settings.control.journal
    url = registry_places(settings.registry, environ).url
    data = _base(environ, "XDG_DATA_HOME", ".local/share") / "taxiway"
    beside = Path(url.removeprefix(_SQLITE)).parent if url.startswith(_SQLITE) else data
    return f"{_SQLITE}{beside / 'rollouts.db'}"


def environments_place(configured: str, environ: Mapping[str, str]) -> Path:
    """Where unpacked environments of models are kept."""
    return Path(configured) if configured else _base(environ, "XDG_CACHE_HOME", ".cache") / "taxiway/environments"


def monitoring_place(configured: str, environ: Mapping[str, str]) -> Path:
    """Where what is known of models in service is kept."""
    return Path(configured) if configured else _base(environ, "XDG_DATA_HOME", ".local/share") / "taxiway/monitoring"


def capture_place(configured: str, monitoring: Path) -> Path:
    """Where captured requests are kept: below what else is known of models, unless somebody said so."""
    return Path(configured) if configured else monitoring / "capture"


def optimize_place(environ: Mapping[str, str]) -> Path:
    """Where optimizations keep what they found out."""
    return _base(environ, "XDG_CACHE_HOME", ".cache") / "taxiway/optimize"


def _base(environ: Mapping[str, str], name: str, below_home: str) -> Path:
    """The specification says to ignore a relative path there."""
    given = Path(environ.get(name, ""))
    return given if given.is_absolute() else Path(environ.get("HOME", "/")) / below_home
