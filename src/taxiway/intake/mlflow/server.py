"""One MLflow, spoken to by its own client; nothing else of taxiway imports mlflow to call a server.

mlflow takes two seconds to import and is an extra, so it is imported when a server is first connected to. Its errors
become ours: what may pass by itself (MlflowUnavailable) is told from what does not.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import unquote, urlsplit

from taxiway.core.errors import (
    ExtraMissing,
    InvalidArgument,
    MlflowUnavailable,
    NotFound,
    OversizedArtifact,
    PermissionDenied,
    TaxiwayError,
)
from taxiway.intake.limits import Limits

_QUIET: Final = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}
"""How its client behaves unless its user said otherwise: tells nobody of its use, gives up soon (we try again)."""

_ABSENT: Final = frozenset({"RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"})
_WRONG: Final = frozenset({"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "INVALID_STATE", "MALFORMED_REQUEST"})
_FORBIDDEN: Final = frozenset({"PERMISSION_DENIED", "CUSTOMER_UNAUTHORIZED", "UNAUTHENTICATED"})
_MAX_SAID: Final = 400


@dataclass(frozen=True, slots=True)
class RegisteredVersion:
    """A version of a registered model, as MLflow knows it; `created_ms` tells it from one of that name elsewhere."""

    name: str
    version: str
    created_ms: int
    source: str
    run_id: str
    model_id: str
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Training:
    """What is known of how a model came to be."""

    run_id: str = ""
    experiment: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LoggedModel:
    """A model that was logged, registered or not."""

    model_id: str
    name: str
    location: str
    training: Training


class Mlflow:
    """A connection. Blocking; each call may raise MlflowUnavailable."""

    def __init__(self, client: Any, tracking_uri: str, registry_uri: str) -> None:  # noqa: ANN401 - without types
        self._client = client
        self._tracking_uri = tracking_uri
        self._registry_uri = registry_uri

    @classmethod
    def connect(cls, tracking_uri: str, registry_uri: str = "") -> Self:
        """Get ready to ask; a server is not asked yet, a database is opened.

        Raises:
            ExtraMissing: mlflow is not installed.
            InvalidArgument: no URI was given, or one that mlflow does not know.
            NotFound: the file of an SQLite database is not there; mlflow would make it.
        """
        if not tracking_uri:
            raise InvalidArgument(
                "nobody said which MLflow: mlflow.tracking_uri is empty",
                hint="set it, or MLFLOW_TRACKING_URI: http://HOST:5000, or sqlite:///PATH/mlflow.db",
            )
        registry_uri = registry_uri or tracking_uri
        for uri in (tracking_uri, registry_uri):
            _require_file(uri)
        mlflow = _library()
        with _told(f"MLflow at {shown(tracking_uri)}"):
            # parts of mlflow ask for the global URI, whatever their caller was given
            mlflow.set_tracking_uri(tracking_uri)
            mlflow.set_registry_uri(registry_uri)
            return cls(mlflow.MlflowClient(tracking_uri, registry_uri), tracking_uri, registry_uri)

    @property
    def url(self) -> str:
        """Where its registry is, without a password."""
        return shown(self._registry_uri)

    # --- looking ---------------------------------------------------------------------------------------

    def aliases(self, name: str) -> dict[str, str]:
        """Alias -> version of a registered model; MLflow's call for one alias cannot tell absent from wrong."""
        with _told(f"model {name!r} in MLflow"):
            found = self._client.get_registered_model(name).aliases
        return {str(alias): str(version) for alias, version in found.items()}

    def version(self, name: str, version: str) -> RegisteredVersion:
        """A version of a registered model."""
        with _told(f"version {version} of model {name!r} in MLflow"):
            found = self._client.get_model_version(name, version)
        source = str(found.source or "")
        linked = source.removeprefix("models:/") if source.startswith("models:/m-") else ""
        return RegisteredVersion(
            name,
            version,
            int(found.creation_timestamp),
            source,
            found.run_id or "",
            found.model_id or linked,  # embedded stores leave model_id out
            dict(found.tags),
        )

    def location(self, name: str, version: str) -> str:
        """Where the files of a version lie."""
        with _told(f"version {version} of model {name!r} in MLflow"):
            return str(self._client.get_model_version_download_uri(name, version))

    def logged_model(self, model_id: str) -> LoggedModel:
        """A logged model."""
        with _told(f"logged model {model_id} in MLflow"):
            found = self._client.get_logged_model(model_id)
            metrics = {metric.key: float(metric.value) for metric in found.metrics or ()}
            training = Training(found.source_run_id or "", found.experiment_id, metrics, dict(found.params or {}))
            return LoggedModel(model_id, found.name or "", found.artifact_location, training)

    def training(self, run_id: str) -> Training:
        """What a run recorded."""
        with _told(f"run {run_id} in MLflow"):
            run = self._client.get_run(run_id)
            experiment = self._client.get_experiment(run.info.experiment_id).name
            return Training(run_id, experiment, dict(run.data.metrics), dict(run.data.params))

    def run_artifact(self, run_id: str, path: str) -> str:
        """Where an artifact of a run lies; a model that it logged goes by its name, and lies elsewhere."""
        name, _, rest = path.strip("/").partition("/")
        with _told(f"run {run_id} in MLflow"):
            run = self._client.get_run(run_id)
            outputs = run.outputs.model_outputs if run.outputs else []
            for output in outputs:
                model = self._client.get_logged_model(output.model_id)
                if model.name == name:
                    return _below(model.artifact_location, rest)
            return _below(run.info.artifact_uri, path.strip("/"))

    # --- fetching --------------------------------------------------------------------------------------

    def fetch(self, location: str, into: Path, limits: Limits) -> Path:
        """The files at `location` on this machine: where they are, or copied into the empty directory `into`.

        What lies here already is not copied: an import copies what it looks at, and follows no link out of it.

        Raises:
            OversizedArtifact: there are more or larger files than an import takes.
        """
        local = local_path(location)
        if local is not None:
            return local
        with _told(f"artifacts at {shown(location)}"):
            from mlflow.artifacts import download_artifacts  # noqa: PLC0415 - as `_library`
            from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository  # noqa: PLC0415

            uris = {"tracking_uri": self._tracking_uri, "registry_uri": self._registry_uri}
            _check_size(get_artifact_repository(location, **uris), location, limits)
            return Path(download_artifacts(artifact_uri=location, dst_path=str(into), **uris))

    # --- writing ---------------------------------------------------------------------------------------

    def point(self, name: str, alias: str, version: str | None) -> None:
        """Set an alias, or delete it. MLflow has no compare-and-swap: look first."""
        with _told(f"alias {alias!r} of model {name!r} in MLflow"):
            if version is None:
                self._client.delete_registered_model_alias(name, alias)
            else:
                self._client.set_registered_model_alias(name, alias, version)

    def tag(self, name: str, version: str, key: str, value: str | None) -> None:
        """Set a tag of a version, or take it away."""
        with _told(f"tag {key!r} of version {version} of model {name!r} in MLflow"):
            if value is None:
                self._client.delete_model_version_tag(name, version, key)
            else:
                self._client.set_model_version_tag(name, version, key, value)

    def experiment(self, name: str) -> str:
        """The id of an experiment, which is made if there is none."""
        with _told(f"experiment {name!r} in MLflow"):
            found = self._client.get_experiment_by_name(name)
            return str(self._client.create_experiment(name) if found is None else found.experiment_id)

    def run_of(self, experiment: str, name: str, tags: Mapping[str, str]) -> str:
        """The id of the run with these tags, which is made if there is none."""
        wanted = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
        with _told(f"runs of experiment {experiment} in MLflow"):
            found = self._client.search_runs([experiment], filter_string=wanted, max_results=1)
            run = found[0] if found else self._client.create_run(experiment, run_name=name, tags=dict(tags))
            return str(run.info.run_id)

    def log(self, run: str, metrics: Mapping[str, float], at_ms: int, step: int) -> None:
        """Add to the metrics of a run, all at once."""
        with _told(f"run {run} in MLflow"):
            from mlflow.entities import Metric  # noqa: PLC0415 - as `_library`

            values = [Metric(key, value, at_ms, step) for key, value in metrics.items()]
            self._client.log_batch(run, metrics=values)


# --- addresses -----------------------------------------------------------------------------------------


def shown(uri: str) -> str:
    """A URI without a password."""
    parts = urlsplit(uri)
    if parts.password is None:
        return uri
    return parts._replace(netloc=f"{parts.username}:***@{parts.netloc.rpartition('@')[2]}").geturl()


def local_path(location: str) -> Path | None:
    """The path that a location on this machine names."""
    parts = urlsplit(location)
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return Path(unquote(parts.path))
    return Path(location) if not parts.scheme else None


def _below(location: str, path: str) -> str:
    return f"{location.rstrip('/')}/{path}" if path else location


def _require_file(uri: str) -> None:
    path = Path(uri.removeprefix("sqlite:///"))
    if uri.startswith("sqlite:///") and not path.exists():
        raise NotFound(
            f"there is no MLflow database {path}",
            hint="check mlflow.tracking_uri and mlflow.registry_uri",
            path=str(path),
        )


def _check_size(repository: Any, location: str, limits: Limits) -> None:  # noqa: ANN401 - without types
    """Before anything is copied: a disk that is full hurts others."""
    files, size, folders = 0, 0, [""]
    while folders:
        for entry in repository.list_artifacts(folders.pop() or None):
            if entry.is_dir:
                folders.append(entry.path)
            files, size = files + 1, size + (entry.file_size or 0)
        if files > limits.max_files or size > limits.max_bytes:
            rule = "max_files" if files > limits.max_files else "max_bytes"
            raise OversizedArtifact(
                f"{shown(location)}: more than {rule} ({getattr(limits, rule)})",
                hint="import one model's files",
                file=shown(location),
                rule=rule,
            )


# --- the library ---------------------------------------------------------------------------------------


def _library() -> Any:  # noqa: ANN401 - imported on demand, without types
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        with warnings.catch_warnings(action="ignore"):
            import mlflow  # noqa: PLC0415 - the extra is optional, and slow to import
    except ImportError as problem:
        raise ExtraMissing(
            f"MLflow's client is not there: {problem}", hint="pip install taxiway[mlflow]", extra="mlflow"
        ) from problem
    return mlflow


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Errors of mlflow, and of whatever it stands on, as ours. Its warnings are its developers' business."""
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    except TaxiwayError:
        raise
    except Exception as problem:
        raise _as_ours(problem, what) from problem


def _as_ours(problem: Exception, what: str) -> TaxiwayError:
    said = " ".join(str(problem).split())[:_MAX_SAID] or type(problem).__name__
    code = str(getattr(problem, "error_code", ""))
    if code in _ABSENT:
        return NotFound(f"{what}: {said}", hint="see in MLflow what is there")
    if code in _FORBIDDEN:
        return PermissionDenied(
            f"{what}: {said}", hint="MLflow reads MLFLOW_TRACKING_TOKEN, or _USERNAME and _PASSWORD"
        )
    if code in _WRONG:
        return InvalidArgument(f"{what}: {said}")
    return MlflowUnavailable(
        f"{what}: {said}", hint="check mlflow.tracking_uri (`taxiway config explain mlflow`), and that MLflow runs"
    )
